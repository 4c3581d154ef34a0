"""What HAProxy does about faults that are no plain move: the second table of docs/faults.md.

    python tests/bench/more_faults.py [--cycles 4] [--versions 2.2 3.4] [--only pause reload]

For each fault all installed lines of HAProxy (`chaosd haproxy install --all`) stand side by side,
as arms in blocks under one schedule. Told are, of each line, how many requests of a cycle failed,
were masked (answered late) and misrouted, and the recovery: medians of the cycles that are good.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from bluegreen import cycles_of

from chaosd.proxies.haproxy import builds

RATE, CYCLES = 50, 3
RELOAD = {"type": "reload", "at": "300ms"}
CASES: dict[str, dict[str, Any]] = {
    "pause": {"fault": {"type": "pause", "window": "3s"}},
    "pause, HTTP check": {
        "fault": {"type": "pause", "window": "8s"},
        "proxy": {"http_check": "/healthz"},
        "every": {"min": "15s", "max": "16s"},
    },
    "hang": {"fault": {"type": "hang", "window": "3s"}},
    "partition": {"fault": {"type": "partition", "window": "3s"}},
    "slow-start": {"fault": {"type": "slow-start", "cold": "2s"}},
    "reload": {"fault": {"type": "reload"}},
    "reload, state file": {"fault": {"type": "reload"}, "proxy": {"state_file": True}},
    "recreate + reload": {"fault": {"type": "recreate", "with": [RELOAD]}},
    "recreate + reload, state file": {
        "fault": {"type": "recreate", "with": [RELOAD]},
        "proxy": {"state_file": True},
    },
    "proxy-restart": {"fault": {"type": "proxy-restart"}},
    "proxy-restart, state file": {
        "fault": {"type": "proxy-restart"},
        "proxy": {"state_file": True},
    },
    "rolling, 3 replicas": {
        "fault": {"type": "rolling"},
        "replicas": 3,
        "every": {"min": "12s", "max": "13s"},
    },
    "scale by -1, 3 replicas": {
        "fault": {"type": "scale", "by": -1, "window": "3s"},
        "replicas": 3,
    },
}


def arm(version: str) -> str:
    return f"v{version.replace('.', '-')}"


def config(case: dict[str, Any], versions: list[str], cycles: int, runs: Path) -> dict[str, Any]:
    """One run: an arm for each line."""
    return {
        "name": "faults",
        "runtime": "local",
        "seed": 1,
        "app": {"replicas": case.get("replicas", 1)},
        "proxy": {"type": "haproxy", **case.get("proxy", {})},
        "arms": [{"name": arm(each), "proxy.version": each} for each in versions],
        "faults": [{"every": case.get("every", {"min": "8s", "max": "9s"}), **case["fault"]}],
        "probes": [{"type": "http", "rate": f"{RATE}/s"}],
        "metrics": {"listen": "127.0.0.1:0"},
        "runs": {"directory": str(runs)},
        "until": {"cycles": cycles},
    }


def cell(cycles: list[dict[str, Any]]) -> str:
    """Failed, masked and misrouted requests of a cycle, and the recovery."""
    good = [c for c in cycles if c["outcome"] in ("recovered", "unaffected") and not c["doubt"]]
    if not good:
        return "?"
    counts = [statistics.median(c[name] for c in good) for name in ("failed", "masked")]
    misrouted = statistics.median(c["misrouted"] for c in good)
    took = [c["recovery_s"] for c in good if c["recovery_s"] is not None]
    said = f"{counts[0]:.0f} / {counts[1]:.0f}" + (f" / {misrouted:.0f}" if misrouted else "")
    return f"{said}, {statistics.median(took):.2f} s" if took else f"{said}, unaffected"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    lines = sorted({build.name for build in builds.installed()})
    parser.add_argument("--versions", nargs="+", default=lines)
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    print(f"| fault | {' | '.join(options.versions)} |")
    print("|---|" + "---|" * len(options.versions))
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="chaosd-bench-") as temporary:
            runs = Path(temporary) / "runs"
            part = config(CASES[name], options.versions, options.cycles, runs)
            found = cycles_of(part, runs)
        told = [cell([c for c in found if c["arm"] == arm(each)]) for each in options.versions]
        print(f"| {name} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
