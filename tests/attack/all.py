"""Attacks chaosd in every way that was tried once, and counts what must not be.

    python tests/attack/all.py [PART ...] [--size N] [--seed 1] [--minutes M]

Wrong truths, exit 70 and what is left behind must be 0; of right cycles under plain busy loops at
most 2 % may be called poor. Each part has its own size and the minutes that it may take at most,
can be run alone (`python tests/attack/PART.py --size N`), and says how far it is every ten seconds.
Parts that stop or starve processes want the machine for themselves: what others compute beside them
makes cycles poor, and rightly so.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import crowds
import damaged
import hung
import kills
import loops
import stops
import tally
import tracking
from tally import Attack


class Part(NamedTuple):
    """One way to attack."""

    attack: Attack
    size: int
    minutes: float  # at most


PARTS = {
    "stops": Part(stops.attack, stops.STOPS, stops.MINUTES),
    "crowds": Part(crowds.attack, len(crowds.CELLS), crowds.MINUTES),
    "loops": Part(loops.attack, loops.CYCLES, loops.MINUTES),
    "tracking": Part(tracking.attack, tracking.RUNS, tracking.MINUTES),
    "hung": Part(hung.attack, len(hung.STEPS), hung.MINUTES),
    "damaged": Part(damaged.attack, damaged.CASES, damaged.MINUTES),
    "kills": Part(kills.on_local, kills.KILLS["local"], kills.MINUTES),
    "kills-docker": Part(kills.on_docker, kills.KILLS["docker"], kills.MINUTES),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--size", type=int, help="tries of each part (its own number)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="of each part, at most (its own)")
    arguments = parser.parse_args()
    found = []
    for name in arguments.parts or PARTS:
        part = PARTS[name]
        minutes = arguments.minutes or part.minutes
        print(f"{name}: {minutes:g} min at most", file=sys.stderr, flush=True)
        size = arguments.size or part.size
        found.append(tally.tried(name, part.attack, size, arguments.seed, minutes))
        print("\n".join(found[-1].lines()), file=sys.stderr, flush=True)
    code = tally.shown(found)
    counts = [sum(len(getattr(each, name)) for each in found) for name in ("wrong", "bugs", "left")]
    print(f"wrong truths: {counts[0]}; exit 70: {counts[1]}; left behind: {counts[2]}")
    return code


if __name__ == "__main__":
    sys.exit(main())
