"""Kill the daemon at random moments, again and again: nothing may be left, everything readable.

python tests/bench/kills.py [KILLS] [SEED] [local|docker]
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    runtime = sys.argv[3] if len(sys.argv) > 3 else "local"
    bad, runs, left_by_kill = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="chaosd-kills-") as where:
        (Path(where) / "c.yaml").write_text(CONFIG.format(runtime=runtime, every=EVERY[runtime]))
        command = [sys.executable, "-m", "chaosd", "run", "c.yaml"]
        for number in range(1, kills + 1):
            daemon = subprocess.Popen(command, cwd=where, stdout=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.05, LIFE_S_MAX[runtime]))
            daemon.kill()
            daemon.wait()
            left_by_kill += len(labelled(Path(where)))
            if number % 10 == 0:
                print(
                    f"{number} of {kills} kills, {left_by_kill} processes left behind", flush=True
                )
        # The next start is what cleans up.
        subprocess.run(
            [*command, "--cycles", "1"], cwd=where, stdout=subprocess.DEVNULL, check=True
        )
        for left in [*labelled(Path(where)), *(on_engine() if runtime == "docker" else [])]:
            bad.append(f"left behind: {left}")
        for directory in sorted(Path(where).glob("runs/kills-*")):
            runs += 1
            read = subprocess.run(
                [sys.executable, "-m", "chaosd", "report", directory],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            empty = not (directory / "run.json").exists()
            if read.returncode not in ((0, 4) if not empty else (3,)) or "Traceback" in read.stderr:
                bad.append(f"{directory.name}: exit {read.returncode}: {read.stderr.strip()}")
            elif not empty:
                list(RunReader(directory).events())
    print("\n".join(bad))
    print(f"{kills} kills, {runs} run directories, {len(bad)} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
