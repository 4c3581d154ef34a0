"""The engine under a run is stopped: it returns, or it does not."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import own_engine
import pytest

from chaosd.history.causes import CauseKind
from chaosd.history.cycles import CycleOutcome
from chaosd.history.events import ContainersRestored, Disturbed

# An engine that does not answer is in test_engine_hangs.py each time; this starts one of its own.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(240), pytest.mark.quiet, pytest.mark.slow]


@pytest.fixture
def own(engine):
    """An engine that may be ended."""
    if (reason := own_engine.why_not()) is not None:
        pytest.skip(reason)
    root = Path(tempfile.mkdtemp(prefix="chaosd-e-", dir="/tmp"))  # a socket's path is short
    made = own_engine.OwnEngine(root, engine)
    yield made
    made.close()


def wait_for_a_cycle(run) -> None:
    limit = time.monotonic() + 60
    while not (run.directory / "cycles.jsonl").exists() or not run.cycles:
        assert time.monotonic() < limit
        assert run.process.poll() is None
        time.sleep(0.1)


def test_a_run_goes_on_when_the_engine_is_back(own, daemon, tmp_path) -> None:
    run = daemon(tmp_path, "--cycles", "7", env={"DOCKER_HOST": own.url}, inside=own.inside)
    wait_for_a_cycle(run)
    own.stop()
    own.start()
    code = run.wait(120)
    assert code in (0, 4), run.err
    outcomes = [cycle.outcome for cycle in run.cycles]
    assert outcomes[-1] == CycleOutcome.RECOVERED
    broken = [cycle for cycle in run.cycles if cycle.outcome == CycleOutcome.INVALID]
    reasons = [cycle.cause.kind for cycle in broken]
    assert set(reasons) <= {CauseKind.ENGINE_AWAY, CauseKind.ENGINE_RESTARTED, CauseKind.NOT_STEADY}
    whats = [event.what for event in run.events]
    assert any(isinstance(what, Disturbed) for what in whats)
    assert any(isinstance(what, ContainersRestored) for what in whats)
    assert own.left() == []


def test_an_engine_that_stays_away_ends_the_run_with_one_line(own, daemon, tmp_path) -> None:
    runtime = {"type": "docker", "engine_wait": "1s"}
    env = {"DOCKER_HOST": own.url}
    run = daemon(tmp_path, "--cycles", "20", env=env, inside=own.inside, runtime=runtime)
    wait_for_a_cycle(run)
    own.stop()
    assert run.wait(60) == 3
    assert [
        line for line in run.err.splitlines() if "Docker engine" in line
    ] == run.err.splitlines()
    assert "chaosd clean" in run.err
    # What was left there is found once the engine is back.
    own.start()
    assert own.left()
    clean = daemon(tmp_path / "clean", command=["clean"], env=env, inside=own.inside)
    assert clean.wait(60) == 0
    assert own.left() == []
