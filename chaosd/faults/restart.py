"""Restart an instance at its own address: the control in which a proxy has nothing to find."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field

from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import StartInstance, StopInstance
from chaosd.history.disturbances import InstanceRestarts
from chaosd.history.values import Instance
from chaosd.plugins.bases import EndingFaultConfig, Wait
from chaosd.plugins.fault import undoing, wait
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanHoldAddress, CanMove
from chaosd.units import Duration


class Restart:
    """What `recreate` does, but for the fresh IP.

    The app is as long away, and its name with it; what the proxy does not need is a new address.
    So the difference of the two is what finding it costs, and no answer can be misrouted.
    """

    class Config(EndingFaultConfig):
        type: Literal["restart"] = "restart"
        gap: Wait = Field(
            Duration.parse("200ms"), description="between the instance gone and started again"
        )

    needs: ClassVar[tuple[type, ...]] = (CanMove, CanHoldAddress)
    kind: ClassVar[CycleKind] = CycleKind.RESTART

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(
        self, stage: CanHoldAddress, cycle: CycleContext
    ) -> AsyncIterator[InstanceRestarts]:
        config, old, identity = self.config, stage.app[0], stage.next_identity()
        ip = old.address.host
        again: Instance | None = None  # the same instance once it is started

        async def start() -> None:
            nonlocal again
            async with cycle.deed(StartInstance(identity=identity, ip=ip)):
                again = await stage.start(identity, ip)
            await stage.ready(again)

        async def undo() -> None:
            if cycle.ending or old in stage.app:  # not stopped yet
                return
            if again is not None and again in stage.app:
                await stage.ready(again)
            else:
                await start()

        async with undoing(undo):
            cycle.expect(identity)
            stop = StopInstance(identity=old.identity, ip=ip, signal=config.signal)
            async with cycle.deed(stop):
                cycle.begin(old=old, new=identity)
                await stage.stop(old, config.signal, config.grace.s)
            await wait(cycle, config.gap.s)
            await start()
            yield InstanceRestarts(identity=old.identity, ip=ip)
