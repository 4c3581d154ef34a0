"""`chaosd version`."""

from __future__ import annotations

import argparse

from chaosd.cli.output import say
from chaosd.errors import Exit

HELP = "print the version"


def add_options(_: argparse.ArgumentParser) -> None:
    """Take none."""


def run(_: argparse.Namespace) -> int:
    from chaosd import __version__

    say(f"chaosd {__version__}")
    return Exit.OK
