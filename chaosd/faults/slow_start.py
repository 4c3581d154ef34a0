"""Move an instance, and let the new one answer nothing for a while after it listens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field

from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import ImpairInstance, RestoreInstance, StartInstance, StopInstance
from chaosd.history.disturbances import InstanceMoves
from chaosd.history.values import Instance
from chaosd.plugins.bases import EndingFaultConfig, Wait
from chaosd.plugins.fault import undoing, wait
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanMove, CanPause
from chaosd.units import Duration


class MovesAndPauses(CanMove, CanPause):
    """What it needs of a stage."""


class SlowStart:
    """What an app does that listens before it is warm: a JVM, a cold cache, a first connection.

    The new instance takes connections as soon as it listens, and answers what waits once `cold` is
    over. A check that only connects finds it well at once. (`app.start_delay` lets it listen late,
    `app.healthy_after` lets it answer 503.)
    """

    class Config(EndingFaultConfig):
        type: Literal["slow-start"] = "slow-start"
        cold: Wait = Field(
            Duration.parse("3s"), description="how long the new instance answers nothing"
        )
        gap: Wait = Field(
            Duration.parse("200ms"), description="between one instance gone and the other started"
        )

    needs: ClassVar[tuple[type, ...]] = (CanMove, CanPause)
    kind: ClassVar[CycleKind] = CycleKind.FAILOVER

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(
        self, stage: MovesAndPauses, cycle: CycleContext
    ) -> AsyncIterator[InstanceMoves]:
        config, old, identity = self.config, stage.app[0], stage.next_identity()
        who, (ip, _) = old
        new: Instance | None = None
        paused = False

        async def start() -> Instance:
            async with cycle.deed(StartInstance(identity=identity)):
                started = await stage.start(identity)
            await stage.ready(started)
            return started

        async def resume(instance: Instance) -> None:
            async with cycle.deed(RestoreInstance(identity=instance.identity, how="pause")):
                await stage.resume(instance)

        async def undo() -> None:
            if cycle.ending or old in stage.app:
                return
            if new is None or new not in stage.app:
                left = [each for each in stage.app if each.identity == identity]
                await (stage.ready(left[0]) if left else start())
            elif paused:
                await resume(new)

        async with undoing(undo):
            cycle.expect(identity)
            async with cycle.deed(StopInstance(identity=who, ip=ip, signal=config.signal)):
                cycle.begin(old=old, new=identity)
                await stage.stop(old, config.signal, config.grace.s)
            await wait(cycle, config.gap.s)
            new = await start()
            async with cycle.deed(ImpairInstance(identity=new.identity, how="pause")):
                paused = True
                await stage.pause(new)
            await wait(cycle, config.cold.s)
            await resume(new)
            paused = False
            yield InstanceMoves(identity=who, ip=ip)
