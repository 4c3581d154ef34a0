"""A failover's own steps by chaosd beside the same steps by bare `docker` commands, in one run.

    python tests/bench/bare_docker.py

The steps: take the app away, put a placeholder on its old IP, run the app again on a fresh IP. The
waiting for the app and for HAProxy is not in it. Both take turns; compare the medians with each
other, not with another machine. About a minute; it ends with 0 where there is no engine, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from chaosd.history.codec import encode_event
from chaosd.history.deeds import Asked, Done
from chaosd.history.reader import RunReader
from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.endpoint import from_environment

ROUNDS, CYCLES = 3, 6
RATIO_MAX = 1.3
NAME = "chaosd-bench"
SUBNET = "10.213.255.0/24"
STEPS = ("stop", "hold", "start")
CONFIG = """\
name: bench
runtime: docker
metrics: null
faults: [{type: recreate, every: 3s, gap: 0s}]
probes: [{type: http, rate: 20/s}]
measure: {stable_for: 500ms}
"""


def docker(*words: str) -> None:
    subprocess.run(["docker", *words], check=True, stdout=subprocess.DEVNULL)


def run_app(ip: int, name: str) -> None:
    address = SUBNET.replace("0/24", str(ip))
    docker(
        *("run", "-d", "--name", name, "--network", NAME, "--ip", address),
        *("--network-alias", "app.internal", "--label", NAME, "--read-only", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--memory", "256m", "--pids-limit", "64"),
        images.app_tag(),
    )


def by_hand() -> list[float]:
    """Seconds of each round of bare commands."""
    took = []
    docker("network", "create", "--subnet", SUBNET, "--label", NAME, NAME)
    try:
        run_app(10, f"{NAME}-app")
        for number in range(CYCLES):
            holder = f"{NAME}-holder"
            docker("run", "-d", "--name", holder, "--label", NAME, "--network", NAME,
                   "--env", "CHAOSD_MODE=refuse", images.app_tag())  # fmt: skip
            docker("network", "disconnect", NAME, holder)
            began = time.monotonic()
            docker("rm", "-f", f"{NAME}-app")
            old = SUBNET.replace("0/24", str(10 + number))
            docker("network", "connect", "--ip", old, NAME, holder)
            run_app(11 + number, f"{NAME}-app")
            took.append(time.monotonic() - began)
            docker("rm", "-f", holder)
    finally:
        subprocess.run(["docker", "rm", "-f", f"{NAME}-app", f"{NAME}-holder"],
                       check=False, capture_output=True)  # fmt: skip
        docker("network", "rm", NAME)
    return took


def by_chaosd(where: Path) -> list[float]:
    """Seconds of the same steps of each cycle, from the edges of its actions."""
    (where / "c.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "chaosd", "run", "c.yaml", "--cycles", str(CYCLES)]
    subprocess.run(command, cwd=where, check=False, stdout=subprocess.DEVNULL, timeout=120)
    asked: dict[tuple[int, str], int] = {}
    took: dict[int, float] = {}
    for event in RunReader((where / "runs/latest").resolve()).events():
        if not isinstance(event.what, Asked | Done) or not event.cycle:
            continue
        if (verb := json.loads(encode_event(event))["verb"]) in STEPS:
            if isinstance(event.what, Asked):
                asked[event.cycle, verb] = event.at_ns
            else:
                seconds = (event.at_ns - asked[event.cycle, verb]) / 1e9
                took[event.cycle] = took.get(event.cycle, 0.0) + seconds
    return list(took.values())


def main() -> int:
    if (reason := from_environment().unreachable()) or images.missing(
        from_environment().client(), [images.app_tag()]
    ):
        print(f"docker: skipped ({reason or 'no images: make images'})")
        return 0
    hand: list[float] = []
    ours: list[float] = []
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="chaosd-bench-") as where:
            hand += by_hand()
            ours += by_chaosd(Path(where))
        print(f"round {number + 1} of {ROUNDS}", flush=True)
    ratio = median(ours) / median(hand)
    print(f"bare docker commands: {median(hand) * 1000:.0f} ms a failover (median of {len(hand)})")
    print(f"chaosd:               {median(ours) * 1000:.0f} ms (median of {len(ours)})")
    verdict = "met" if ratio <= RATIO_MAX else "missed"
    print(f"ratio {ratio:.2f} (target: at most {RATIO_MAX}): {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
