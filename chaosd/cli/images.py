"""`chaosd images`: make, list or remove the images that `runtime: docker` needs."""

from __future__ import annotations

import argparse

from chaosd.cli.output import say
from chaosd.errors import ConfigError, Exit

HELP = "make the images that `runtime: docker` needs, by a registry or without"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "haproxy", nargs="*", metavar="VERSION", help="HAProxy 2.2, 2.6, 3.0 or 3.2 (default: 3.0)"
    )
    parser.add_argument(
        "--nginx", action="store_true", help="nginx, and no HAProxy but those named"
    )
    parser.add_argument("--all", action="store_true", help="all of these versions, and nginx")
    parser.add_argument(
        "--from",
        dest="source",
        choices=("auto", "registry", "debian"),
        default="auto",
        help="auto: a registry if one answers, Debian's packages otherwise",
    )
    parser.add_argument("--mirror", metavar="URL", help="of Debian (default: the one of apt)")
    parser.add_argument("--engine", action="store_true", help="only say whether one answers")
    parser.add_argument("--remove", action="store_true", help="remove them all instead")


def run(arguments: argparse.Namespace) -> int:
    from chaosd.runtimes.docker import images
    from chaosd.runtimes.docker.endpoint import PING_LIMIT_S, from_environment

    endpoint = from_environment()
    if arguments.engine:
        endpoint.client(PING_LIMIT_S)
        return Exit.OK
    if arguments.remove:
        images.remove(endpoint, say)
        return Exit.OK
    versions = arguments.haproxy or ([] if arguments.nginx else [images.DEFAULT_HAPROXY])
    if arguments.all:
        versions = list(images.HAPROXY_VERSIONS)
    if unknown := [v for v in versions if v not in images.HAPROXY_VERSIONS]:
        known = ", ".join(images.HAPROXY_VERSIONS)
        raise ConfigError(f"images: unknown HAProxy version {unknown[0]} (known: {known})")
    wanted = images.wanted(versions, nginx=arguments.nginx or arguments.all)
    images.build(endpoint, wanted, source=arguments.source, mirror=arguments.mirror, say=say)
    for line in images.describe(endpoint, wanted):
        say(line)
    return Exit.OK
