"""Failovers across two nodes of a swarm, each a real engine in a network namespace."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import swarm_box
from stand import why_not

from chaosd.history.cycles import PHASES_OF_NODES, CycleOutcome
from chaosd.history.events import EngineFound, InstancePlaced, NameKnown, NamePublished, only

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


def test_what_a_killed_run_leaves_is_removed_at_the_next_start(box, in_box) -> None:
    run = in_box("--cycles", "20")
    limit = time.monotonic() + 100
    while not ((run.directory / "cycles.jsonl").exists() and run.cycles):
        assert run.process.poll() is None, run.process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.1)
    run.process.kill()
    run.process.communicate()
    assert {what.partition(":")[0] for what in box.left()} == set(NODES)
    again = in_box("--cycles", "1", name="again")
    assert again.wait(120) in (0, 4), again.err
    assert box.left() == []
