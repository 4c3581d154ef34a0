"""`chaosd plugins`: what is installed."""

from __future__ import annotations

import argparse

from chaosd.cli.output import say
from chaosd.errors import Exit

HELP = "list the runtimes, proxies, faults, probes and rules that are installed"


def add_options(_: argparse.ArgumentParser) -> None:
    """Take none."""


def run(_: argparse.Namespace) -> int:
    from chaosd import plugins

    rows = [
        (kind, name, point.dist.name if point.dist else "?", point.value)
        for kind in plugins.KINDS
        for name, point in plugins.available(kind).items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())
    return Exit.OK
