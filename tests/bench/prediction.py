"""Thirteen settings on real HAProxy: how many failovers lie in the predicted band.

    python tests/bench/prediction.py [HAPROXY [HAPROXY ...]] [--cycles=4]

`--cycles` is of each of five cells. The last line has the sum, and the mean width of the bands: a
model that is always right with wide bands says little. Ends with 1 if a failover lies outside.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONFIG = """\
name: prediction
runtime: local
cells: 5
metrics: null
direct: null
faults: [{type: recreate, every: 5s}]
probes: [{type: http, rate: 50/s}]
"""
RESOLVERS, SERVER, FAULT = "proxy.resolvers.", "proxy.server.", "faults.0."
QUICK_POLL = f"{RESOLVERS}timeout_resolve=200ms"
SETTINGS = {
    "timeout resolve 200ms": [QUICK_POLL],
    "timeout resolve 1s": [],
    "timeout resolve 3s": [f"{RESOLVERS}timeout_resolve=3s", f"{FAULT}every=9s"],
    "hold obsolete 1s": [f"{RESOLVERS}hold.obsolete=1s"],
    "hold obsolete 1s, resolve 200ms": [QUICK_POLL, f"{RESOLVERS}hold.obsolete=1s"],
    "goes DOWN": [f"{SERVER}inter=300ms", f"{SERVER}fall=2", f"{FAULT}gap=1200ms"],
    "goes DOWN, rise 4": [
        *(f"{SERVER}{x}" for x in ("inter=250ms", "fall=1", "rise=4")),
        f"{FAULT}gap=700ms",
    ],
    "gap shorter than timeout retry": [QUICK_POLL, f"{FAULT}gap=500ms"],
    "gap longer than timeout retry": [
        *(f"{RESOLVERS}{x}" for x in ("timeout_resolve=500ms", "timeout_retry=400ms")),
        *(f"{FAULT}{x}" for x in ("gap=1500ms", "every=7s")),
    ],
    "no answer in the gap": ["dns.missing=drop", f"{FAULT}gap=1s", f"{FAULT}every=8s"],
    "black hole, no redispatch": [f"{FAULT}old_ip=blackhole", f"{FAULT}every=8s"],
    "black hole, redispatch": ["proxy.redispatch=1", f"{FAULT}old_ip=blackhole"],
    "maintenance": [
        *(f"{RESOLVERS}{x}" for x in ("hold.nx=500ms", "timeout_retry=200ms")),
        f"{RESOLVERS}timeout_resolve=500ms",
        *(f"{FAULT}{x}" for x in ("gap=2s", "every=7s")),
    ],
}


def main() -> int:
    options = [word for word in sys.argv[1:] if word.startswith("--cycles=")]
    cycles = options[0].partition("=")[2] if options else "4"
    binaries = [word for word in sys.argv[1:] if not word.startswith("--")] or ["haproxy"]
    inside = judged = poor = 0
    widths: list[float] = []
    with tempfile.TemporaryDirectory(prefix="chaosd-prediction-") as where:
        (Path(where) / "c.yaml").write_text(CONFIG)
        for binary in binaries:
            for name, settings in SETTINGS.items():
                run = measured(Path(where), [f"proxy.binary={binary}", *settings], cycles)
                total = json.loads((run / "report.json").read_text())["total"]
                said(name, json.loads((run / "run.json").read_text())["proxy_version"], total)
                inside += total["in_band"]["count"]
                judged += total["in_band"]["n"]
                poor += total["poor"]
                widths += band_widths(run)
    mean = f"{statistics.fmean(widths) * 1000:.0f} ms" if widths else "?"
    print(f"{inside} of {judged} in the band, {poor} poor; mean width of a band {mean}")
    return 0 if inside == judged else 1


def measured(where: Path, settings: list[str], cycles: str) -> Path:
    """The directory of a run with these settings."""
    command = [sys.executable, "-m", "chaosd", "run", "c.yaml", "--cycles", cycles]
    sets = [f"--set={value}" for value in settings]
    subprocess.run([*command, *sets], cwd=where, stdout=subprocess.DEVNULL, check=False)
    return where / "runs/latest"


def said(name: str, version: str, total: dict[str, Any]) -> None:
    band, recovery = total["in_band"], total["recovery_s"]
    print(
        f"{version} {name}: {band['count']} of {band['n']} in the band, {total['poor']} poor, "
        f"p50 {_quantile(recovery, 'p50')}, p95 {_quantile(recovery, 'p95')}; "
        f"misrouted {total['misrouted']}, failed {total['failed']}, masked {total['masked']}",
        flush=True,
    )


def band_widths(run: Path) -> list[float]:
    """Of each predicted cycle, s."""
    cycles = map(json.loads, (run / "cycles.jsonl").read_text().splitlines())
    bands = [cycle["predicted"] for cycle in cycles if cycle.get("predicted")]
    return [band["upper_s"] - band["lower_s"] for band in bands]


def _quantile(recovery: dict, name: str) -> str:
    value = recovery[name]["value"]
    return "?" if value is None else f"{value:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
