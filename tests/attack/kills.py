"""Kills the daemon at random moments, again and again: nothing may be left, everything readable.

    python tests/attack/kills.py [--n 200] [--seed 1] [--minutes 30]

With CHAOSD_ATTACK_RUNTIME=docker it is done to runs on an engine.

What is left behind at once the next start removes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import tally
from tally import Budget, Tally

from chaosd.errors import ChaosdError
from chaosd.history.reader import RunReader

CONFIG = """\
name: kills
runtime: {runtime}
metrics: null
proxy: {{type: haproxy, resolvers: {{timeout_resolve: 200ms, timeout_retry: 200ms}}}}
faults: [{{type: recreate, every: {every}, jitter: 100ms}}]
measure: {{stable_for: 100ms}}
"""
LIFE_S_MAX = {"local": 3.0, "docker": 8.0}
EVERY = {"local": "700ms", "docker": "2s"}
LABEL = "chaosd.run"


def labelled(where: Path) -> list[str]:
    """The processes that chaosd has started from this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").resolve() == where:
                if b"CHAOSD_RUN=" in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def on_engine() -> list[str]:
    """The names of what the engine has of any run."""
    from chaosd.runtimes.docker.endpoint import from_environment

    with from_environment().client() as api:
        containers = api.containers(all=True, filters={"label": LABEL})
        networks = api.networks(filters={"label": LABEL})
    return [c["Names"][0] for c in containers] + [n["Name"] for n in networks]


def attack(n: int, seed: int, budget: Budget) -> Tally:
    """So many kills."""
    runtime = os.environ.get("CHAOSD_ATTACK_RUNTIME", "local")
    found, rng, left_by_kill = Tally(f"kills ({runtime})"), Random(seed), 0
    with tempfile.TemporaryDirectory(prefix="chaosd-kills-") as scratch:
        where = Path(scratch)
        (where / "c.yaml").write_text(CONFIG.format(runtime=runtime, every=EVERY[runtime]))
        command = [sys.executable, "-m", "chaosd", "run", "c.yaml"]
        while found.tries < n and budget.is_left:
            daemon = subprocess.Popen(command, cwd=where, stdout=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.05, LIFE_S_MAX[runtime]))
            daemon.kill()
            daemon.wait()
            found.tries += 1
            left_by_kill += len(labelled(where))
        last = [*command, "--cycles", "1"]
        done = subprocess.run(last, cwd=where, capture_output=True, text=True, check=False)
        found.ended(done.returncode, done.stdout + done.stderr, "the start that cleans up")
        found.left += [*labelled(where), *(on_engine() if runtime == "docker" else [])]
        for directory in sorted(where.glob("runs/kills-*")):
            _read(found, directory)
    found.notes.append(f"{left_by_kill} processes were left at once, and removed by later starts")
    return found


def _read(found: Tally, directory: Path) -> None:
    """What a killed run has stored must be readable."""
    command = [sys.executable, "-m", "chaosd", "report", str(directory)]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    is_empty = not (directory / "run.json").exists()
    fine = (3,) if is_empty else (0, 4)
    found.ended(read.returncode, read.stderr, f"report {directory.name}", fine)
    if not is_empty:
        try:
            list(RunReader(directory).events())
        except ChaosdError as error:
            found.late.append(f"{directory.name}: {error}")


if __name__ == "__main__":
    sys.exit(tally.command(attack, 200))
