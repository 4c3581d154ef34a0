"""Failovers across two nodes of a swarm, each a real engine in a network namespace."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import swarm_box
from stand import why_not

from chaosd.history.causes import CauseKind
from chaosd.history.cycles import PHASES_OF_NODES, CycleOutcome
from chaosd.history.deeds import (
    HoldAddress,
    RescheduleInstance,
    StartInstance,
    StopInstance,
)
from chaosd.history.events import (
    Asked,
    EngineFound,
    InstancePlaced,
    NameKnown,
    NamePublished,
    only,
)

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

NODES = ["node-1", "node-2"]
RUNTIME = {"type": "swarm", "nodes": NODES}
CONFORMS = "from chaosd.testing.runtime import check_runtime; check_runtime({})"


@pytest.fixture(scope="module")
def box():
    """Two nodes of a swarm. Each test leaves it as it was."""
    if (reason := swarm_box.why_not() or why_not()) is not None:
        pytest.skip(reason)
    try:
        made = swarm_box.Box()
    except swarm_box.BoxError as error:
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def in_box(box, daemon, tmp_path):
    def start(*options, name="run", **keys):
        where = {"env": box.environment, "inside": box.inside}
        return daemon(tmp_path / name, *options, **where, **({"runtime": RUNTIME} | keys))

    return start


def test_the_app_moves_on_another_node_than_the_proxys(box, in_box) -> None:
    faults = [{"type": "recreate", "every": "12s"}]
    run = in_box("--cycles", "3", faults=faults, dns={"name": "tasks.app"})
    assert run.wait(120) in (0, 4), run.err
    made = [cycle for cycle in run.cycles if cycle.outcome is not CycleOutcome.SKIPPED]
    assert {cycle.outcome for cycle in made} == {CycleOutcome.RECOVERED}, made
    events = run.events
    placed = [event.what for event in only(events, InstancePlaced)]
    assert {what.node for what in placed} == {"node-2"}
    assert len({what.ip for what in placed}) == len(placed) == len(made) + 1
    assert [event.what.node for event in only(events, EngineFound)] == NODES
    for cycle in made:
        check_gossip(cycle, events)
    assert box.left() == []


def check_gossip(cycle, events) -> None:
    """The app's node knew its new address first, the proxy's heard of it; the phases add up."""
    parts = [cycle.phases[f"{phase}_s"] for phase in PHASES_OF_NODES if phase != "settle"]
    assert None not in parts
    off_s = abs(sum(parts) - cycle.recovery_s)
    assert off_s < 0.02 + cycle.phases_error_s
    mine = [event for event in events if event.cycle == cycle.cycle]
    known = [event for event in only(mine, NameKnown) if event.what.ips]
    assert {event.what.node for event in known} == set(NODES)
    (proxys,) = [event for event in known if event.what.node == "node-1"]
    assert [event.at_ns for event in only(mine, NamePublished)] == [proxys.at_ns]


@pytest.mark.parametrize(
    ("fault", "app_on", "nodes"),
    [({"order": "start-first"}, [], ["node-2", "node-2"]), ({"by": "drain"}, NODES, None)],
    ids=["update", "drain"],
)
def test_the_swarm_itself_replaces_a_task(box, in_box, fault, app_on, nodes) -> None:
    faults = [{"type": "reschedule", "every": "20s"} | fault]
    runtime = RUNTIME | {"move": "service", "app_on": app_on}
    run = in_box("--cycles", "1", faults=faults, runtime=runtime, dns={"name": "tasks.app"})
    assert run.wait(150) in (0, 4), run.err
    assert [cycle.outcome for cycle in run.cycles] == [CycleOutcome.RECOVERED], run.cycles
    (cycle,) = run.cycles
    placed = [event.what for event in only(run.events, InstancePlaced)]
    assert len({what.ip for what in placed}) == len(placed)
    if nodes is not None:  # the new one is there before the old one goes
        assert [what.node for what in placed] == nodes
        assert cycle.failed == 0
    else:
        assert {what.node for what in placed[:2]} == set(NODES)
    with box.nodes[0].api() as api:
        specs = [node["Spec"] for node in api.nodes()]
    assert {spec["Availability"] for spec in specs} == {"active"}
    assert not any(spec.get("Labels") for spec in specs)
    assert box.left() == []


@pytest.mark.parametrize("old_ip_on", ["app", "proxy"])
def test_it_conforms(box, old_ip_on) -> None:
    part = RUNTIME | {"old_ip_on": old_ip_on}
    ran = subprocess.run(
        [*box.inside, sys.executable, "-c", CONFORMS.format(part)],
        env=os.environ | box.environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert box.left() == []


SERVICE = {"runtime": RUNTIME | {"move": "service", "app_on": NODES}, "dns": {"name": "tasks.app"}}
PINNED = {"faults": [{"type": "recreate", "every": "3s", "gap": "400ms"}]}
UPDATE = SERVICE | {"faults": [{"type": "reschedule", "every": "5s"}]}
DRAIN = SERVICE | {"faults": [{"type": "reschedule", "by": "drain", "every": "8s"}]}
# So long after the first thing is there that must be removed, or after such a deed was asked for.
MOMENTS = [
    (PINNED, None, 0.0),
    (PINNED, None, 0.7),
    (PINNED, None, 2.5),
    (PINNED, StopInstance, 0.0),
    (PINNED, HoldAddress, 0.05),
    (PINNED, StartInstance, 0.2),
    (PINNED, StartInstance, 1.5),
    (UPDATE, None, 1.0),
    (UPDATE, RescheduleInstance, 0.3),
    (DRAIN, RescheduleInstance, 0.5),
]


def made(run) -> list:
    return [cycle for cycle in run.cycles if cycle.outcome is not CycleOutcome.SKIPPED]


def wait_for_cycles(run, count: int) -> None:
    limit = time.monotonic() + 100
    while not ((run.where / "runs/latest/cycles.jsonl").exists() and len(made(run)) >= count):
        assert run.process.poll() is None, run.process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.1)


def wait_for(box, run, deed, after_s: float) -> None:
    """Return so long after this deed is asked for, or after there is something to remove."""
    limit = time.monotonic() + 100
    while not (box.left() if deed is None else _is_asked(run, deed)):
        assert run.process.poll() is None, run.process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    time.sleep(after_s)


def _is_asked(run, deed) -> bool:
    if not (run.where / "runs/latest/events.jsonl").exists():
        return False
    return any(isinstance(event.what.deed, deed) for event in only(run.events, Asked))


def test_what_a_killed_run_leaves_is_removed_at_the_next_start(box, in_box) -> None:
    run = in_box("--cycles", "20")
    wait_for_cycles(run, 1)
    run.process.kill()
    run.process.communicate()
    assert {what.partition(":")[0] for what in box.left()} == set(NODES)
    again = in_box("--cycles", "1", name="again")
    assert again.wait(120) in (0, 4), again.err
    assert box.left() == []


@pytest.mark.timeout(600)
def test_whenever_a_run_is_killed_nothing_stays_on_either_node(box, in_box) -> None:
    """By `chaosd clean`, which does what the next start does first."""
    left = []
    for number, (config, deed, after_s) in enumerate(MOMENTS):
        run = in_box(name=f"killed-{number}", **config)
        wait_for(box, run, deed, after_s)
        run.process.kill()
        run.process.communicate()
        left.append(len(box.left()))
        clean = in_box(name=f"killed-{number}", command=["clean", "c.yaml"], **config)
        clean.process.communicate(timeout=100)
        assert clean.process.returncode == 0
        assert box.left() == [], (number, config, deed)
        with box.nodes[0].api() as api:
            specs = [node["Spec"] for node in api.nodes()]
        assert {spec["Availability"] for spec in specs} == {"active"}
        assert not any(spec.get("Labels") for spec in specs)
    assert all(left), left  # there was something to remove


def test_a_node_that_is_cut_off_and_comes_back(box, in_box) -> None:
    cut = "ip link set n2"
    partition = {
        "type": "command",
        "name": "partition",
        "every": "40s",
        "inject": ["sh", "-c", f"{cut} down; sleep 10; {cut} up"],
        "heal": ["sh", "-c", f"{cut} up"],
        "timeout": "30s",
    }
    run = in_box("--cycles", "1", faults=[partition], dns={"name": "tasks.app"})
    assert run.wait(150) in (0, 4), run.err
    (cycle,) = run.cycles
    assert cycle.outcome is CycleOutcome.RECOVERED
    assert cycle.recovery_s > 10
    known = [event for event in only(run.events, NameKnown) if event.what.node == "node-1"]
    assert any(not event.what.ips for event in known[1:])  # the name was gone there
    assert box.left() == []


def test_a_virtual_address_is_refused_where_the_kernel_has_no_ipvs(box, in_box) -> None:
    if Path("/proc/net/ip_vs").exists():
        pytest.skip("this kernel has IPVS")
    runtime = SERVICE["runtime"] | {"endpoint": "vip"}
    run = in_box(
        "--cycles",
        "1",
        runtime=runtime,
        dns={"name": "app"},
        faults=[{"type": "reschedule", "every": "20s"}],
    )
    assert run.wait(120) == 3
    assert "does not answer on node-1: its kernel has no IPVS" in run.err
    assert len(run.err.strip().splitlines()) == 1
    assert box.left() == []


@pytest.fixture
def led_by_the_third():
    """Three managers of which the last leads: it has neither the proxy nor the app."""
    if (reason := swarm_box.why_not() or why_not()) is not None:
        pytest.skip(reason)
    try:
        made = swarm_box.Box(3, managers=3)
    except swarm_box.BoxError as error:
        pytest.skip(str(error))
    yield made
    made.close()


def test_the_loss_of_the_leading_manager_is_waited_out(led_by_the_third, daemon, tmp_path) -> None:
    box = led_by_the_third
    runtime = RUNTIME | {"move": "service", "app_on": ["node-2"]}
    runtime["nodes"] = ["node-1", "node-2", "node-3"]
    run = daemon(
        tmp_path / "run",
        *("--cycles", "3"),
        env=box.environment,
        inside=box.inside,
        runtime=runtime,
        dns={"name": "tasks.app"},
        faults=[{"type": "reschedule", "every": "20s"}],
    )
    wait_for_cycles(run, 1)
    box.nodes[2].cut()  # the next cycle needs a leader
    wait_for_cycles(run, 2)
    box.nodes[2].mend()
    assert run.wait(200) in (0, 4), run.err
    *cycles, last = made(run)
    assert {cycle.outcome for cycle in cycles} == {CycleOutcome.RECOVERED}, cycles
    # The new leader begins with the first free address again: it may have been in use lately.
    if last.outcome is not CycleOutcome.RECOVERED:
        assert last.cause is not None
        assert last.cause.kind is CauseKind.NOT_FRESH, last
    assert box.left() == []
