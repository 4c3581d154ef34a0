"""A fault of somebody else's: stop an instance gently and start the next one, with a pause."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import InstanceMoves
from chaosd.history.deeds import StartInstance, StopInstance
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

    @asynccontextmanager
    async def disturb(self, stage: CanMove, cycle: CycleContext) -> AsyncIterator[InstanceMoves]:
        old, identity = stage.app[0], stage.next_identity()
        ip = old.address.host
        new: Instance | None = None  # once it is started

        async def start() -> None:
            nonlocal new
            async with cycle.deed(StartInstance(identity=identity)):
                new = await stage.start(identity)
            await stage.ready(new)

        async def undo() -> None:
            if not cycle.ending and old not in stage.app and new not in stage.app:
                await start()

        async with undoing(undo):
            cycle.expect(identity)
            async with cycle.deed(StopInstance(identity=old.identity, ip=ip, signal="TERM")):
                cycle.begin(old=old, new=identity)
                await stage.stop(old, "TERM", 5.0)
            await sleep(cycle.clock, self.config.pause.s)
            await start()
            yield InstanceMoves(identity=old.identity, ip=ip)
