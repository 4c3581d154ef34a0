"""Lets 8 and 64 plain loops compute beside a run: its cycles are right, and must stay good.

    python tests/attack/loops.py [--size 80] [--minutes 15]

On a machine on which others compute, too, more cycles are poor, and rightly so.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import tally
from starving import BEGIN, NeverError, busy, running
from tally import Budget, Tally

LOOPS = (8, 64)
CELLS = 4
WAIT_S = 420
CYCLES, MINUTES = 80, 10.0  # beside each number of loops, of all cells


def attack(n: int, seed: int, budget: Budget) -> Tally:
    """So many cycles beside each number of loops."""
    found = Tally("loops", judges_poor=True)
    with tempfile.TemporaryDirectory(prefix="chaosd-loops-") as scratch:
        for loops in LOOPS:
            if not budget.is_left(found):
                found.notes.append(f"{loops} loops: no time was left")
                continue
            where = Path(scratch) / str(loops)
            with running(where, cycles=-(-n // CELLS), cells=CELLS, seed=seed) as run:
                try:
                    run.wait_for(BEGIN)
                    with busy(loops):
                        cycles = run.wait(WAIT_S)
                except (NeverError, subprocess.TimeoutExpired) as error:
                    found.late.append(f"{loops} loops: {str(error)[-tally.SAID_MAX :]}")
                    continue
                right, poor = found.right, found.poor
                found.tries += len(cycles)
                found.judge(cycles)
                found.ended(run.process.returncode, run.said, f"{loops} loops")
                found.left += [f"process {entry.name}" for entry in run.processes()]
                doubts = [f"{c.doubt.lag} {c.doubt.seconds} s" for c in cycles if c.doubt]
                found.notes.append(
                    f"{loops} loops: {found.poor - poor} of {found.right - right} right cycles "
                    f"poor {doubts}"
                )
    return found


if __name__ == "__main__":
    sys.exit(tally.command(attack, CYCLES, MINUTES))
