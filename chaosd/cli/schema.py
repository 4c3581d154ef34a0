"""`chaosd schema`: the config's JSON Schema."""

from __future__ import annotations

import argparse
import json

from chaosd.cli.output import say
from chaosd.errors import Exit

HELP = "print the config's JSON Schema, for editors"


def add_options(_: argparse.ArgumentParser) -> None:
    """Take none."""


def run(_: argparse.Namespace) -> int:
    from chaosd.config import shape

    say(json.dumps(shape.schema(), indent=2))
    return Exit.OK
