"""How runs end: their time is up, something stands no more, or nothing can be undone."""

from __future__ import annotations

import contextlib

import pytest
from test_runs import SLOW

from chaosd.history.cycles import CycleOutcome
from chaosd.system.clock import SECOND_NS


def test_a_run_whose_time_is_up_lets_its_cycle_settle(simulate) -> None:
    """Else just the longest recoveries would be the ones that are lost."""
    faults = [{"type": "recreate", "every": "10s", "jitter": "0s", "gap": "5s"}]
    ran = simulate("--for", "12s", faults=faults, until={})
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.RECOVERED]
    assert ran.cycles[0].recovery_s > 5


@pytest.mark.parametrize("time", ["12s", "13s"])
def test_one_that_never_recovers_is_censored_although_the_time_is_up(simulate, time) -> None:
    """Its end is known later than its limit: the last answers may be under way until then."""
    ran = simulate(
        "--for",
        time,
        faults=[{"type": "recreate", "every": "10s", "jitter": "0s", "old_ip": "blackhole"}],
        measure={"recovery_limit": "2s"},
        probes=[{"type": "http", "rate": "50/s", "timeout": "1500ms"}],
        proxy=SLOW,
        until={},
    )
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.CENSORED]


def test_a_plugins_bug_is_no_censored_sample(simulate, monkeypatch) -> None:
    from chaosd.faults.recreate import Recreate

    disturb = Recreate.disturb

    @contextlib.asynccontextmanager
    async def broken(self, stage, cycle):
        async with disturb(self, stage, cycle) as what:
            if cycle.number == 2:
                raise KeyError("oh")
            yield what

    monkeypatch.setattr(Recreate, "disturb", broken)
    ran = simulate()
    assert ran.code == 70
    assert "KeyError" in ran.said
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.RECOVERED, CycleOutcome.INVALID]


def test_an_app_that_stops_coming_up_ends_the_run_with_one_line(simulate, monkeypatch) -> None:
    from chaosd.errors import MachineError
    from chaosd.runtimes.sim import SimStage

    ready, calls = SimStage.ready, []

    async def never_again(self, instance) -> None:
        calls.append(instance)
        if len(calls) > 3:  # the set-up, and the first cycle with its healing
            raise MachineError(f"app {instance.identity} does not listen")
        await ready(self, instance)

    monkeypatch.setattr(SimStage, "ready", never_again)
    ran = simulate()
    assert ran.code == 3
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.RECOVERED, CycleOutcome.INVALID]
    assert (
        ran.said.rstrip()
        .splitlines()[-1]
        .startswith("chaosd: cell c1: cycle 2: recreate can't be undone")
    )


def test_where_nothing_can_be_undone_any_more_the_end_takes_seconds_whatever_hangs(
    simulate, monkeypatch
) -> None:
    """An engine that hangs may hang at any step of any cell; the report comes all the same."""
    from chaosd.errors import AwayError
    from chaosd.runtimes.sim import SimStage

    kill, hung_ns = SimStage._kill, []

    async def kills(self, *arguments) -> None:
        if len(hung_ns) > 12:  # of the second cycle of each cell
            await hangs(self)
        hung_ns.append(self._clock.now_ns())
        await kill(self, *arguments)

    async def hangs(self) -> None:
        self._failed(AwayError("the engine is away; `chaosd clean` removes what is left"))
        await self._clock.sleep_until(self._clock.now_ns() + 3600 * SECOND_NS)

    monkeypatch.setattr(SimStage, "_kill", kills)
    monkeypatch.setattr(SimStage, "close", hangs)
    ran = simulate(cells=6)
    assert ran.code == 3
    assert ran.said.splitlines()[-1].startswith("chaosd: the engine is away")
    assert (ran.directory / "report.md").exists()
    assert (max(e.at_ns for e in ran.events) - max(hung_ns)) / SECOND_NS < 60
