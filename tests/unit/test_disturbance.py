"""One disturbance: its two edges, and what becomes of it if it can't be undone in time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from chaosd.engine.disturbance import Disturbance
from chaosd.engine.recorder import CellRecorder
from chaosd.errors import MachineError, NotUndoneError
from chaosd.history.disturbances import OtherDisturbance
from chaosd.history.events import DisturbanceBegan, DisturbanceEnded
from chaosd.plugins.fault import undoing
from chaosd.system.clock import VirtualClock, VirtualLoop, sleep

SHAKEN = OtherDisturbance(what="shaken")


class Cycle(CellRecorder):
    def __init__(self, clock) -> None:
        self.events = []
        super().__init__(clock, "c1", self.events.append)
        self.label, self.began_ns, self.ending = "shake", None, False

    @property
    def edges(self) -> list:
        return [(type(e.what), e.at_ns / 1e9) for e in self.events]


class Shake:
    """Takes a second to break something and a second to undo it, unless one of them fails."""

    def __init__(self, *, breaks=None, undoes=None, undo_s: float = 1.0) -> None:
        self.breaks, self.undoes, self.undo_s = breaks, undoes, undo_s
        self.undone = 0

    @asynccontextmanager
    async def disturb(self, stage, cycle):
        async def undo() -> None:
            await sleep(cycle.clock, self.undo_s)
            self.undone += 1
            if self.undoes is not None:
                raise self.undoes

        async with undoing(undo):
            cycle.began_ns = cycle.clock.now_ns()
            await sleep(cycle.clock, 1.0)
            if self.breaks is not None:
                raise self.breaks
            yield SHAKEN


def virtual(story) -> None:
    """Run this under virtual time, with a cycle."""

    async def main() -> None:
        cycle = Cycle(VirtualClock())
        async with asyncio.timeout(1_000):
            await story(cycle)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_it_has_two_edges() -> None:
    async def story(cycle: Cycle) -> None:
        fault = Shake()
        disturbance = Disturbance(fault, None, cycle)
        began_s = cycle.clock.now_ns() / 1e9
        await disturbance.begin()
        await sleep(cycle.clock, 3.0)
        await disturbance.end(10)
        await disturbance.end(10)
        assert fault.undone == 1
        assert cycle.edges == [
            (DisturbanceBegan, began_s),
            (DisturbanceEnded, pytest.approx(began_s + 5.0)),
        ]

    virtual(story)


def test_what_never_stood_has_no_edges_and_was_undone() -> None:
    async def story(cycle: Cycle) -> None:
        fault = Shake(breaks=MachineError("no such host"))
        disturbance = Disturbance(fault, None, cycle)
        with pytest.raises(MachineError, match="no such host"):
            await disturbance.begin()
        await disturbance.end(10)
        assert (fault.undone, cycle.edges) == (1, [])

    virtual(story)


def test_left_on_its_way_in_it_is_undone() -> None:
    async def story(cycle: Cycle) -> None:
        fault = Shake()
        disturbance = Disturbance(fault, None, cycle)
        begins = asyncio.ensure_future(disturbance.begin())
        await sleep(cycle.clock, 0.5)
        await disturbance.end(10)
        with pytest.raises(asyncio.CancelledError):
            await begins
        assert (fault.undone, cycle.edges) == (1, [])

    virtual(story)


def test_an_undoing_that_fails_is_raised_and_has_no_second_edge() -> None:
    async def story(cycle: Cycle) -> None:
        disturbance = Disturbance(Shake(undoes=OSError("disk on fire")), None, cycle)
        await disturbance.begin()
        with pytest.raises(NotUndoneError, match="disk on fire"):
            await disturbance.end(10)
        assert [kind for kind, _ in cycle.edges] == [DisturbanceBegan]

    virtual(story)


def test_where_both_fail_the_first_is_told_and_the_second_raised_at_the_end() -> None:
    async def story(cycle: Cycle) -> None:
        fault = Shake(breaks=MachineError("no such host"), undoes=MachineError("still broken"))
        disturbance = Disturbance(fault, None, cycle)
        with pytest.raises(MachineError, match="no such host"):
            await disturbance.begin()
        with pytest.raises(NotUndoneError, match="still broken"):
            await disturbance.end(10)

    virtual(story)


def test_left_on_its_way_in_a_failure_to_undo_is_raised() -> None:
    async def story(cycle: Cycle) -> None:
        disturbance = Disturbance(Shake(undoes=MachineError("still broken")), None, cycle)
        begins = asyncio.ensure_future(disturbance.begin())
        await sleep(cycle.clock, 0.5)
        with pytest.raises(NotUndoneError, match="still broken"):
            await disturbance.end(10)
        with pytest.raises(asyncio.CancelledError):
            await begins

    virtual(story)


def test_an_undoing_that_takes_too_long_is_given_up() -> None:
    async def story(cycle: Cycle) -> None:
        disturbance = Disturbance(Shake(undo_s=60.0), None, cycle)
        await disturbance.begin()
        before_ns = cycle.clock.now_ns()
        with pytest.raises(TimeoutError):
            await disturbance.end(10)
        assert (cycle.clock.now_ns() - before_ns) / 1e9 == pytest.approx(10)

    virtual(story)


def test_one_that_never_began_is_left_at_once() -> None:
    async def story(cycle: Cycle) -> None:
        fault = Shake()
        await Disturbance(fault, None, cycle).end(10)
        assert (fault.undone, cycle.edges) == (0, [])

    virtual(story)
