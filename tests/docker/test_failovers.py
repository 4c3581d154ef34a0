"""Failovers on a real engine: fresh addresses, what is at the old one, nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import budget
import pytest
import stored
from stand import left_of, volumes

from chaosd.history.cycles import CycleOutcome

pytestmark = [pytest.mark.docker, pytest.mark.timeout(150)]


@pytest.mark.sized
def test_the_app_is_found_again_on_verified_fresh_addresses(engine, daemon, tmp_path) -> None:
    volumes_before = volumes(engine)
    count = budget.of(2, 6)
    run = daemon(tmp_path / "d", "--cycles", str(count))
    assert run.wait() == 0, run.err
    cycles = [c for c in run.cycles if c.outcome != CycleOutcome.SKIPPED]
    assert [c.outcome for c in cycles] == [CycleOutcome.RECOVERED] * count, cycles
    addresses = [cycles[0].old_ip, *(c.new_ip for c in cycles)]
    assert len(set(addresses)) == count + 1
    for before, after in zip(cycles, cycles[1:], strict=False):
        assert after.old_ip == before.new_ip
    for cycle in cycles:
        known = [cycle.phases[f"{p}_s"] for p in ("replace", "publish", "discover", "rejoin")]
        assert None not in known, cycle.phases
        total = sum(known) + cycle.phases["serve_s"]
        assert total == pytest.approx(cycle.recovery_s, abs=1e-6)
        assert cycle.misrouted == 0
        assert cycle.failed > 0
    assert left_of(engine, run.run_id) == []
    # Other tests may have volumes of their own at this moment, but they don't stay.
    assert len(volumes(engine) - volumes_before) <= 8
    check_stamps(run)


@pytest.mark.sized
@pytest.mark.slow  # on local each time
def test_a_container_comes_back_at_its_own_address(engine, daemon, tmp_path) -> None:
    count, faults = budget.of(2, 6), [{"type": "restart", "every": "4s"}]
    run = daemon(tmp_path / "d", "--cycles", str(count), faults=faults)
    assert run.wait() == 0, run.err
    cycles = [c for c in run.cycles if c.outcome != CycleOutcome.SKIPPED]
    assert [c.outcome for c in cycles] == [CycleOutcome.CONTROL] * count, cycles
    assert len({ip for c in cycles for ip in (c.old_ip, c.new_ip)}) == 1
    for cycle in cycles:
        assert cycle.recovery_s > cycle.phases["replace_s"] > 0.1
        assert cycle.failed + cycle.masked > 0  # it really was away
        assert (cycle.misrouted, cycle.phases["discover_s"]) == (0, 0.0)
    assert left_of(engine, run.run_id) == []


def check_stamps(run) -> None:
    """Check that readings of the engine carry its own stamps: deeds lie around what they caused."""
    events = stored.lines(e for e in run.events if e.cycle == 1)
    placeholder = "-refuse-"
    said = {
        (e.source, e.what): e
        for e in events
        if e.what and placeholder not in e.data.get("container", "")
    }
    asked = {(e.verb, e.edge): e.at_ns for e in events if e.verb}
    for edge in (("docker", "die"), ("docker", "disconnect"), ("dns", "withdrawn")):
        assert asked["stop", "asked"] <= said[edge].at_ns + said[edge].error_ns, edge
        assert said[edge].at_ns <= asked["hold", "done"], edge
    for edge in (("docker", "connect"), ("docker", "start"), ("app", "listening")):
        assert asked["start", "asked"] <= said[edge].at_ns + said[edge].error_ns, edge
    published = said["dns", "published"]
    assert published.at_ns <= said["proxy.log", "address_changed"].at_ns + published.error_ns
    assert published.data["ips"] == [run.cycles[0].new_ip]
    engine_said = next(e for e in stored.lines(run.events) if e.what == "engine")
    assert engine_said.data["way_in"] == "published port"
    assert engine_said.data["missing"] in ("drop", "servfail", "nxdomain", "refused", "empty")


@pytest.mark.parametrize(
    ("old_ip", "misrouted"),
    [
        pytest.param("imposter", True, marks=pytest.mark.slow),
        # What is met there, of each kind, is asked in test_old_ip.py.
        *(
            pytest.param(old_ip, False, marks=pytest.mark.slow)
            for old_ip in ("blackhole", "tarpit", "vacant")
        ),
    ],
)
def test_what_users_meet_at_the_old_address(engine, daemon, tmp_path, old_ip, misrouted) -> None:
    fault = {"type": "recreate", "every": "3s", "old_ip": old_ip, "gap": "700ms"}
    run = daemon(tmp_path / "d", "--cycles", "1", faults=[fault])
    assert run.wait() == 0, run.err
    (cycle,) = run.cycles
    assert cycle.outcome == CycleOutcome.RECOVERED, cycle
    assert (cycle.misrouted > 10) == misrouted
    if not misrouted:
        assert cycle.failed + cycle.masked > 10
        assert cycle.misrouted == 0
    assert left_of(engine, run.run_id) == []


@pytest.mark.slow  # `make test` has several at once all the time
def test_two_runs_at_once_do_not_disturb_each_other(engine, daemon, tmp_path) -> None:
    runs = [daemon(tmp_path / name, "--cycles", "2") for name in ("a", "b")]
    for run in runs:
        assert run.wait() == 0, run.err
        cycles = [c for c in run.cycles if c.outcome != CycleOutcome.SKIPPED]
        assert [c.outcome for c in cycles] == [CycleOutcome.RECOVERED] * 2
        assert sum(c.misrouted for c in cycles) == 0
        assert left_of(engine, run.run_id) == []
    networks = {r.cycles[0].new_ip.rpartition(".")[0] for r in runs}
    assert len(networks) == 2


@pytest.mark.parametrize(
    "after_s", [1.5, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.0, 4.0))]
)
def test_what_a_killed_run_leaves_is_removed_by_the_next_clean(
    engine, daemon, tmp_path, after_s
) -> None:
    run = daemon(tmp_path / "d", faults=[{"type": "recreate", "every": "1s"}])
    limit = time.monotonic() + 60
    while not (run.where / "runs/latest/run.json").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    while after_s and not left_of(engine, run.run_id) and time.monotonic() < limit:
        time.sleep(0.05)
    time.sleep(after_s)
    assert left_of(engine, run.run_id) or not after_s
    run.process.send_signal(signal.SIGKILL)
    run.process.communicate()
    # What the engine was asked for last may still come into being.
    time.sleep(0.5)
    limit = time.monotonic() + 20
    while left_of(engine, run.run_id) and time.monotonic() < limit:  # others may clean up, too
        subprocess.run([sys.executable, "-m", "chaosd", "clean"], capture_output=True, check=True)
        time.sleep(0.5)
    assert left_of(engine, run.run_id) == []


def test_look_alikes_are_never_touched(engine, tmp_path) -> None:
    """Names like ours, some of our labels, an owner that can't be judged: all left alone."""
    from chaosd.runtimes.docker import images

    name = f"chaosd-{tmp_path.name[-6:].replace('_', 'x')}-lookalike"
    labels = {"chaosd.run": "abcdef", "chaosd.cell": "c1"}
    foreign = labels | {"chaosd.owner": "1:2:3:another", "chaosd.machine": "another"}
    made, networks = [], []
    try:
        for number, tags in enumerate(({}, labels, foreign)):
            made.append(
                engine.create_container(images.app_tag(), name=f"{name}-{number}", labels=tags)
            )
        subnets = ("a", "b")
        for suffix, tags in zip(subnets, (labels, foreign), strict=True):
            networks.append(engine.create_network(f"{name}-{suffix}", labels=tags, internal=True))
        engine.create_volume(f"{name}-v", labels=labels)
        subprocess.run([sys.executable, "-m", "chaosd", "clean"], check=True, capture_output=True)
        for each in made:
            assert engine.inspect_container(each["Id"])
        for each in networks:
            assert engine.inspect_network(each["Id"])
        assert engine.inspect_volume(f"{name}-v")
    finally:
        for each in made:
            engine.remove_container(each["Id"], force=True, v=True)
        for each in networks:
            engine.remove_network(each["Id"])
        engine.remove_volume(f"{name}-v")


def test_no_engine_is_one_line_and_exit_3(daemon, tmp_path) -> None:
    run = daemon(tmp_path / "d", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert run.wait() == 3
    assert run.err.count("\n") == 1
    assert "no Docker engine answers" in run.err
    assert "No such file" in run.err
