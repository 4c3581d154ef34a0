"""`chaosd calibrate`: how wrong is the meter itself?"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "measure known outages and say how wrong the meter is"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rates", default="200,500,1000", metavar="LIST", help="probes per second, one after other"
    )
    parser.add_argument(
        "--outages", default="50ms..5s", metavar="A..B", help="how long they are, log-uniformly"
    )
    parser.add_argument("--n", type=int, default=20, metavar="N", help="outages at each rate")
    parser.add_argument("--seed", type=int, help="repeat the outages of an earlier calibration")
    parser.add_argument("--directory", type=Path, default=Path("runs"), help="where its runs go")
    parser.add_argument(
        "--target", metavar="URL", help="somebody else's backend instead of the built-in one"
    )
    parser.add_argument(
        "--command",
        dest="program",
        default="",
        metavar="'PROGRAM ARGUMENT…'",
        help="has that target go away once, and prints `away NS` and `back NS` (CLOCK_MONOTONIC)",
    )


def run(arguments: argparse.Namespace) -> int:
    from chaosd import calibration

    return calibration.calibrate(
        calibration.wanted(
            rates=arguments.rates,
            lengths=arguments.outages,
            count=arguments.n,
            seed=arguments.seed,
            directory=arguments.directory,
            target=arguments.target,
            command=arguments.program,
        )
    )
