"""Starts 60 and 120 cells at once: what is measured must be right, or poor, or not started.

python tests/attack/crowds.py [--size 2] [--minutes 15]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import tally
from starving import running
from tally import Budget, Tally

CELLS = (60, 120)
FOR_S = 40
WAIT_S = 300
MINUTES = 10.0


def attack(n: int, seed: int, budget: Budget) -> Tally:
    """So many crowds, of the sizes in turn."""
    found = Tally("crowds")
    with tempfile.TemporaryDirectory(prefix="chaosd-crowds-") as scratch:
        for number in range(n):
            if not budget.is_left(found):
                break
            cells = CELLS[number % len(CELLS)]
            keys = {
                "cells": cells,
                "seed": seed + number,
                "until": {"time": f"{FOR_S}s"},
                "faults": [{"type": "recreate", "every": "6s", "jitter": "1s"}],
            }
            with running(Path(scratch) / str(number), cycles=10_000, **keys) as run:
                try:
                    cycles = run.wait(WAIT_S)
                except subprocess.TimeoutExpired:
                    found.late.append(f"{cells} cells: it goes on after {WAIT_S} s")
                    continue
                found.tries += 1
                found.judge(cycles)
                # No cell may be carried by a machine that is short of everything: that is said.
                found.ended(run.process.returncode, run.said, f"{cells} cells", fine=(0, 3, 4))
                found.left += [f"process {entry.name}" for entry in run.processes()]
                carried = [line for line in run.said.splitlines() if "carries" in line]
                poor = sum(cycle.doubt is not None for cycle in cycles)
                said = "; ".join(carried) or "all were started"
                found.notes.append(f"{cells} cells: {len(cycles)} cycles, {poor} poor; {said}")
    return found


if __name__ == "__main__":
    sys.exit(tally.command(attack, len(CELLS), MINUTES))
