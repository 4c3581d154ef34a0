"""Lets the Docker engine hang (it takes connections, and answers nothing) at every step of a run.

    python tests/attack/hung.py [--size 12] [--seed 1] [--minutes 15]

It must end with exit 3 and one line, soon, with and without SIGTERM, whatever the number of cells.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import tally
from hanging import HangingEngine
from kills import on_engine
from stand import Daemon, why_not
from tally import Budget, Tally

from chaosd.errors import Exit

MINUTES = 15.0
WAIT_S = 4  # runtime.engine_wait
LIMIT_S = WAIT_S + 45  # and until it is found out, and reported, on a busy machine
REACHED_S = 120
NETWORK, CREATE = r"POST \S*/networks/create", r"POST \S*/containers/create"
START, KILL = r"POST \S*/containers/\w+/start", r"POST \S*/containers/\w+/kill"
REMOVE, INSPECT = r"DELETE \S*/containers/\w+", r"GET \S*/containers/\w+/json"
CONNECT, LIST = r"POST \S*/networks/\w+/connect", r"GET \S*/containers/json"
ARCHIVE, EVENTS = r"PUT \S*/containers/\w+/archive", r"GET \S*/events"
LOGS, DISCONNECT = r"GET \S*/containers/\w+/logs", r"POST \S*/networks/\w+/disconnect"
# Which of its requests of this kind it is, at most: some come once in a run.
STEPS = {
    EVENTS: 1,
    LOGS: 2,
    ARCHIVE: 1,
    LIST: 1,
    NETWORK: 1,
    INSPECT: 6,
    CREATE: 4,
    START: 4,
    KILL: 2,
    REMOVE: 2,
    CONNECT: 1,
    DISCONNECT: 1,
}
CELLS = (1, 2, 6)


def attack(n: int, seed: int, budget: Budget) -> Tally:
    """So many runs, each with a step at which the engine hangs."""
    found, rng = Tally("hung"), Random(seed)
    if (reason := why_not()) is not None:
        found.notes.append(f"no engine: {reason}")
        return found
    with tempfile.TemporaryDirectory(prefix="chaosd-hung-") as scratch:
        for number in range(n):
            if not budget.is_left(found):
                break
            step = list(STEPS)[number % len(STEPS)]
            times = rng.randint(1, STEPS[step])
            where = Path(scratch) / str(number)
            where.mkdir()
            _hang(found, where, [step] * times, rng.choice(CELLS), stop=rng.random() < 0.5)
        runs = {path.name.rpartition("-")[2] for path in Path(scratch).glob("*/runs/*-*")}
    found.left += on_engine(runs)
    return found


def _hang(found: Tally, where: Path, steps: list[str], cells: int, *, stop: bool) -> None:
    what = f"{steps[0]} for the {len(steps)}. time, {cells} cells{', SIGTERM' if stop else ''}"
    proxied = HangingEngine(where)
    runtime = {"type": "docker", "engine_wait": f"{WAIT_S}s"}
    env = {"DOCKER_HOST": proxied.url}
    run = Daemon(where, "--cycles", "3", env=env, runtime=runtime, cells=cells)
    try:
        proxied.hang_when(*steps)
        end_s = time.monotonic() + REACHED_S
        while not proxied.hangs.wait(0.2) and run.process.poll() is None:
            if time.monotonic() > end_s:
                break
        if not proxied.hangs.is_set():
            found.notes.append(f"not reached: {what}")
            run.process.terminate()
            run.process.communicate(timeout=REACHED_S)
            return
        found.tries += 1
        began_s = time.monotonic()
        if stop:
            time.sleep(1.0)
            run.process.send_signal(signal.SIGTERM)
        try:
            _, err = run.process.communicate(timeout=2 * LIMIT_S)
        except subprocess.TimeoutExpired:
            found.late.append(f"{what}: it goes on after {2 * LIMIT_S} s")
            return
        took_s = time.monotonic() - began_s
        code = run.process.returncode
        # Before the run has begun, as while the config is tried, the signal itself ends it.
        stopped = (128 + signal.SIGTERM,) if stop else ()
        found.ended(code, err, what, fine=(Exit.SETUP, *stopped))
        if took_s > LIMIT_S:
            found.late.append(f"{what}: took {took_s:.0f} s")
        if code == Exit.SETUP and (err.count("\n") != 1 or "`chaosd clean`" not in err):
            found.wrong.append(f"{what}: said {err!r}")
    finally:
        proxied.close()
        if run.process.poll() is None:
            run.process.kill()
            run.process.communicate()
        subprocess.run([sys.executable, "-m", "chaosd", "clean"], check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(tally.command(attack, len(STEPS), MINUTES))
