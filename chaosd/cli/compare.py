"""`chaosd compare`: is RUN_B better or worse than RUN_A?"""

from __future__ import annotations

import argparse
from pathlib import Path

from chaosd.cli.output import say
from chaosd.errors import ConfigError

HELP = "say whether RUN_B got better or worse than RUN_A"


def add_options(parser: argparse.ArgumentParser) -> None:
    what = "a run directory, a report.json or a cycles.jsonl"
    parser.add_argument("a", type=Path, metavar="RUN_A", help=f"the baseline: {what}")
    parser.add_argument("b", type=Path, metavar="RUN_B", help="the run to compare with it")
    parser.add_argument(
        "--margin",
        default="20%",
        metavar="SHARE",
        help="p95 is the same if it is known to differ by no more than this",
    )
    parser.add_argument(
        "--tolerance",
        default="5%",
        metavar="SHARE",
        help="a number is the same if it is known to differ by less than this",
    )
    parser.add_argument(
        "--arm", metavar="NAME", help="only this arm; A:B for arm A of RUN_A and arm B of RUN_B"
    )
    parser.add_argument("--fault", metavar="LABEL", help="only the failovers of this fault")
    parser.add_argument("--cell", metavar="NAME", help="only the failovers of this cell")
    parser.add_argument("--json", action="store_true", help="print it as JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    from chaosd.analysis.compare import compare
    from chaosd.report import compare as report

    which = {"fault": arguments.fault, "cell": arguments.cell}
    arm_a, _, arm_b = (arguments.arm or "").partition(":")
    found = compare(
        report.load(arguments.a, arm=arm_a or None, **which),
        report.load(arguments.b, arm=arm_b or arm_a or None, **which),
        margin=_share(arguments.margin, "--margin"),
        tolerance=_share(arguments.tolerance, "--tolerance"),
    )
    say(*([report.render(found)] if arguments.json else report.lines(found)))
    return report.EXITS[found.answer]


def _share(text: str, option: str) -> float:
    from chaosd.units import Percent

    try:
        return Percent.parse(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error
