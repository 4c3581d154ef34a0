"""`chaosd run`: the daemon."""

from __future__ import annotations

import argparse

from chaosd.cli import loading

HELP = "run the daemon until it is stopped or has done enough"


def add_options(parser: argparse.ArgumentParser) -> None:
    loading.add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from chaosd import plan
    from chaosd.engine import session

    planned = plan.build(*loading.load(arguments))
    return session.run(planned, plan.rehearse(planned), arguments.config)
