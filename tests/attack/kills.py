"""Kills the daemon at random moments, again and again: nothing may be left, everything readable.

    python tests/attack/kills.py [--docker] [--size 200] [--seed 1] [--minutes 30]

The moments are spread over the time that a whole run of two cycles takes here. What is left behind
at once the next start removes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import tally
from stand import why_not
from tally import Budget, Tally

from chaosd.errors import ChaosdError
from chaosd.history.reader import RunReader
from chaosd.runtimes.docker.endpoint import from_environment

KILLS, MINUTES = {"local": 200, "docker": 40}, 15.0
LIMIT_S = 120.0  # of a command that is not killed
CONFIG = """\
name: kills
runtime: {runtime}
metrics: null
proxy: {{type: haproxy, resolvers: {{timeout_resolve: 200ms, timeout_retry: 200ms}}}}
faults: [{{type: recreate, every: {every}, jitter: 100ms}}]
measure: {{stable_for: 100ms}}
"""
EVERY = {"local": "700ms", "docker": "2s"}
LABEL = "chaosd.run"
CHAOSD = [sys.executable, "-m", "chaosd"]


def on_local(n: int, seed: int, budget: Budget) -> Tally:
    """So many kills of runs that are processes."""
    return _attack("local", n, seed, budget)


def on_docker(n: int, seed: int, budget: Budget) -> Tally:
    """So many kills of runs on an engine."""
    return _attack("docker", n, seed, budget)


def _attack(runtime: str, n: int, seed: int, budget: Budget) -> Tally:
    found, rng = Tally("kills" if runtime == "local" else f"kills-{runtime}"), Random(seed)
    if runtime == "docker" and (reason := why_not()) is not None:
        found.notes.append(f"no engine: {reason}")
        return found
    left_by_kill = 0
    with tempfile.TemporaryDirectory(prefix="chaosd-kills-") as scratch:
        where = Path(scratch)
        (where / "c.yaml").write_text(CONFIG.format(runtime=runtime, every=EVERY[runtime]))
        command = [*CHAOSD, "run", "c.yaml", "--cycles", "2"]
        whole_s = _whole(found, command, where)
        while found.tries < n and budget.is_left(found):
            daemon = subprocess.Popen(command, cwd=where, stdout=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.05, whole_s))
            daemon.kill()
            daemon.wait()
            found.tries += 1
            left_by_kill += len(labelled(where))
        _whole(found, command, where)
        found.left += labelled(where)
        directories = sorted(where.glob("runs/kills-*"))
        if runtime == "docker":
            found.left += on_engine({path.name.rpartition("-")[2] for path in directories})
        for directory in directories:
            _read(found, directory)
    found.notes.append(
        f"killed within {whole_s:.1f} s; {len(directories)} run directories are readable; "
        f"{left_by_kill} processes were left at once, and removed by later starts"
    )
    return found


def _whole(found: Tally, command: list[str], where: Path) -> float:
    """A run that nobody kills, which removes what others have left; how long it took."""
    began_s = time.monotonic()
    done = subprocess.run(
        command, cwd=where, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    found.ended(done.returncode, done.stdout + done.stderr, "a run that is not killed")
    return time.monotonic() - began_s


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


def on_engine(runs: set[str]) -> list[str]:
    """The names of what the engine has of these runs."""
    filters = {"label": LABEL}
    with from_environment().client() as api:
        containers = api.containers(all=True, filters=filters)
        networks = api.networks(filters=filters)
    mine = [each for each in (*containers, *networks) if each["Labels"][LABEL] in runs]
    return [each["Name"] if "Name" in each else each["Names"][0] for each in mine]


def _read(found: Tally, directory: Path) -> None:
    """What a killed run has stored must be readable."""
    command = [*CHAOSD, "report", str(directory)]
    read = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    is_empty = not (directory / "run.json").exists()
    fine = (3,) if is_empty else (0, 4)
    found.ended(read.returncode, read.stderr, f"report {directory.name}", fine)
    if not is_empty:
        try:
            list(RunReader(directory).events())
        except ChaosdError as error:
            found.late.append(f"{directory.name}: {error}")


if __name__ == "__main__":
    where = "docker" if "--docker" in sys.argv else "local"
    parser = tally.options(KILLS[where], MINUTES)
    parser.add_argument("--docker", action="store_true", help="runs on an engine")
    given = parser.parse_args()
    attack = on_docker if given.docker else on_local
    found = tally.tried("kills", attack, given.size, given.seed, given.minutes)
    sys.exit(tally.shown([found]))
