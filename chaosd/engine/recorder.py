"""Writes what is done to a cell and what it says of itself, with the cycle it belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from chaosd.history.events import Action, Event, Reading
from chaosd.system.clock import Clock


class CellRecorder:
    """Writes the actions and readings of one cell, with the number of the cycle that goes on."""

    def __init__(self, clock: Clock, cell: str, emit: Callable[[Event], None]) -> None:
        self.clock = clock
        self.cell = cell
        self.cycle = 0  # 0 outside of cycles
        self._emit = emit

    def reading(
        self,
        source: str,
        what: str,
        *,
        at_ns: int | None = None,
        error_ns: int = 0,
        **data: Any,
    ) -> None:
        at_ns = self.clock.now_ns() if at_ns is None else at_ns
        self._emit(
            Reading(
                at_ns=at_ns,
                cell=self.cell,
                cycle=self.cycle,
                source=source,
                what=what,
                error_ns=error_ns,
                data=data,
            )
        )

    @asynccontextmanager
    async def action(self, verb: str, **data: Any) -> AsyncIterator[None]:
        self._edge(verb, "asked", data)
        try:
            yield
        except BaseException as error:
            self._edge(verb, "failed", data | {"error": str(error) or type(error).__name__})
            raise
        self._edge(verb, "done", data)

    def _edge(self, verb: str, edge: str, data: dict[str, Any]) -> None:
        self._emit(
            Action(
                at_ns=self.clock.now_ns(),
                cell=self.cell,
                cycle=self.cycle,
                verb=verb,
                edge=edge,
                data=data,
            )
        )
