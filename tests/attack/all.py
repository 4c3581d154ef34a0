"""Attacks chaosd in every way that was tried once, and counts what must not be.

    python tests/attack/all.py [PART ...] [--n N] [--seed 1] [--minutes 10]

Wrong truths, exit 70 and what is left behind must be 0; of right cycles under plain busy loops at
most 2 % may be called poor. Each part can be run alone (`python tests/attack/PART.py --n N`). Parts
that stop or starve processes want the machine for themselves: what others compute beside them
makes cycles poor, and rightly so.
"""

from __future__ import annotations

import argparse
import sys

import crowds
import damaged
import hung
import kills
import loops
import stops
import tracking
from tally import Attack, Budget, Tally

PARTS: dict[str, tuple[Attack, int]] = {
    "stops": (stops.attack, 40),
    "crowds": (crowds.attack, 2),
    "loops": (loops.attack, 20),
    "tracking": (tracking.attack, 2),
    "hung": (hung.attack, len(hung.STEPS)),
    "damaged": (damaged.attack, damaged.CASES),
    "kills": (kills.attack, 200),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--n", type=int, help="tries of each part (its own number)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each part, at most")
    arguments = parser.parse_args()
    found: list[Tally] = []
    for name in arguments.parts or PARTS:
        attack, n = PARTS[name]
        budget = Budget(arguments.minutes)
        found.append(attack(arguments.n or n, arguments.seed, budget))
        print("\n".join(found[-1].lines()), flush=True)
    ok = all(tally.ok for tally in found)
    counts = [sum(len(getattr(t, name)) for t in found) for name in ("wrong", "bugs", "left")]
    print(f"wrong truths: {counts[0]}; exit 70: {counts[1]}; left behind: {counts[2]}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
