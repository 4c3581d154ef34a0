"""The faults that are no plain move, on real HAProxy: what users see, and that it is undone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_daemon import QUICK, Daemon, children_of

from chaosd.history.cycles import CycleKind, CycleOutcome

pytestmark = [pytest.mark.haproxy, pytest.mark.usefixtures("haproxy")]


def ran(where: Path, fault: dict, **keys) -> Daemon:
    faults = [{"every": "5s", "jitter": "100ms"} | fault]
    daemon = Daemon(where / "d", **QUICK | {"faults": faults, "until": {"cycles": 1}} | keys)
    assert daemon.wait() == 0, daemon.out + daemon.err
    assert not children_of(daemon.run_id)
    return daemon


def test_the_old_one_answers_until_haproxy_has_the_new_address(tmp_path) -> None:
    # It takes a second on average: then a machine that is late by a tenth of one changes nothing.
    slow = {"type": "haproxy", "resolvers": {"timeout_resolve": "2s"}}
    [cycle] = ran(tmp_path, {"type": "bluegreen", "keep": "2500ms"}, proxy=slow).cycles
    assert cycle.outcome is CycleOutcome.RECOVERED
    assert cycle.lasted_s >= 2.5
    assert not cycle.failed  # both serve all the time
    # As many requests went there as fit into the time until it had the new address.
    assert cycle.misrouted == pytest.approx(cycle.recovery_s * 100, abs=10)
    assert cycle.reused == 0


@pytest.mark.slow  # simulated each time
def test_a_pause_is_the_fault_and_no_lag_of_the_world(tmp_path) -> None:
    [cycle] = ran(tmp_path, {"type": "pause", "window": "1s"}).cycles
    # Answered late, once it went on: within the probe's patience, so nothing failed.
    assert (cycle.kind, cycle.outcome) == (CycleKind.IN_PLACE, CycleOutcome.UNAFFECTED)
    assert cycle.masked > 30
    assert cycle.doubt is None
    assert not cycle.world_lag_s.get("app-stopped")


@pytest.mark.slow  # the simulated world has it each time
def test_a_reload_with_a_state_file_goes_on_with_the_same_servers(tmp_path) -> None:
    """Without one the new process has to ask for the name first."""
    proxy = QUICK["proxy"]
    daemon = ran(tmp_path, {"type": "reload"}, proxy=proxy | {"state_file": True})
    [cycle] = daemon.cycles
    assert cycle.outcome is CycleOutcome.UNAFFECTED
    assert "log lines came from another sender" not in daemon.out


@pytest.mark.slow
def test_a_reload_without_one_comes_in_the_middle_of_a_move(tmp_path) -> None:
    fault = {"type": "recreate", "gap": "600ms", "with": [{"type": "reload", "at": "200ms"}]}
    [cycle] = ran(tmp_path, fault).cycles
    assert cycle.outcome is CycleOutcome.RECOVERED
    assert [span.type for span in cycle.disturbances] == ["move", "proxy_renewed"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hang", "partition", "proxy-restart", "slow-start"])
def test_it_fails_and_recovers(tmp_path, kind) -> None:
    windowed = kind in ("hang", "partition")
    [cycle] = ran(tmp_path, {"type": kind} | ({"window": "1s"} if windowed else {})).cycles
    # A SYN that is lost comes again after a second: then the window of a partition is over.
    unaffected = {CycleOutcome.UNAFFECTED} if kind == "partition" else set()
    assert cycle.outcome in {CycleOutcome.RECOVERED, *unaffected}
    assert cycle.failed + cycle.masked
    assert cycle.doubt is None


@pytest.mark.slow  # test_daemon.py has a run that is killed each time
def test_what_is_paused_when_chaosd_is_killed_is_swept(tmp_path) -> None:
    fault = {"type": "pause", "window": "60s", "every": "1s", "jitter": "100ms"}
    daemon = Daemon(tmp_path / "d", **QUICK | {"faults": [fault]})
    daemon.wait_for("events.jsonl", '"verb":"impair","edge":"done"')
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.communicate()
    assert children_of(daemon.run_id)  # one of them is stopped, and can't end by itself
    subprocess.run([sys.executable, "-m", "chaosd", "clean"], check=True, capture_output=True)
    assert not children_of(daemon.run_id)
