"""A container that stands still in a cycle makes it poor, as a process of this machine does."""

from __future__ import annotations

import time

import pytest

from chaosd.errors import Exit
from chaosd.history.causes import LagKind
from chaosd.history.cycles import CycleOutcome
from chaosd.history.events import FaultBegan, InstanceListening

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

STOP_S = 2.0


def wait_for(run, wanted, limit_s: float = 90.0):
    """The latest event of this kind, once there are so many."""
    kind, count = wanted
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s and run.process.poll() is None:
        if (run.directory / "events.jsonl").exists():
            found = [event for event in run.events if isinstance(event.what, kind)]
            if len(found) >= count:
                return found[-1]
        time.sleep(0.01)
    pytest.fail(f"no {kind.__name__}")


@pytest.mark.parametrize(
    ("part", "after", "lag"),
    [
        pytest.param(
            *("proxy", (FaultBegan, 1), LagKind.PROXY_STOPPED), marks=pytest.mark.slow
        ),  # as processes that are stopped are, on local each time
        pytest.param("app", (InstanceListening, 2), LagKind.APP_STOPPED, marks=pytest.mark.slow),
    ],
    ids=["proxy", "app"],
)
def test_a_container_that_is_stopped_in_a_cycle_makes_it_poor(
    engine, daemon, tmp_path, part, after, lag
) -> None:
    run = daemon(tmp_path, "--cycles", "1", measure={"stable_for": "4s"})
    seen = wait_for(run, after)
    name = f"chaosd-{run.run_id}-c1-proxy"
    if part == "app":
        name = f"chaosd-{seen.what.identity.replace('.', '-')}"
    engine.kill(name, "STOP")
    try:
        time.sleep(STOP_S)
    finally:
        engine.kill(name, "CONT")
    assert run.wait() in (Exit.OK, Exit.UNKNOWN), run.err
    [cycle] = run.cycles
    assert cycle.outcome in (CycleOutcome.RECOVERED, CycleOutcome.CENSORED), cycle
    assert cycle.doubt is not None, cycle
    assert cycle.doubt.lag is lag, cycle
    assert STOP_S / 2 < cycle.doubt.seconds < STOP_S + 1, cycle
