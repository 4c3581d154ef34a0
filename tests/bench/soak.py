"""Ten minutes at 1,000 probes a second: memory of the daemon and of its prober, bytes on disk.

    python tests/bench/soak.py [MINUTES]

The first samples are archived in minute 2 or 3, which loads pyarrow (40 MB): growth counts from
minute 5 on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """\
name: soak
runtime: local
metrics: {listen: "127.0.0.1:0"}
faults: [{type: recreate, every: 5s}]
probes: [{type: http, rate: 1000/s}]
"""
GROWTH_MB_MAX = 10.0
SETTLED = 5  # the minute from which on memory is to be flat
START_S = 60.0


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def prober_of(pid: int) -> int:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        if (found := _prober_of(pid)) is not None:
            return found
        time.sleep(1)
    raise RuntimeError("no prober")


def _prober_of(pid: int) -> int | None:
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if entry.name.isdigit() and int(status[1]) == pid:
                if b"probes.worker" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
        except OSError:
            continue
    return None


def main() -> int:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory(prefix="chaosd-soak-") as where:
        (Path(where) / "c.yaml").write_text(CONFIG)
        daemon = subprocess.Popen(
            [sys.executable, "-m", "chaosd", "run", "c.yaml", "--for", f"{minutes}m"],
            cwd=where, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        prober, history = prober_of(daemon.pid), []
        time.sleep(10)
        began = time.monotonic()
        for minute in range(minutes):
            history.append((rss_mb(daemon.pid), rss_mb(prober)))
            print(
                f"minute {minute}: daemon {history[-1][0]:.1f} MB, prober {history[-1][1]:.1f} MB",
                flush=True,
            )
            if minute < minutes - 1:
                time.sleep(max(0.0, began + (minute + 1) * 60 - 15 - time.monotonic()))
        out, _ = daemon.communicate(timeout=180)
        print("\n".join(out.splitlines()[-8:]))
        run = Path(where) / "runs/latest"
        samples = sum(
            p["sent"] + p["dropped"]
            for p in json.loads((run / "report.json").read_text())["probes"]
        )
        size = sum(file.stat().st_size for file in run.glob("samples.*"))
        print(f"samples on disk: {samples:,} in {size:,} bytes, {size / samples:.2f} bytes each")
    early = min(SETTLED, minutes - 1)
    grown = [late - first for late, first in zip(history[-1], history[early], strict=True)]
    print(f"grown since minute {early}: daemon {grown[0]:+.1f} MB, prober {grown[1]:+.1f} MB")
    return 1 if max(grown) > GROWTH_MB_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
