"""Kill the daemon at random moments, again and again: nothing may be left, everything readable.

python tests/bench/kills.py [KILLS] [SEED]
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chaosd.sinks.reader import RunReader

CONFIG = """\
name: kills
runtime: local
metrics: null
proxy: {type: haproxy, resolvers: {timeout_resolve: 200ms, timeout_retry: 200ms}}
faults: [{type: recreate, every: 700ms, jitter: 100ms}]
measure: {stable_for: 100ms}
"""
LIFE_S_MAX = 3.0


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


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    bad, runs, left_by_kill = [], 0, 0
    with tempfile.TemporaryDirectory(prefix="chaosd-kills-") as where:
        (Path(where) / "c.yaml").write_text(CONFIG)
        command = [sys.executable, "-m", "chaosd", "run", "c.yaml"]
        for number in range(1, kills + 1):
            daemon = subprocess.Popen(command, cwd=where, stdout=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.05, LIFE_S_MAX))
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
        for left in labelled(Path(where)):
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
