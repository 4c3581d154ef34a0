"""Thirteen settings on real HAProxy: how many failovers lie in the predicted band.

python tests/bench/prediction.py [HAPROXY [HAPROXY ...]] [--cycles=4]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

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
    outside = 0
    with tempfile.TemporaryDirectory(prefix="chaosd-prediction-") as where:
        (Path(where) / "c.yaml").write_text(CONFIG)
        for binary in binaries:
            for name, settings in SETTINGS.items():
                sets = [f"--set={value}" for value in (f"proxy.binary={binary}", *settings)]
                command = [sys.executable, "-m", "chaosd", "run", "c.yaml", "--cycles", cycles]
                subprocess.run([*command, *sets], cwd=where, stdout=subprocess.DEVNULL, check=False)
                run = Path(where) / "runs/latest"
                total = json.loads((run / "report.json").read_text())["total"]
                version = json.loads((run / "run.json").read_text())["proxy_version"]
                band, recovery = total["in_band"], total["recovery_s"]
                outside += band["n"] - band["count"]
                worst = total["misrouted"], total["failed"], total["masked"]
                print(
                    f"{version} {name}: {band['count']} of {band['n']} in the band, "
                    f"p50 {_quantile(recovery, 'p50')}, p95 {_quantile(recovery, 'p95')}; "
                    "misrouted {}, failed {}, masked {}".format(*worst),
                    flush=True,
                )
    return 1 if outside else 0


def _quantile(recovery: dict, name: str) -> str:
    value = recovery[name]["value"]
    return "?" if value is None else f"{value:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
