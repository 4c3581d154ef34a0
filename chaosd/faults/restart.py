"""Restart an instance at its own address: the control in which a proxy has nothing to find."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from chaosd.config.units import Duration
from chaosd.history.values import Instance
from chaosd.plugins.bases import FaultConfig, Wait
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanReplace
from chaosd.system.clock import sleep


class Restart:
    """What `recreate` does, but for the fresh IP.

    The app is as long away, and its name with it; what the proxy does not need is a new address.
    So the difference of the two is what finding it costs, and no answer can be misrouted.
    """

    class Config(FaultConfig):
        type: Literal["restart"] = "restart"
        signal: Literal["KILL", "TERM"] = Field("KILL", description="how the instance is ended")
        grace: Wait = Field(
            Duration.parse("10s"), description="after TERM, how long before it is killed"
        )
        gap: Wait = Field(
            Duration.parse("200ms"), description="between the instance gone and started again"
        )

    needs: ClassVar[tuple[type, ...]] = (CanReplace,)
    control: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self._moving: tuple[Instance, Instance] | None = None

    async def inject(self, stage: CanReplace, cycle: CycleContext) -> None:
        config, old = self.config, stage.app[0]
        ip = old.address.host
        again = stage.reserve(at=ip)
        self._moving = old, again
        cycle.expect(again)
        async with cycle.action("stop", identity=old.identity, ip=ip, signal=config.signal):
            cycle.begin(old=old, new=again)
            await stage.stop(old, config.signal, config.grace.s)
        await sleep(cycle.clock, config.gap.s)
        await self._start(stage, cycle, again)

    async def heal(self, stage: CanReplace, cycle: CycleContext) -> None:
        """See to it that it serves again."""
        moving, self._moving = self._moving, None
        if moving is None or cycle.ending:
            return
        old, again = moving
        if old in stage.app:  # not stopped yet
            return
        if again not in stage.app:
            await self._start(stage, cycle, again)
        else:
            await stage.ready(again)

    async def _start(self, stage: CanReplace, cycle: CycleContext, again: Instance) -> None:
        async with cycle.action("start", identity=again.identity, ip=again.address.host):
            await stage.start(again)
        await stage.ready(again)
