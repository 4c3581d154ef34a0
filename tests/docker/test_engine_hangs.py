"""The engine takes connections and answers nothing: from any step on, with few and many cells."""

from __future__ import annotations

import signal
import time

import hanging
import pytest
from test_engine_ends import wait_for_a_cycle

from chaosd.errors import Exit
from chaosd.history.causes import LagKind
from chaosd.history.cycles import CycleOutcome

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

WAIT_S = 4
# The wait, the seconds in which it is found out, and those in which chaosd starts and reports.
LIMIT_S = WAIT_S + 30
NETWORK, START = r"POST \S*/networks/create", r"POST \S*/containers/\w+/start"
SWEEP, IMAGE = r"GET \S*/containers/json", r"GET \S*/images/\S+/json"


@pytest.fixture
def proxied(engine, tmp_path_factory):
    """A way to the engine that may hang; afterwards it does so no more, and all is removed."""
    made = hanging.HangingEngine(tmp_path_factory.mktemp("e"))
    yield made
    made.close()


def run_against(daemon, proxied, where, *options, command=None, **keys):
    env = {"DOCKER_HOST": proxied.url}
    runtime = {"type": "docker", "engine_wait": f"{WAIT_S}s"}
    return daemon(where, *options, command=command, env=env, runtime=runtime, **keys)


def ends_with_one_line(run, began_s: float) -> None:
    assert run.wait(LIMIT_S + 30) == Exit.SETUP
    assert run.err.count("\n") == 1, run.err
    line = run.err
    assert "the Docker engine at unix://" in line
    assert "`chaosd clean`" in line
    assert time.monotonic() - began_s < LIMIT_S


def clean(daemon, where) -> None:
    assert daemon(where / "clean", command=["clean"]).wait(60) == 0


@pytest.mark.parametrize(
    ("cells", "stop"),
    [
        (1, signal.SIGTERM),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1, None), (6, None), (6, signal.SIGTERM))
        ),
    ],
)
def test_while_a_run_goes_on(daemon, proxied, tmp_path, cells, stop) -> None:
    run = run_against(daemon, proxied, tmp_path, "--cycles", "50", cells=cells)
    wait_for_a_cycle(run)
    proxied.hangs.set()
    began_s = time.monotonic()
    if stop is not None:
        run.process.send_signal(stop)
    ends_with_one_line(run, began_s)
    assert (run.directory / "report.md").exists()
    clean(daemon, tmp_path)


@pytest.mark.slow
def test_for_some_seconds_in_a_cycle_makes_it_poor(daemon, proxied, tmp_path) -> None:
    run = run_against(daemon, proxied, tmp_path, "--cycles", "2")
    wait_for_a_cycle(run)
    proxied.hang_when(START, START)  # of the placeholder, and then of the new instance
    assert proxied.hangs.wait(60)
    time.sleep(5)
    proxied.hangs.clear()
    assert run.wait(90) in (Exit.OK, Exit.UNKNOWN), run.err
    _, second = [cycle for cycle in run.cycles if cycle.outcome != CycleOutcome.SKIPPED]
    assert second.outcome == CycleOutcome.RECOVERED, second
    assert second.doubt is not None, second
    assert second.doubt.lag is LagKind.ENGINE_SILENT, second
    assert 4 < second.doubt.seconds < 7, second
    clean(daemon, tmp_path)


@pytest.mark.parametrize(
    ("steps", "stop"),
    [
        pytest.param(
            steps,
            stop,
            id=f"{name}-{'stopped' if stop else 'left'}",
            marks=pytest.mark.slow,
        )
        for name, steps in (
            ("network", [NETWORK]),
            ("asker", [NETWORK, START]),
            ("proxy", [NETWORK, START, START, START]),
            ("check", [START]),
            ("sweep", [SWEEP]),
        )
        for stop in (None, signal.SIGTERM)
    ],
)
def test_while_a_run_is_set_up(daemon, proxied, tmp_path, steps, stop) -> None:
    proxied.hang_when(*steps)
    run = run_against(daemon, proxied, tmp_path, "--cycles", "1")
    assert proxied.hangs.wait(60)
    began_s = time.monotonic()
    if stop is not None and steps != [START]:  # `check` is not over: nobody minds signals yet
        run.process.send_signal(stop)
    ends_with_one_line(run, began_s)
    clean(daemon, tmp_path)


@pytest.mark.parametrize(
    ("command", "step"),
    [
        pytest.param(["clean"], SWEEP, marks=pytest.mark.slow),
        pytest.param(["images"], IMAGE, marks=pytest.mark.slow),
        pytest.param(["check", "c.yaml"], START, marks=pytest.mark.slow),
        pytest.param(["check", "c.yaml"], IMAGE, marks=pytest.mark.slow),
    ],
    ids=["clean", "images", "check", "check-images"],
)
def test_other_commands(daemon, proxied, tmp_path, command, step) -> None:
    proxied.hang_when(step)
    run = run_against(daemon, proxied, tmp_path, command=command)
    assert proxied.hangs.wait(60)
    ends_with_one_line(run, time.monotonic())
    clean(daemon, tmp_path)
