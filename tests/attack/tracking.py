"""Fills the connection-tracking table in a network namespace of its own, in a cycle.

python tests/attack/tracking.py [--size 2] [--minutes 6]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import tally
import yaml
from starving import CONFIG, FILL, LASTING, TRACK, can_track
from tally import Budget, Tally

from chaosd.history.codec import decode_cycle

WAIT_S = 150
RUNS, MINUTES = 2, 6.0


def attack(n: int, seed: int, budget: Budget) -> Tally:
    """So many runs of one cycle."""
    found = Tally("tracking")
    if not can_track():
        found.notes.append("no network namespace with connection tracking can be made here")
        return found
    with tempfile.TemporaryDirectory(prefix="chaosd-tracking-") as scratch:
        for number in range(n):
            if not budget.is_left(found):
                break
            (where := Path(scratch) / str(number)).mkdir()
            (where / "c.yaml").write_text(
                yaml.safe_dump(CONFIG | LASTING | {"seed": seed + number})
            )
            (where / "fill.py").write_text(FILL)
            script = f"{TRACK} && exec '{sys.executable}' fill.py"
            try:
                done = subprocess.run(
                    ["unshare", "-n", "sh", "-c", script], cwd=where, capture_output=True,
                    text=True, timeout=WAIT_S, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                found.late.append(f"run {number}: it goes on after {WAIT_S} s")
                continue
            if not (where / "full").exists():
                found.notes.append(f"run {number}: the table did not get full")
                continue
            found.tries += 1
            lines = (where / "runs/latest/cycles.jsonl").read_text().splitlines()
            cycles = [decode_cycle(line) for line in lines]
            found.judge(cycles, disturbed=dict.fromkeys((c.cycle for c in cycles), "table full"))
            found.ended(done.returncode, done.stdout + done.stderr, f"run {number}")
            found.notes += [f"cycle {c.cycle}: lost {c.world_lost}" for c in cycles]
    return found


if __name__ == "__main__":
    sys.exit(tally.command(attack, RUNS, MINUTES))
