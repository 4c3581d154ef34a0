"""A cycle while it goes on: what its fault sees of it, and what it has gathered so far."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from chaosd.analysis.recovery import RecoveryFold
from chaosd.engine.cycle_machine import MAIN, Began, Heard, Over, Spoilt
from chaosd.engine.recorder import CellRecorder
from chaosd.errors import ChaosdError
from chaosd.history.causes import Cause
from chaosd.history.events import (
    AnyEvent,
    Asked,
    CycleEnded,
    CycleSkipped,
    Disturbed,
    Done,
    Event,
    Failed,
    FaultBegan,
    FaultEnded,
    FaultInjected,
    InstancePlaced,
    RecoveryPredicted,
    StreamOpened,
)
from chaosd.history.values import Instance, Sample
from chaosd.plugins.fault import Fault
from chaosd.system.clock import SECOND_NS

if TYPE_CHECKING:
    from chaosd.engine.cell import CellRun

EVENTS_PER_CYCLE_MAX = 10_000
OURS = (
    *(Asked, Done, Failed, StreamOpened, InstancePlaced, FaultBegan, FaultInjected, FaultEnded),
    *(RecoveryPredicted, CycleEnded, CycleSkipped, Disturbed),
)


class CycleRun(CellRecorder):
    """A cycle while it goes on: what its fault sees of it, and what it has gathered so far."""

    def __init__(self, cell: CellRun, fault: Fault, label: str) -> None:
        super().__init__(cell.clock, cell.name, cell.emit)
        self.run = cell.plan.run_id
        self.number = self.cycle = cell.recorder.cycle
        self.kind = fault.kind
        self.label = label
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

    def expect(self, identity: str) -> None:
        self._cell.identities.add(identity)

    def placed(self, expected: str, instance: Instance) -> None:
        """Take note of where an instance is that was expected under this identity."""
        self._placed[expected] = instance
        if self.fold is not None and self.fold.new == expected:
            self.fold.new = instance.identity

    def begin(self, *, old: Instance | None, new: str | None) -> None:
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
        )
        # A slow disk must not become part of the recovery: it is written once the deed is done.
        asyncio.get_running_loop().call_soon(self.write_begin)
        t0_ns = self.clock.now_ns()
        self.heard.put_nowait(Began(at_ns=t0_ns, which=MAIN))
        self._begin = Event(at_ns=t0_ns, cell=cell.name, cycle=self.number, what=began)
        self.fold = RecoveryFold(
            t0_ns, began.new, cell.identities, cell.settings, unknown=began.is_anonymous
        )

    def spoil(self, cause: Cause) -> None:
        """Say that this is no sample any more; it goes on."""
        self.heard.put_nowait(Spoilt(at_ns=self.clock.now_ns(), cause=cause))

    def injected(self) -> None:
        """All that disturbs is done: where nobody can tell the new instance, that is written."""
        if self.fold is not None and self.fold.unknown:
            now_ns = self.clock.now_ns()
            self.record(FaultInjected(), at_ns=now_ns)
            self.fold.injected(now_ns)

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
