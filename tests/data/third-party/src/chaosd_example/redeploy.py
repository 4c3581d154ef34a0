"""A fault of somebody else's: stop an instance gently and start the next one, with a pause."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from chaosd.history.cycles import CycleKind
from chaosd.history.events import StartInstance, StopInstance
from chaosd.history.values import Instance
from chaosd.plugins.bases import FaultConfig
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanMove
from chaosd.system.clock import sleep
from chaosd.units import Duration


class Redeploy:
    class Config(FaultConfig):
        type: Literal["redeploy"] = "redeploy"
        pause: Duration = Duration.parse("100ms")

    needs: ClassVar[tuple[type, ...]] = (CanMove,)
    kind: ClassVar[CycleKind] = CycleKind.FAILOVER

    def __init__(self, config: Config) -> None:
        self.config = config
        self._old: Instance | None = None
        self._identity = ""
        self._new: Instance | None = None

    @asynccontextmanager
    async def disturb(self, stage: CanMove, cycle: CycleContext) -> AsyncIterator[None]:
        async with undoing(lambda: self._undo(stage, cycle)):
            await self._move(stage, cycle)
            yield

    async def _move(self, stage: CanMove, cycle: CycleContext) -> None:
        old = stage.app[0]
        self._old, self._new, self._identity = old, None, stage.next_identity()
        cycle.expect(self._identity)
        stop = StopInstance(identity=old.identity, ip=old.address.host, signal="TERM")
        async with cycle.deed(stop):
            cycle.begin(old=old, new=self._identity)
            await stage.stop(old, "TERM", 5.0)
        await sleep(cycle.clock, self.config.pause.s)
        await self._start(stage, cycle)

    async def _undo(self, stage: CanMove, cycle: CycleContext) -> None:
        old, self._old = self._old, None
        if old is None or cycle.ending or old in stage.app:
            return
        if self._new not in stage.app:
            await self._start(stage, cycle)

    async def _start(self, stage: CanMove, cycle: CycleContext) -> None:
        async with cycle.deed(StartInstance(identity=self._identity)):
            self._new = await stage.start(self._identity)
        await stage.ready(self._new)
