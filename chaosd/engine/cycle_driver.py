"""Performs what a cycle's machine says: the tasks, the timer and the limits around it.

The machine decides, this does. What happens is put into one queue and told to the machine in that
order. A stop reaches this task as a cancellation: then what was begun is undone all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from chaosd.engine.cycle import CycleRun
from chaosd.engine.cycle_machine import (
    AllDone,
    Broke,
    CycleMachine,
    Due,
    End,
    Enter,
    FailRun,
    Heard,
    Leave,
    NotUndone,
    Refused,
    Restored,
    Stands,
    State,
    Stopped,
    ToDo,
    Undone,
    WakeAt,
    Woke,
)
from chaosd.engine.disturbance import Disturbance
from chaosd.engine.server_poller import ServerPoller
from chaosd.errors import MachineError
from chaosd.history.causes import Cause, CauseKind
from chaosd.history.events import FaultEnded
from chaosd.system.clock import SECOND_NS


def _cause(error: Exception) -> Cause:
    if isinstance(error, MachineError | OSError):
        return Cause(kind=CauseKind.MACHINE, detail=str(error) or type(error).__name__)
    return Cause(kind=CauseKind.BUG, detail=f"{type(error).__name__}: {error}")


class Owner(Protocol):
    """What a cycle needs of the run that it is part of."""

    @property
    def failing(self) -> bool: ...

    def fail(self, error: Exception) -> None: ...


class CycleDriver:
    """One cycle from its time to its end."""

    def __init__(
        self,
        cycle: CycleRun,
        machine: CycleMachine,
        disturbances: Sequence[Disturbance],
        run: Owner,
    ) -> None:
        self._cycle, self._machine, self._disturbances = cycle, machine, disturbances
        self._run = run
        self._clock = cycle.clock
        self._heard = cycle.heard
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.Task[None] | None = None
        self._failures: list[Exception] = []  # which end the run: bugs, and what can't be undone
        self._is_cancelled = False
        self.end = End(over_ns=None, cause=Cause(kind=CauseKind.BUG, detail="it has no end"))

    async def run(self, *, unsteady: str | None, poller: ServerPoller, api: str | None) -> None:
        """Return once all is undone. `unsteady` says why the app does not answer steadily before.

        Raises what ends the run: a bug, MachineError if something can't be undone, or the
        cancellation that came meanwhile.
        """
        if unsteady is not None:
            self._hear(Due(at_ns=self._clock.now_ns(), steady=False, seen=unsteady))
        else:
            try:
                async with poller.closely(api, self._cycle):
                    self._hear(Due(at_ns=self._clock.now_ns(), steady=True))
                    await self._go_on(State.UNDOING)
            except asyncio.CancelledError:
                self._stopped()
            except Exception as error:  # noqa: BLE001 - what was begun is undone before it is raised
                self._broke(error)
        await self._go_on(State.ENDED)
        for task in self._tasks:
            task.cancel()  # what took too long
        if self._failures:
            raise self._failures[0]
        if self._is_cancelled:
            raise asyncio.CancelledError

    async def _go_on(self, until: State) -> None:
        """Tell the machine what happens, until it is so far; it ends within its own limits."""
        while self._machine.state not in (until, State.ENDED):
            try:
                self._hear(await self._heard.get())
            except asyncio.CancelledError:
                self._stopped()

    def _stopped(self) -> None:
        self._is_cancelled = True
        self._hear(Stopped(at_ns=self._clock.now_ns(), failing=self._run.failing))

    def _broke(self, error: Exception) -> None:
        cause = _cause(error)
        if cause.kind is CauseKind.BUG:
            self._failures.append(error)
        self._hear(Broke(at_ns=self._clock.now_ns(), cause=cause))

    def _hear(self, heard: Heard) -> None:
        to_do = self._machine.hear(heard)
        self._cycle.ending = self._machine.ending
        for each in to_do:
            try:
                self._do(each)
            except Exception as error:  # noqa: BLE001 - such as a full disk; what was begun is undone
                self._broke(error)

    def _do(self, each: ToDo) -> None:
        cycle = self._cycle
        match each:
            case Enter(which=which):
                self._start(self._enter(which))
            case Leave(which=which, limit_ns=limit_ns):
                self._start(self._leave(which, limit_ns / SECOND_NS))
            case WakeAt(at_ns=at_ns):
                if self._alarm is not None:
                    self._alarm.cancel()
                self._alarm = None if at_ns is None else self._start(self._wake(at_ns))
            case Restored(which=which):
                cycle.record(FaultEnded(fault=self._label(which)))
            case AllDone():
                cycle.injected()
            case FailRun(cause=cause, which=which):
                self._fail(cause, which)
            case End() as end:
                self.end = end

    def _fail(self, cause: Cause, which: int | None) -> None:
        cycle = self._cycle
        if which is None:
            what = f"cell {cycle.cell}: the prober delivers nothing any more"
            self._run.fail(MachineError(what))
            return
        what = f"cell {cycle.cell}: cycle {cycle.number}: {self._label(which)} can't be undone"
        self._failures.append(MachineError(f"{what}: {cause.detail}"))

    def _label(self, which: int) -> str:
        return (self._cycle.label, *self._cycle.also)[which]

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _enter(self, which: int) -> None:
        try:
            await self._disturbances[which].begin()
        except Exception as error:  # noqa: BLE001 - a plugin's: it is told, and raised once all is undone
            cause = _cause(error)
            if cause.kind is CauseKind.BUG:
                self._failures.append(error)
            self._tell(Refused(at_ns=self._clock.now_ns(), which=which, cause=cause))
        else:
            self._tell(Stands(at_ns=self._clock.now_ns(), which=which))

    async def _leave(self, which: int, limit_s: float) -> None:
        try:
            await self._disturbances[which].end(limit_s)
        except Exception as error:  # noqa: BLE001 - as above
            if _cause(error).kind is CauseKind.BUG:
                self._failures.append(error)
            took = "" if not isinstance(error, TimeoutError) else f"it took over {limit_s:.0f} s"
            why = str(error) or took or type(error).__name__
            self._tell(NotUndone(at_ns=self._clock.now_ns(), which=which, why=why))
        else:
            self._tell(Undone(at_ns=self._clock.now_ns(), which=which))

    async def _wake(self, at_ns: int) -> None:
        await self._clock.sleep_until(at_ns)
        self._tell(Woke(at_ns=self._clock.now_ns()))

    def _tell(self, heard: Heard) -> None:
        self._heard.put_nowait(heard)
