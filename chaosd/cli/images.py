"""`chaosd images`: make, list or remove the images that `runtime: docker` needs."""

from __future__ import annotations

import argparse

from chaosd.errors import ConfigError, Exit
from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.endpoint import PING_LIMIT_S, from_environment


def main(arguments: argparse.Namespace) -> int:
    def say(line: str) -> None:
        print(line, flush=True)

    endpoint = from_environment()
    if arguments.engine:
        endpoint.client(PING_LIMIT_S)
        return Exit.OK
    if arguments.remove:
        images.remove(endpoint, say)
        return Exit.OK
    versions = arguments.haproxy or [images.DEFAULT_HAPROXY]
    if arguments.all:
        versions = list(images.HAPROXY_VERSIONS)
    if unknown := [v for v in versions if v not in images.HAPROXY_VERSIONS]:
        known = ", ".join(images.HAPROXY_VERSIONS)
        raise ConfigError(f"images: unknown HAProxy version {unknown[0]} (known: {known})")
    images.build(endpoint, versions, source=arguments.source, mirror=arguments.mirror, say=say)
    for line in images.describe(endpoint, versions):
        say(line)
    return Exit.OK
