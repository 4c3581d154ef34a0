"""Seven settings on real HAProxy: how many failovers lie in the predicted band.

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
SETTINGS = {
    "short timeout resolve": [f"{RESOLVERS}timeout_resolve=200ms"],
    "hold obsolete": [f"{RESOLVERS}hold.obsolete=1s"],
    "going DOWN": [f"{SERVER}inter=300ms", f"{SERVER}fall=2", f"{FAULT}gap=1200ms"],
    "long NXDOMAIN": [f"{RESOLVERS}timeout_retry=400ms", f"{FAULT}gap=1500ms", f"{FAULT}every=7s"],
    "no answer": ["dns.missing=drop", f"{FAULT}gap=1s", f"{FAULT}every=8s"],
    "redispatch": ["proxy.redispatch=1", f"{FAULT}old_ip=blackhole"],
    "maintenance": [
        *(f"{RESOLVERS}{x}" for x in ("hold.nx=500ms", "timeout_retry=200ms")),
        f"{RESOLVERS}timeout_resolve=500ms",
        f"{FAULT}gap=2s",
        f"{FAULT}every=7s",
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
                band, p50 = total["in_band"], total["recovery_s"]["p50"]["value"]
                outside += band["n"] - band["count"]
                print(
                    f"{version} {name}: {band['count']} of {band['n']} in the band, p50 {p50:.2f} s"
                )
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
