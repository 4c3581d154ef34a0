"""A container that stands still in a cycle makes it poor, as a process of this machine does."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import pytest

from chaosd.errors import Exit
from chaosd.history.causes import LagKind
from chaosd.history.cycles import CycleOutcome
from chaosd.history.events import FaultBegan, InstanceListening
from chaosd.history.values import Address
from chaosd.runtimes.docker.publishers import publishers

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

STOP_S = 2.0
ENTRY_FOUND_S = 0.2  # docker-proxy is looked for once the first cycle has begun


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
        pytest.param("paused", (FaultBegan, 1), LagKind.PROXY_STOPPED, marks=pytest.mark.slow),
        pytest.param("entry", (FaultBegan, 1), LagKind.ENTRY_STOPPED, marks=pytest.mark.slow),
    ],
    ids=["proxy", "app", "docker-pause", "docker-proxy"],
)
def test_a_container_that_is_stopped_in_a_cycle_makes_it_poor(
    engine, daemon, tmp_path, part, after, lag
) -> None:
    run = daemon(tmp_path, "--cycles", "1", measure={"stable_for": "4s"})
    seen = wait_for(run, after)
    name = f"chaosd-{run.run_id}-c1-proxy"
    if part == "app":
        name = f"chaosd-{seen.what.identity.replace('.', '-')}"
    time.sleep(ENTRY_FOUND_S)
    stop, go_on = partial(engine.kill, name, "STOP"), partial(engine.kill, name, "CONT")
    if part == "paused":
        stop, go_on = partial(engine.pause, name), partial(engine.unpause, name)
    if part == "entry":
        [ports] = filter(None, engine.inspect_container(name)["NetworkSettings"]["Ports"].values())
        entry = Address("127.0.0.1", int(ports[0]["HostPort"]))
        if not (pids := publishers(entry)):
            pytest.skip("this engine publishes ports without docker-proxy")
        stop, go_on = (partial(os.kill, pids[0], n) for n in (signal.SIGSTOP, signal.SIGCONT))
    stop()
    try:
        time.sleep(STOP_S)
    finally:
        go_on()
    assert run.wait() in (Exit.OK, Exit.UNKNOWN), run.err
    [cycle] = run.cycles
    assert cycle.outcome in (CycleOutcome.RECOVERED, CycleOutcome.CENSORED), cycle
    assert cycle.doubt is not None, cycle
    assert cycle.doubt.lag is lag, cycle
    assert STOP_S / 2 < cycle.doubt.seconds < STOP_S + 1, cycle
