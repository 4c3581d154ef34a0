"""Failovers a minute by configs/many-cells.yaml, and what they and their probes cost.

    python tests/bench/failovers.py [CELLS [EVERY]]

Two runs of the example: with `cells`, `every` and `idle_rate` set to what two cores carry, and one
where the app is started as a program in each failover, as it was before there was a zygote. CPU is
that of all processes together: daemon, prober, HAProxy, app. About four minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

from chaosd.history.reader import RunReader
from chaosd.proxies.haproxy import builds
from chaosd.system import machine

CONFIG = Path(__file__).parents[2] / "configs" / "many-cells.yaml"
CELLS, EVERY, IDLE_RATE = 60, "5500ms", "5/s"  # some cycles are skipped: more than 600 a minute
MEASURED_S, START_LIMIT_S, END_LIMIT_S = 60.0, 180.0, 120.0
FAILOVERS_MIN, LAG_P99_S_MAX, POOR_SHARE_MAX, MEMORY_MAX = 600, 0.001, 0.01, 1e9
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# It has the app started as a program: what is set for the app is not in the zygote's environment.
AS_A_PROGRAM = ("--set", "app.env.BENCH=program")


class Usage(NamedTuple):
    cpu_s: dict[str, float]  # by the name of the process; "ended": of children that are gone
    memory: dict[str, int]  # bytes, what is shared counted once (PSS)


class Found(NamedTuple):
    failovers_a_minute: float
    cpu_cores: float
    cpu_per_failover_s: float
    probes_a_second: float
    lag_p99_s: float
    poor: int
    in_band: int
    cycles: int
    cells: int
    memory: int


def usage(daemon: int) -> Usage:
    """What a daemon and its children have used so far."""
    cpu_s: defaultdict[str, float] = defaultdict(float)
    memory: defaultdict[str, int] = defaultdict(int)
    for entry in Path("/proc").iterdir():
        try:
            head, _, tail = (entry / "stat").read_text().rpartition(")")
            fields = tail.split()
            if str(daemon) not in (entry.name, fields[1]):
                continue
            ticks = [int(field) / TICKS_PER_S for field in fields[11:15]]
            name = "daemon" if entry.name == str(daemon) else head.partition("(")[2]
            if b"probes.worker" in (entry / "cmdline").read_bytes():
                name = "prober"
            pss = [ln for ln in (entry / "smaps_rollup").read_text().split("\n") if "Pss:" in ln]
        except (OSError, IndexError):
            continue
        cpu_s[name] += ticks[0] + ticks[1]
        cpu_s["ended"] += ticks[2] + ticks[3]
        memory[name] += 1024 * int(pss[0].split()[1])
    return Usage(dict(cpu_s), dict(memory))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(where: Path, *options: str) -> Found:
    """Run the example, and look at it for a minute from its first cycles on."""
    command = [sys.executable, "-m", "chaosd", "run", str(CONFIG), "--set", "metrics=null"]
    with (
        (where / "out").open("w") as out,  # a pipe that nobody reads would hold it up
        subprocess.Popen([*command, "--for", "1h", *options], cwd=where, stdout=out) as daemon,
    ):
        latest, began_s = where / "runs/latest/cycles.jsonl", time.monotonic()
        while not (latest.exists() and latest.stat().st_size):
            if daemon.poll() is not None or time.monotonic() > began_s + START_LIMIT_S:
                daemon.kill()
                raise SystemExit(f"it does not come to a cycle: {(where / 'out').read_text()}")
            time.sleep(0.2)
        time.sleep(12)  # until the first faults of all cells are in full swing
        first, first_ns, busy_s = usage(daemon.pid), time.monotonic_ns(), machine.busy_s()
        time.sleep(MEASURED_S)
        last, last_ns, busy_s = usage(daemon.pid), time.monotonic_ns(), machine.busy_s() - busy_s
        daemon.terminate()
        daemon.wait(END_LIMIT_S)
    for name in sorted(last.cpu_s, key=lambda name: -last.cpu_s[name]):
        share = (last.cpu_s[name] - first.cpu_s.get(name, 0.0)) / MEASURED_S
        print(f"    {name:12} {share:7.1%} of a core {last.memory.get(name, 0) / 1e6:8.0f} MB")
    found = evaluate((where / "runs/latest").resolve(), first, last, first_ns, last_ns)
    others = busy_s / MEASURED_S - found.cpu_cores
    print(f"    {'the rest':12} {others:7.1%} of a core (the kernel for us, and other programs)")
    return found


def evaluate(run: Path, first: Usage, last: Usage, first_ns: int, last_ns: int) -> Found:
    took_s = (last_ns - first_ns) / 1e9
    made = [c for c in lines(run / "cycles.jsonl") if first_ns <= c["end_ns"] < last_ns]
    good = [c for c in made if c["outcome"] == "recovered"]
    trusted = [c for c in good if not c["doubt"]]
    lags_us: list[int] = []
    for block in RunReader(run).blocks():
        records = block.records
        inside = (records["scheduled_ns"] >= first_ns) & (records["scheduled_ns"] < last_ns)
        lags_us += records["lag_us"][inside].tolist()
    doubts = Counter(c["doubt"]["lag"] or c["doubt"]["kind"] for c in good if c["doubt"])
    print(f"    poor: {', '.join(f'{count} {kind}' for kind, count in doubts.items()) or 'none'}")
    cpu_s = sum(last.cpu_s.values()) - sum(first.cpu_s.values())
    return Found(
        failovers_a_minute=len(trusted) / took_s * 60,
        cpu_cores=cpu_s / took_s,
        cpu_per_failover_s=cpu_s / max(1, len(trusted)),
        probes_a_second=len(lags_us) / took_s,
        lag_p99_s=quantiles(lags_us, n=100)[-1] / 1e6,
        poor=len(good) - len(trusted),
        in_band=sum(c["anomaly"] is False for c in trusted),
        cycles=len(good),
        cells=len(json.loads((run / "run.json").read_text())["cells"]),
        memory=sum(last.memory.values()),
    )


def say(holds: bool, what: str) -> None:
    print(f"target {'met' if holds else 'missed'}: {what}")


def main() -> int:
    if builds.at_hand() is None:
        print("nothing measured: there is no haproxy on this machine")
        return 0
    cells = sys.argv[1] if len(sys.argv) > 1 else str(CELLS)
    every = sys.argv[2] if len(sys.argv) > 2 else EVERY
    settings = ("cells", cells), ("faults.0.every", every), ("probes.0.idle_rate", IDLE_RATE)
    options = [word for key, value in settings for word in ("--set", f"{key}={value}")]
    found = []
    for title, more in (("this version", ()), ("the app as a program", AS_A_PROGRAM)):
        with tempfile.TemporaryDirectory(prefix="chaosd-bench-") as where:
            print(f"{title}: {cells} cells, a failover every {every} …", flush=True)
            found.append(measure(Path(where), *options, *more))
        one = found[-1]
        print(
            f"    {one.failovers_a_minute:.0f} trusted failovers a minute in {one.cells} cells, "
            f"{one.probes_a_second:.0f} probes a second; {one.cpu_cores:.2f} cores, "
            f"{one.cpu_per_failover_s * 1000:.0f} ms of CPU for each failover with its probes"
        )
    ours, before = found
    ratio = before.cpu_per_failover_s / ours.cpu_per_failover_s
    print(f"(with the app as a program a failover takes {ratio:.2f} times the CPU)")
    rate = ours.failovers_a_minute
    say(rate >= FAILOVERS_MIN, f"{rate:.0f} failovers a minute (at least {FAILOVERS_MIN})")
    say(ours.in_band >= 0.99 * (ours.cycles - ours.poor),
        f"{ours.in_band} of {ours.cycles - ours.poor} in their predicted band")  # fmt: skip
    lag_ms = ours.lag_p99_s * 1000
    say(ours.lag_p99_s < LAG_P99_S_MAX, f"schedule lag p99 {lag_ms:.2f} ms (below 1 ms)")
    say(ours.poor <= POOR_SHARE_MAX * ours.cycles, f"{ours.poor} of {ours.cycles} poor (1 %)")
    say(ours.memory < MEMORY_MAX, f"{ours.memory / 1e6:.0f} MB (below 1,000)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
