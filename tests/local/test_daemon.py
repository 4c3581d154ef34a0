"""The daemon as its users run it: a process of its own, real HAProxy, real DNS, real signals."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from itertools import pairwise
from pathlib import Path

import budget
import pytest
import stored
from running import Running

from chaosd.history.causes import CauseKind
from chaosd.history.cycles import CycleOutcome
from chaosd.history.reader import RunReader

pytestmark = [pytest.mark.haproxy, pytest.mark.usefixtures("haproxy")]

BASE = {
    "name": "t",
    "runtime": "local",
    "metrics": None,
    # The jitter covers every phase of `timeout resolve`, and no cycle overlaps the next one.
    "faults": [{"type": "recreate", "every": "3s", "jitter": "1s"}],
}
FAST = {"type": "haproxy", "resolvers": {"timeout_resolve": "200ms", "timeout_retry": "200ms"}}
# Where it is not the recovery that is of interest: a cycle takes less than a second.
QUICK = {
    "proxy": FAST,
    "faults": [{"type": "recreate", "every": "2s", "jitter": "100ms"}],
    "measure": {"stable_for": "300ms"},
}

RECOVERED = '"outcome":"recovered"'


class Daemon(Running):
    """One `chaosd run` in a directory of its own."""

    def __init__(self, where: Path, *options: str, limit=None, **keys) -> None:
        super().__init__(where, BASE | keys, "run", "c.yaml", *options, limit=limit)

    @property
    def cycles(self):
        """Those that were made: on a busy machine one may be skipped, which is said."""
        return [cycle for cycle in super().cycles if cycle.outcome != CycleOutcome.SKIPPED]


def children_of(run_id: str) -> list[str]:
    """The processes of this machine that carry this run's label."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"CHAOSD_RUN={run_id}".encode() in (
                entry / "environ"
            ).read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.quiet
@pytest.mark.early
@pytest.mark.sized
def test_many_failovers_lie_in_the_references_interval_and_are_spread(tmp_path) -> None:
    """`timeout resolve 1s`, `hold obsolete 0`, never DOWN: [max(A, D), max(A, D + 1 s)]."""
    daemon = Daemon(
        tmp_path / "d",
        cells=10,
        until={"cycles": (count := budget.of(3, 10))},
        probes=[{"type": "http", "rate": "50/s"}],
        measure={"stable_for": "500ms"},
    )
    assert daemon.wait() == 0, daemon.err
    cycles = daemon.cycles
    assert len(cycles) == 10 * count
    for cycle in cycles:
        assert cycle.outcome == CycleOutcome.RECOVERED, cycle
        assert cycle.new_ip != cycle.old_ip
        # Between the two bounds, but for what the machine adds before it answers.
        lower_s, upper_s = cycle.predicted.lower_s, cycle.predicted.upper_s
        assert cycle.recovery_s >= lower_s - 0.05
        assert cycle.recovery_s <= upper_s + cycle.resolution_s + 0.1
    # From when the name has the new IP until HAProxy has it: up to one period, and any part of it.
    at_ns = {
        (line.source, line.cell, line.cycle): line.at_ns
        for line in stored.lines(RunReader(daemon.directory).events("published", "address_changed"))
    }
    waits = sorted(
        (at_ns["proxy.log", c.cell, c.cycle] - at_ns["dns", c.cell, c.cycle]) / 1e9 for c in cycles
    )
    assert waits[0] > -0.01
    assert waits[-1] < 1.0 + 0.1
    few = count - 1  # of ten times as many: that so few are below 0.3 s happens once in 500 runs
    assert waits[few] < 0.3
    assert waits[-1 - few] > 0.7
    assert all(b - a < 0.35 for a, b in pairwise(waits))
    assert children_of(daemon.run_id) == []


def test_an_imposter_is_counted_as_misrouted(tmp_path) -> None:
    faults = [{"type": "recreate", "every": "3s", "jitter": "1s", "old_ip": "imposter"}]
    measure = {"stable_for": "500ms"}
    daemon = Daemon(tmp_path / "d", faults=faults, cells=3, until={"cycles": 1}, measure=measure)
    assert daemon.wait() == 0, daemon.err
    held_ns = {
        (line.cell, line.cycle): line.at_ns
        for line in stored.lines(RunReader(daemon.directory).events())
        if (line.verb, line.edge) == ("hold", "done")
    }
    for cycle in daemon.cycles:
        # From when the imposter has the address until HAProxy leaves it, every answer is its own.
        held_s = (held_ns[cycle.cell, cycle.cycle] - cycle.t0_ns) / 1e9
        expected = (cycle.recovery_s - held_s) * 100
        assert cycle.misrouted == pytest.approx(expected, rel=0.1, abs=8 + cycle.dropped)
        assert cycle.failed <= held_s * 100 + 5
        # What HAProxy itself said is in the flight record, word for word.
        record = daemon.directory / f"flight/{cycle.cell}-{cycle.cycle}.json"
        said = json.loads(record.read_text())["log"]
        assert any(
            "changed" in line and f"{cycle.new_ip} by" in line.replace("'", "") for line in said
        )


@pytest.mark.slow  # simulated each time
def test_a_restart_at_the_same_address_needs_no_resolver(tmp_path) -> None:
    # Were the address looked up, this would take seconds.
    slow = {"type": "haproxy", "resolvers": {"timeout_resolve": "10s"}}
    faults = [{"type": "restart", "every": "2s"}]
    measure = {"stable_for": "300ms"}
    run = Daemon(tmp_path / "d", "--cycles", "2", faults=faults, proxy=slow, measure=measure)
    assert run.wait() == 0, run.err
    cycles = run.cycles
    assert [c.outcome for c in cycles] == [CycleOutcome.CONTROL] * 2
    assert len({ip for c in cycles for ip in (c.old_ip, c.new_ip)}) == 1
    for cycle in cycles:
        assert 0.2 < cycle.phases["replace_s"] <= cycle.recovery_s
        assert cycle.recovery_s - cycle.phases["replace_s"] < 2
        assert cycle.phases["discover_s"] == 0.0
        assert cycle.failed + cycle.masked > 0
        assert cycle.misrouted == 0


def test_refuse_and_blackhole_fail_as_the_reference_says(tmp_path) -> None:
    """No redispatch: a request fails after N·δ = 3 s if refused, (N+1)·Tc = 4 s in the dark."""
    daemons = {
        manner: Daemon(
            tmp_path / manner,
            faults=[{"type": "recreate", "every": "2s", "jitter": 0, "old_ip": manner}],
            probes=[{"type": "http", "timeout": "6s"}],
            measure={"slow_after": "250ms"},
            until={"cycles": 1},
        )
        for manner in ("refuse", "blackhole")
    }
    for manner, expected_s in (("refuse", 3.0), ("blackhole", 4.0)):
        daemon = daemons[manner]
        assert daemon.wait() == 0, daemon.err
        (cycle,) = daemon.cycles
        assert cycle.failed > 5
        took = sorted(
            (sample.done_ns - sample.scheduled_ns) / 1e9
            for sample in RunReader(daemon.directory).samples(1, cycle.t0_ns, cycle.end_ns)
            if sample.status == 503
        )
        assert took, "HAProxy never gave up"
        assert took[len(took) // 2] == pytest.approx(expected_s, abs=0.35)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_undoes_everything_and_writes_the_report(tmp_path, number) -> None:
    daemon = Daemon(tmp_path / "d", **QUICK)
    daemon.wait_for("cycles.jsonl", RECOVERED)
    daemon.wait_for("events.jsonl", '"verb":"stop","edge":"asked"', count=2)
    began = time.monotonic()
    daemon.process.send_signal(number)
    assert daemon.wait() == 0, daemon.err
    assert time.monotonic() - began < 10
    assert (daemon.directory / "report.md").exists()
    first, *others = daemon.cycles
    assert first.outcome == CycleOutcome.RECOVERED
    assert [c.outcome for c in others] == [CycleOutcome.INVALID]
    assert others[0].cause.kind is CauseKind.STOPPED
    assert children_of(daemon.run_id) == []
    code = json.loads((daemon.directory / "run.json").read_text())["exit"]
    assert code == daemon.process.returncode


@pytest.mark.sized
def test_after_kill_9_the_next_start_cleans_up_and_the_run_is_readable(tmp_path) -> None:
    rng = random.Random(5)
    bystander = Daemon(tmp_path / "bystander", **QUICK)
    bystander.wait_for("cycles.jsonl", RECOVERED)
    fault = {"type": "recreate", "every": "1s", "jitter": 0}
    count = budget.of(2, 8)
    killed = [Daemon(tmp_path / f"k{n}", proxy=FAST, faults=[fault]) for n in range(count)]
    for daemon in killed:
        time.sleep(rng.uniform(0.2, 2.5))
        daemon.process.kill()
        daemon.process.communicate()
    done = subprocess.run(
        [sys.executable, "-m", "chaosd", "clean"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    for daemon in killed:
        if not (daemon.where / "runs/latest/run.json").exists():
            continue  # killed before it had begun anything
        assert children_of(daemon.run_id) == []
        read = subprocess.run(
            [sys.executable, "-m", "chaosd", "report", str(daemon.directory)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert read.returncode in (0, 4), read.stderr
        assert read.stderr == ""
        assert all(event.at_ns > 0 for event in RunReader(daemon.directory).events())
    assert children_of(bystander.run_id), "a living run lost its processes"
    bystander.process.send_signal(signal.SIGTERM)
    assert bystander.wait() == 0
    assert all(c.outcome != CycleOutcome.CENSORED for c in bystander.cycles)


def test_haproxy_dying_ends_the_run_with_one_line(tmp_path) -> None:
    daemon = Daemon(tmp_path / "d", **QUICK)
    daemon.wait_for("cycles.jsonl", RECOVERED)
    (proxy,) = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_proxy_of(entry, daemon.run_id)
    ]
    os.kill(proxy, signal.SIGKILL)
    assert daemon.wait() == 3
    (line,) = daemon.err.splitlines()
    assert line.startswith(f"chaosd: haproxy (pid {proxy}) died")
    assert "Traceback" not in daemon.out
    assert children_of(daemon.run_id) == []


def _is_proxy_of(entry: Path, run_id: str) -> bool:
    try:
        return (
            f"CHAOSD_RUN={run_id}".encode() in (entry / "environ").read_bytes().split(b"\0")
            and b"haproxy" in (entry / "cmdline").read_bytes().split(b"\0")[0]
        )
    except OSError:
        return False


def test_a_full_disk_ends_the_run_with_one_line(tmp_path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    daemon = Daemon(tmp_path / "d", **QUICK, limit=small_files)
    assert daemon.wait() == 3
    (line,) = daemon.err.splitlines()
    assert "can't be written" in line
    assert children_of(daemon.run_id) == []


def test_an_app_that_never_comes_up_ends_the_run_with_one_line(tmp_path) -> None:
    daemon = Daemon(tmp_path / "d", app={"start_delay": "20s", "ready_timeout": "1s"})
    assert daemon.wait() == 3
    (line,) = daemon.err.splitlines()
    assert "does not listen on" in line
    assert "app.ready_timeout" in line
    assert children_of(daemon.run_id) == []


def test_the_metrics_page_tells_what_the_report_tells(tmp_path) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    daemon = Daemon(tmp_path / "d", "--cycles", "3", **QUICK, metrics={"listen": "127.0.0.1:0"})
    url = next(x for x in daemon.process.stdout if x.startswith("metrics: ")).split()[1]
    daemon.wait_for("cycles.jsonl", RECOVERED, count=2)
    labels = (("arm", "main"), ("cell", "c1"), ("fault", "recreate"))
    values: dict[tuple, float] = {}
    for _ in range(50):  # it is brought up to date now and then
        with urllib.request.urlopen(url, timeout=5) as page:
            text = page.read().decode()
        values = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        if values["chaosd_recovery_duration_seconds_count", *labels] == 2:
            break
        time.sleep(0.02)
    assert values["chaosd_recovery_duration_seconds_count", *labels] == 2
    assert daemon.wait() == 0
    two = daemon.cycles[:2]
    assert values["chaosd_recovery_duration_seconds_sum", *labels] == pytest.approx(
        sum(c.recovery_s for c in two)
    )
    assert values["chaosd_last_recovery_duration_seconds", *labels] == two[1].recovery_s


@pytest.mark.slow  # `make test` has several at once all the time
def test_two_daemons_do_not_touch_each_other(tmp_path) -> None:
    daemons = [
        Daemon(tmp_path / name, **QUICK, cells=2, until={"cycles": 3}) for name in ("a", "b")
    ]
    for daemon in daemons:
        assert daemon.wait() == 0, daemon.err
        assert [c.outcome for c in daemon.cycles] == [CycleOutcome.RECOVERED] * 6
        assert all(c.misrouted == 0 for c in daemon.cycles)
