"""A cycle while it goes on: what its fault sees of it, and what it has gathered so far."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from chaosd.analysis.recovery import RecoveryFold
from chaosd.engine.cycle_machine import MAIN, Began, Heard, Over, Spoilt
from chaosd.engine.recorder import CellRecorder
from chaosd.errors import ChaosdError
from chaosd.history.causes import Cause, CauseKind
from chaosd.history.deeds import Asked, Done, Failed
from chaosd.history.events import (
    AnyEvent,
    CycleEnded,
    CycleSkipped,
    DisturbanceBegan,
    DisturbanceEnded,
    Disturbed,
    Event,
    FaultBegan,
    FaultEnded,
    FaultInjected,
    InstancePlaced,
    RecoveryPredicted,
    StreamOpened,
    What,
    WorldWatched,
)
from chaosd.history.values import Instance, Sample
from chaosd.plugins.fault import Fault
from chaosd.system.clock import SECOND_NS

if TYPE_CHECKING:
    from chaosd.engine.cell import CellRun

EVENTS_PER_CYCLE_MAX = 10_000
OURS = (
    *(Asked, Done, Failed, StreamOpened, InstancePlaced, FaultBegan, FaultInjected, FaultEnded),
    *(RecoveryPredicted, CycleEnded, CycleSkipped, Disturbed, DisturbanceBegan, DisturbanceEnded),
    *(WorldWatched,),
)


class CycleRun(CellRecorder):
    """A cycle while it goes on: what its fault sees of it, and what it has gathered so far."""

    def __init__(self, cell: CellRun, fault: Fault, label: str, also: tuple[str, ...] = ()) -> None:
        super().__init__(cell.clock, cell.name, cell.emit)
        self.run = cell.plan.run_id
        self.number = self.cycle = cell.recorder.cycle
        self.chance = f"{cell.plan.seed} {cell.name} {self.number}"
        self.kind = fault.kind
        self.label = label
        self.also = also  # the labels of the faults that come with it
        self.began_ns: int | None = None
        self.fold: RecoveryFold | None = None
        self.events: list[AnyEvent] = []
        self.samples: list[Sample] = list(cell.recent)
        self.heard: asyncio.Queue[Heard] = asyncio.Queue()  # what its machine is told next
        self.ending = False
        self._is_over = False
        self._begin: AnyEvent | None = None  # not yet written
        self._placed: dict[str, Instance] = {}  # by the identity that was expected
        self._cell = cell

    def keep(self, event: AnyEvent) -> None:
        """Keep it for the measuring, unless the world says far too much."""
        if isinstance(event.what, OURS) or len(self.events) < EVENTS_PER_CYCLE_MAX:
            self.events.append(event)

    def add(self, what: What, *, at_ns: int) -> None:
        """Write what is found once it is over, when nothing that happens is kept any more."""
        event = Event(at_ns=at_ns, cell=self.cell, cycle=self.number, what=what)
        self.events.append(event)
        self._cell.emit(event)

    def expect(self, identity: str) -> None:
        self._cell.identities.add(identity)

    def placed(self, expected: str, instance: Instance) -> None:
        """Take note of where an instance is that was expected under this identity."""
        self._placed[expected] = instance
        if self.fold is not None and self.fold.new == expected:
            self.fold.new = instance.identity

    def begin(self, *, old: Instance | None, new: str | None, lasts: bool = False) -> None:
        cell = self._cell
        if new is not None:
            self.expect(new)
        there = self._placed.get(new) if new is not None else None  # started already
        began = FaultBegan(
            fault=self.label,
            kind=self.kind,
            old=old.identity if old else None,
            old_ip=old.address.host if old else None,
            new=there.identity if there else new,
            new_ip=there.address.host if there else None,  # else InstancePlaced says it later
            t0_unix=self.clock.unix_ns() / SECOND_NS,
            also=self.also or None,
            lasts=lasts or None,
        )
        # A slow disk must not become part of the recovery: it is written once the deed is done.
        asyncio.get_running_loop().call_soon(self.write_begin)
        t0_ns = self.began_ns = self.clock.now_ns()
        self.heard.put_nowait(Began(at_ns=t0_ns, which=MAIN))
        self._begin = Event(at_ns=t0_ns, cell=cell.name, cycle=self.number, what=began)
        self.fold = RecoveryFold(
            t0_ns,
            began.new,
            cell.identities,
            cell.settings,
            unknown=began.is_anonymous,
            waits=began.waits,
        )

    def spoil(self, cause: Cause) -> None:
        """Say that this is no sample any more; it goes on."""
        self.heard.put_nowait(Spoilt(at_ns=self.clock.now_ns(), cause=cause))

    def injected(self) -> None:
        """All that disturbs is done: where nothing is over before that, it is written."""
        if self.fold is not None and self.fold.waits:
            now_ns = self.clock.now_ns()
            self.record(FaultInjected(), at_ns=now_ns)
            self.fold.injected(now_ns)

    def outlasted(self) -> Cause | None:
        """Why nobody knows what came of it: the observation was over before its fault was done."""
        if self.fold is None or not self.fold.is_outlasted:
            return None
        return Cause(kind=CauseKind.TOO_LONG, seconds=self._cell.config.measure.recovery_limit.s)

    def advance(self, complete_ns: int) -> None:
        """All samples that were scheduled before this instant have been folded."""
        if self.fold is None or self._is_over:
            return
        over_ns = self.fold.over_at_ns(complete_ns)
        if over_ns is not None:
            self._is_over = True
            self.heard.put_nowait(Over(at_ns=self.clock.now_ns(), over_ns=over_ns))

    def write_begin(self) -> None:
        """Write down T0, if that has not been done."""
        begin, self._begin = self._begin, None
        if begin is not None:
            with suppress(ChaosdError):  # it has ended the run
                self._cell.emit(begin)


class CompanionRun(CellRecorder):
    """What a fault sees of a cycle that is another's: it has no T0 of its own."""

    def __init__(self, cycle: CycleRun, label: str, which: int, cell: CellRun) -> None:
        super().__init__(cycle.clock, cycle.cell, cell.emit)
        self.run, self.number, self.cycle = cycle.run, cycle.number, cycle.number
        self.label, self.chance = label, cycle.chance
        self.began_ns: int | None = None
        self._which, self._of = which, cycle

    @property
    def ending(self) -> bool:
        return self._of.ending

    def expect(self, identity: str) -> None:
        self._of.expect(identity)

    def begin(self, *, old: Instance | None, new: str | None, lasts: bool = False) -> None:
        self.began_ns = self.clock.now_ns()
        self._of.heard.put_nowait(Began(at_ns=self.began_ns, which=self._which))
