"""A runtime like an orchestrator: who asks it for an instance learns its address later."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Literal

from chaosd.history.values import Address, Instance
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CanMove, CellSpec
from chaosd.runtimes.realtime import standing
from chaosd.runtimes.roster import Entry, Roster, Signal
from chaosd.runtimes.sim import SimRuntime
from chaosd.system.clock import sleep

SCHEDULED_S, LISTENING_S, GONE_S = 0.3, 0.2, 0.05


class Scheduler:
    """Places instances by itself, some time after they were asked for."""

    def __init__(self) -> None:
        self._hosts = (f"10.9.{number // 250}.{number % 250 + 1}" for number in count())
        self.free: deque[str] = deque()  # what it gives out first, if that is not remembered

    async def place(self, clock) -> str:
        await sleep(clock, SCHEDULED_S)
        return self.free.popleft() if self.free else next(self._hosts)


class LateStage(Roster[str]):
    """One cell, of which only the instances are anything."""

    entry, way_in, api, dns_queries = Address("10.9.255.1", 80), "nothing", None, None

    def __init__(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> None:
        super().__init__(cell, recorder, failed)
        self.scheduler = Scheduler()
        self._timers: set[asyncio.Task[None]] = set()

    async def set_up(self) -> None:
        await self._set_up_app()

    def proxy_process(self) -> dict[str, int]:
        return {}

    async def close(self) -> None:
        self._closed = True
        for task in self._timers:
            task.cancel()

    async def _create(self, entry: Entry[str]) -> Instance:
        entry.body = await self.scheduler.place(self._clock)
        instance = self.place(entry, entry.body)
        task = asyncio.ensure_future(self._listen(entry, instance))
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)
        return instance

    async def _listen(self, entry: Entry[str], instance: Instance) -> None:
        await sleep(self._clock, LISTENING_S + self._cell.app.start_delay_s)
        self.listening(entry, str(instance.address))

    async def _kill(self, entry: Entry[str], signal: Signal, grace_s: float) -> None:
        try:
            await sleep(self._clock, GONE_S)
        finally:
            self.gone(entry)

    def _obituary(self, entry: Entry[str]) -> str:
        return f"app {entry.name} died"

    def _readiness(self) -> Literal["said"]:
        return "said"


class LateRuntime(SimRuntime):
    """Under virtual time, with an ability less than the simulated world."""

    def abilities(self) -> Sequence[type]:
        return (CanMove,)

    async def set_up(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> LateStage:
        return await standing(LateStage(cell, recorder, failed))
