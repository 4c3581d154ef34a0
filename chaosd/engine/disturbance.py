"""One disturbance while it lasts, in a task of its own: nobody but its owner can cut it off."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from chaosd.errors import ChaosdError, NotUndoneError
from chaosd.history.events import DisturbanceBegan, DisturbanceEnded
from chaosd.plugins.fault import Fault
from chaosd.plugins.recording import CycleContext
from chaosd.system.tasks import uncancelled


class Disturbance:
    """A fault's `disturb`, entered by `begin` and left by `end`. Its two edges are recorded."""

    def __init__(self, fault: Fault, stage: Any, cycle: CycleContext) -> None:
        self._fault, self._stage, self._cycle = fault, stage, cycle
        self._stands: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def _run(self) -> None:
        cycle = self._cycle
        async with self._fault.disturb(self._stage, cycle) as what:
            if what is not None:
                began = DisturbanceBegan(fault=cycle.label, disturbance=what)
                cycle.record(began, at_ns=cycle.began_ns)
            self._stands.set_result(None)
            await self._left.wait()
        if what is not None:
            with suppress(ChaosdError):  # it has ended the run, and the deed is undone
                cycle.record(DisturbanceEnded(fault=cycle.label, disturbance=what))

    async def begin(self) -> None:
        """Return once all of it is done. Raises what it raises; then it has been undone."""
        task = self._task = asyncio.get_running_loop().create_task(self._run())
        await asyncio.wait([task, self._stands], return_when=asyncio.FIRST_COMPLETED)
        if self._stands.done():
            return
        try:
            task.result()
        except NotUndoneError as error:  # `end` raises it again
            raise error.first or error from None

    async def end(self, limit_s: float) -> None:
        """Undo it, however far it has come; it may be called twice, and without `begin`.

        Raises MachineError or OSError if it can't be undone, TimeoutError if that takes too long.
        """
        task = self._task
        if task is None:
            return
        if self._stands.done():
            self._left.set()
        elif not task.done():
            task.cancel()
        try:
            await uncancelled(_ended(task), limit_s)
        except TimeoutError:
            task.cancel()
            raise
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None and (self._stands.done() or isinstance(error, NotUndoneError)):
            raise error


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])
