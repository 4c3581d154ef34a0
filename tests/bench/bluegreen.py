"""Who still sends to the old instance of a blue/green deployment: the table of docs/faults.md.

    python tests/bench/bluegreen.py [--cycles 6] [--versions 2.2 3.4] [--keep DIRECTORY]

For each installed line of HAProxy (`chaosd haproxy install --all`), each `http-reuse`, and clients
with a new connection for each request or with kept ones, one HAProxy stands before an app whose
name moves to a new instance while the old one lives on for 5 s. Told are, of all cycles: how long
HAProxy takes to the new address, the requests that the old instance answered after the switch of
the name (misrouted), and those of them that it answered after HAProxy had the new address (reused).
All settings of a version are one run, as arms in blocks under one schedule.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from chaosd.proxies.haproxy import builds

REUSE = ("never", "safe", "aggressive", "always")
CONNECTIONS = ("new", "keep-alive")
RATE, CYCLES = 50, 6
RUN_LIMIT_S = 900.0


def config(version: str, connection: str, cycles: int, runs: Path) -> dict[str, Any]:
    """One run: an arm for each `http-reuse`."""
    return {
        "name": "bluegreen",
        "runtime": "local",
        "seed": 1,
        "proxy": {"type": "haproxy", "version": version},
        "arms": [{"name": each, "proxy.http_reuse": each} for each in REUSE],
        "faults": [{"type": "bluegreen", "every": {"min": "8s", "max": "10s"}, "keep": "5s"}],
        "probes": [{"type": "http", "rate": f"{RATE}/s", "connection": connection}],
        "metrics": {"listen": "127.0.0.1:0"},
        "runs": {"directory": str(runs)},
        "until": {"cycles": cycles},
    }


def cycles_of(part: dict[str, Any], runs: Path) -> list[dict[str, Any]]:
    """Run it, and read its cycles."""
    runs.mkdir(parents=True)
    source = runs / "config.yaml"
    source.write_text(yaml.safe_dump(part))
    done = subprocess.run(
        [sys.executable, "-m", "chaosd", "run", str(source)],
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:], file=sys.stderr)
    found = next(runs.glob("*-*/cycles.jsonl"))
    return [json.loads(line) for line in found.read_text().splitlines()]


def row(version: str, connection: str, reuse: str, cycles: list[dict[str, Any]]) -> str:
    good = [
        cycle
        for cycle in cycles
        if cycle["arm"] == reuse and cycle["outcome"] == "recovered" and not cycle["doubt"]
    ]
    if not good:
        return f"| {version} | {connection} | {reuse} | 0 | | | |"
    took_s = statistics.median(cycle["phases"]["discover_s"] or 0.0 for cycle in good)
    misrouted = sum(cycle["misrouted"] for cycle in good)
    reused = sum(cycle["reused"] or 0 for cycle in good)
    failed = sum(cycle["failed"] for cycle in good)
    sent = sum(cycle["samples"] for cycle in good)
    counts = f"{misrouted} | {reused} | {failed} of {sent}"
    return f"| {version} | {connection} | {reuse} | {len(good)} | {took_s:.2f} s | {counts} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    lines = sorted({build.name for build in builds.installed()})
    parser.add_argument("--versions", nargs="+", default=lines)
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--keep", type=Path, help="a directory for the runs; not kept if not set")
    options = parser.parse_args()
    columns = "clients | http-reuse | cycles | new address after | misrouted | reused | failed"
    print(f"| HAProxy | {columns} |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="chaosd-bench-") as temporary:
        place = options.keep or Path(temporary)
        for version in options.versions:
            for connection in CONNECTIONS:
                runs = place / f"{version}-{connection}"
                found = cycles_of(config(version, connection, options.cycles, runs), runs)
                for reuse in REUSE:
                    print(row(version, connection, reuse, found), flush=True)


if __name__ == "__main__":
    main()
