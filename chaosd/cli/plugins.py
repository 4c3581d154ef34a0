"""`chaosd plugins`: what is installed."""

from __future__ import annotations

import argparse

from chaosd.cli.output import say
from chaosd.errors import Exit

HELP = "list the runtimes, proxies, faults and probes that are installed"


def add_options(_: argparse.ArgumentParser) -> None:
    """Take none."""


def run(_: argparse.Namespace) -> int:
    from chaosd import plugins

    for kind in plugins.KINDS:
        for name, point in plugins.available(kind).items():
            package = point.dist.name if point.dist else "?"
            say(f"{kind:9} {name:12} {package:12} {point.value}")
    return Exit.OK
