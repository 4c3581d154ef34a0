"""Cycles in a world that was late: a real HAProxy, and processes that are really stopped."""

from __future__ import annotations

import os
import subprocess
import sys

import budget
import pytest
import yaml
from starving import BEGIN, CONFIG, FILL, LASTING, TRACK, busy, can_track, running, stop

from chaosd.history.causes import DoubtKind, LagKind
from chaosd.history.codec import decode_cycle
from chaosd.history.cycles import Cycle, CycleOutcome

# These stop or starve processes of the whole machine: nothing else may run beside them.
pytestmark = [pytest.mark.haproxy, pytest.mark.quiet, pytest.mark.usefixtures("haproxy")]

PARTS = {
    "daemon": {LagKind.DAEMON_STOPPED},
    "haproxy": {LagKind.PROXY_STOPPED},
    "app": {LagKind.APP_STOPPED},
}


def check(cycle: Cycle, said: str, part: str, stop_s: float) -> None:
    assert cycle.outcome in (CycleOutcome.RECOVERED, CycleOutcome.CENSORED), cycle
    assert cycle.doubt is not None, cycle
    assert cycle.doubt.kind is DoubtKind.WORLD_LATE, cycle
    assert cycle.doubt.lag in PARTS[part], cycle
    assert 0.1 < cycle.doubt.seconds <= stop_s + 0.5, cycle
    assert "poor: " in said
    assert "verdict: unknown" in said


@pytest.mark.early
def test_a_part_that_is_stopped_in_a_cycle_makes_it_poor_and_is_named(tmp_path) -> None:
    """Each in a cycle of its own."""
    faults = [{"type": "recreate", "every": "5s", "jitter": "500ms"}]
    in_cycle: dict[str, int] = {}
    with running(tmp_path / "d", cycles=len(PARTS), faults=faults) as run:
        for part in PARTS:
            after = max(in_cycle.values(), default=0)
            in_cycle[part] = stop(run, part, delay_s=0.3, stop_s=2.0, after=after).cycle
        cycles = {cycle.cycle: cycle for cycle in run.wait()}
    for part, number in in_cycle.items():
        check(cycles[number], run.said, part, 2.0)


@pytest.mark.slow
def test_what_computes_beside_it_makes_no_cycle_poor(tmp_path) -> None:
    """Plain busy loops, four for each core: those cycles are right, and stay good."""
    count = budget.of(3, 8)
    with running(tmp_path / "d", cycles=count, cells=2) as run:
        run.wait_for(BEGIN)
        with busy(4 * (os.cpu_count() or 1)):
            cycles = [c for c in run.wait() if c.outcome is not CycleOutcome.SKIPPED]
    assert sum(c.doubt is not None for c in cycles) <= 1, [c.doubt for c in cycles]
    assert len(cycles) >= count


@pytest.mark.slow
def test_a_full_connection_tracking_table_makes_a_cycle_poor_and_is_named(tmp_path) -> None:
    if not can_track():
        pytest.skip("no network namespace with connection tracking can be made here")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG | LASTING))
    (tmp_path / "fill.py").write_text(FILL)
    script = f"{TRACK} && exec '{sys.executable}' fill.py"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True,
        timeout=115, check=False,
    )  # fmt: skip
    [line] = (tmp_path / "runs/latest/cycles.jsonl").read_text().splitlines()
    cycle = decode_cycle(line)
    assert cycle.doubt is not None, done.stderr[-500:]
    assert cycle.doubt.lag is LagKind.CONNTRACK_FULL, cycle
    assert cycle.world_lost["conntrack-full"] > 0
    assert "connection-tracking table is full" in done.stdout + done.stderr
