"""Predictions are worked out beside the event loop: what goes on meanwhile changes nothing."""

import asyncio
import threading
from concurrent.futures import Future

import pytest
from recompute import recompute

from chaosd.engine import run
from chaosd.engine.cell import CellRun
from chaosd.engine.predicting import Predictor
from chaosd.errors import Exit
from chaosd.history.cycles import CycleOutcome
from chaosd.plugins.timeline import Unreached
from chaosd.system.clock import SECOND_NS, RealClock


class Slow(Predictor):
    """Answers two seconds later."""

    def __init__(self, clock):
        super().__init__(clock)
        self.clock, self.tasks = clock, []

    def submit(self, question):
        answered = Future()

        async def answer():
            await self.clock.sleep_until(self.clock.now_ns() + 2 * SECOND_NS)
            answered.set_result(question())

        self.tasks.append(asyncio.get_running_loop().create_task(answer()))
        return answered


@pytest.mark.slow
def test_how_long_a_prediction_takes_changes_no_cycle(simulate, monkeypatch) -> None:
    quick = simulate(until={"cycles": 1})
    monkeypatch.setattr(run, "Predictor", Slow)
    finish, belongs_to = CellRun._finish, []

    def finished(cell, *args):
        belongs_to.append((cell.cycle, cell.recorder.cycle))
        finish(cell, *args)

    monkeypatch.setattr(CellRun, "_finish", finished)
    slow = simulate(until={"cycles": 1})
    assert slow.cycles[0].predicted is not None
    assert quick.cycles == slow.cycles == list(recompute(slow.directory))
    assert belongs_to == [(None, 0)]  # what happens meanwhile is not the cycle's


def test_a_cycle_whose_prediction_fails_has_its_line(simulate, monkeypatch) -> None:
    class Broken(Predictor):
        def submit(self, question):
            return super().submit(lambda: 1 // 0)

    monkeypatch.setattr(run, "Predictor", Broken)
    done = simulate(until={"cycles": 1})
    assert done.code == Exit.BUG
    (cycle,) = done.cycles
    assert cycle.outcome == CycleOutcome.RECOVERED
    assert cycle.predicted is None


def test_the_loop_goes_on_while_a_prediction_is_worked_out() -> None:
    went_on = threading.Event()

    async def main():
        predictor = Predictor(RealClock())
        asked = predictor.submit(lambda: Unreached.CACHE if went_on.wait(5) else None)
        asyncio.get_running_loop().call_soon(went_on.set)
        assert await asyncio.wrap_future(asked) is Unreached.CACHE
        predictor.close()

    asyncio.run(main())


def test_what_is_asked_after_the_end_is_answered_at_once() -> None:
    """A cell whose undoing takes too long ends after the run: its last line is no less complete."""
    predictor = Predictor(RealClock())
    predictor.close()
    assert predictor.submit(lambda: Unreached.CACHE).result(timeout=0) is Unreached.CACHE
