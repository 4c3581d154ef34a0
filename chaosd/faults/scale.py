"""Scale the app up or down for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field

from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import StartInstance, StopInstance
from chaosd.history.disturbances import AppScaled
from chaosd.history.values import Instance
from chaosd.plugins.bases import EndingFaultConfig, Signal, WindowedFaultConfig
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanMove


class Scale:
    """What an autoscaler does: instances come or go, and after the window it is as before.

    Up, the recovery ends with the first good answer of the last one that came: so it needs a slot
    in the proxy's template (`spare_slots`). Down, nobody comes: users are unaffected where others
    serve.
    """

    class Config(EndingFaultConfig, WindowedFaultConfig):
        type: Literal["scale"] = "scale"
        by: int = Field(
            1, ge=-8, le=8, description="so many more instances, or fewer if it is negative"
        )
        signal: Signal = "TERM"

    needs: ClassVar[tuple[type, ...]] = (CanMove,)
    kind: ClassVar[CycleKind] = CycleKind.FAILOVER

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(self, stage: CanMove, cycle: CycleContext) -> AsyncIterator[AppScaled]:
        config, before = self.config, len(stage.app)
        after = max(0, before + config.by)
        identities = [stage.next_identity() for _ in range(after - before)]

        def begin() -> None:
            if cycle.began_ns is None:
                cycle.begin(old=None, new=identities[-1] if identities else None, lasts=True)

        async def start(identity: str) -> None:
            cycle.expect(identity)
            async with cycle.deed(StartInstance(identity=identity)):
                begin()
                new = await stage.start(identity)
            await stage.ready(new)

        async def stop(instance: Instance) -> None:
            who, (ip, _) = instance
            async with cycle.deed(StopInstance(identity=who, ip=ip, signal=config.signal)):
                begin()
                await stage.stop(instance, config.signal, config.grace.s)

        async def undo() -> None:
            """The youngest go, or others come, until there are as many as before."""
            while not cycle.ending and len(stage.app) > before:
                await stop(stage.app[-1])
            while not cycle.ending and len(stage.app) < before:
                await start(stage.next_identity())

        async with undoing(undo):
            if identities:
                cycle.expect(identities[-1])
            for identity in identities:
                await start(identity)
            for instance in stage.app[after:] if after < before else ():
                await stop(instance)
            if cycle.began_ns is None:
                begin()  # there is nothing to be scaled
            yield AppScaled(before=before, after=after)
