"""A fault of somebody else's: stop an instance gently and start the next one, with a pause."""

from __future__ import annotations

from typing import ClassVar, Literal

from chaosd.system.clock import sleep
from chaosd.history.values import Instance
from chaosd.plugins.bases import FaultConfig
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanReplace
from chaosd.config.units import Duration


class Redeploy:
    class Config(FaultConfig):
        type: Literal["redeploy"] = "redeploy"
        pause: Duration = Duration.parse("100ms")

    needs: ClassVar[tuple[type, ...]] = (CanReplace,)
    control: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        self.config = config
        self._new: Instance | None = None

    async def inject(self, stage: CanReplace, cycle: CycleContext) -> None:
        old, new = stage.app[0], stage.reserve()
        self._new = new
        cycle.expect(new)
        async with cycle.action("stop", identity=old.identity, ip=old.address.host, signal="TERM"):
            cycle.begin(old=old, new=new)
            await stage.stop(old, "TERM", 5.0)
        await sleep(cycle.clock, self.config.pause.s)
        async with cycle.action("start", identity=new.identity, ip=new.address.host):
            await stage.start(new)
        await stage.ready(new)

    async def heal(self, stage: CanReplace, cycle: CycleContext) -> None:
        new, self._new = self._new, None
        if new is not None and new not in stage.app and not cycle.ending:
            async with cycle.action("start", identity=new.identity, ip=new.address.host):
                await stage.start(new)
            await stage.ready(new)
