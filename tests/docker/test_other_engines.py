"""Failovers on the engines of other Debian suites, each unpacked and run in a chroot."""

from __future__ import annotations

import engines
import pytest
import swarm_box
from stand import why_not

from chaosd.history.cycles import CycleOutcome
from chaosd.history.events import EngineFound, only

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_failovers_on_its_engine(daemon, tmp_path, suite) -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    try:
        engine = engines.Engine(suite)
    except swarm_box.BoxError as error:  # it is no machine for that, or there is no mirror
        pytest.skip(str(error))
    try:
        where = {"env": {"DOCKER_HOST": engine.url}, "inside": engine.space.inside}
        run = daemon(tmp_path / "d", "--cycles", "3", **where, runtime={"type": "docker"})
        assert run.wait(180) in (0, 4), run.err
        made = [cycle for cycle in run.cycles if cycle.outcome is not CycleOutcome.SKIPPED]
        assert {cycle.outcome for cycle in made} == {CycleOutcome.RECOVERED}, made
        assert not any(cycle.misrouted for cycle in made)
        (found,) = only(run.events, EngineFound)
        assert found.what.version.startswith(engines.SUITES[suite])
        assert found.what.missing == "servfail"  # as of every engine since 24
    finally:
        engine.close()
