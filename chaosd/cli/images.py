"""`chaosd images`: make, list or remove the images that `runtime: docker` needs."""

from __future__ import annotations

import argparse

from chaosd.errors import ConfigError, Exit
from chaosd.runtimes.docker import engine, images


def main(arguments: argparse.Namespace) -> int:
    def say(line: str) -> None:
        print(line, flush=True)

    if arguments.engine:
        engine.client(engine.PING_LIMIT_S)
        return Exit.OK
    if arguments.remove:
        images.remove(say)
        return Exit.OK
    versions = arguments.haproxy or ([] if arguments.nginx else [images.DEFAULT_HAPROXY])
    if arguments.all:
        versions = list(images.HAPROXY_VERSIONS)
    if unknown := [v for v in versions if v not in images.HAPROXY_VERSIONS]:
        known = ", ".join(images.HAPROXY_VERSIONS)
        raise ConfigError(f"images: unknown HAProxy version {unknown[0]} (known: {known})")
    wanted = images.wanted(versions, nginx=arguments.nginx or arguments.all)
    images.build(wanted, source=arguments.source, mirror=arguments.mirror, say=say)
    for line in images.describe(wanted):
        say(line)
    return Exit.OK
