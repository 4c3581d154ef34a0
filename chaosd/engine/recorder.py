"""Writes what is done to a cell and what it says of itself, with the cycle it belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from chaosd import shown
from chaosd.history.deeds import Asked, Deed, Done, Failed
from chaosd.history.events import AnyEvent, Event, OtherReading, What
from chaosd.system.clock import Clock


class CellRecorder:
    """Writes the deeds and events of one cell, with the number of the cycle that goes on."""

    def __init__(self, clock: Clock, cell: str, emit: Callable[[AnyEvent], None]) -> None:
        self.clock = clock
        self.cell = cell
        self.cycle = 0  # 0 outside of cycles
        self._emit = emit

    def record(self, what: What, *, at_ns: int | None = None, error_ns: int = 0) -> None:
        at_ns = self.clock.now_ns() if at_ns is None else at_ns
        self._emit(
            Event(at_ns=at_ns, cell=self.cell, cycle=self.cycle, what=what, error_ns=error_ns)
        )

    @asynccontextmanager
    async def deed(self, deed: Deed) -> AsyncIterator[None]:
        self.record(Asked(deed=deed))
        try:
            yield
        except BaseException as error:
            self.record(Failed(deed=deed, error=str(error) or type(error).__name__))
            raise
        self.record(Done(deed=deed))

    def tell(self, source: str, what: str, **details: Any) -> None:
        self.record(OtherReading(source=source, what=what, details=shown.mask_tree(details)))
