"""Restart an instance at its own address: the control in which a proxy has nothing to find."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field

from chaosd.history.cycles import CycleKind
from chaosd.history.events import StartInstance, StopInstance
from chaosd.history.values import Instance
from chaosd.plugins.bases import FaultConfig, Wait
from chaosd.plugins.fault import undoing, wait
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanHoldAddress, CanMove
from chaosd.units import Duration


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

    needs: ClassVar[tuple[type, ...]] = (CanMove, CanHoldAddress)
    kind: ClassVar[CycleKind] = CycleKind.RESTART

    def __init__(self, config: Config) -> None:
        self.config = config
        self._old: Instance | None = None  # who is restarted, from before that until it is healed
        self._identity = ""  # under which it comes back
        self._again: Instance | None = None  # the same once it is started

    @asynccontextmanager
    async def disturb(self, stage: CanHoldAddress, cycle: CycleContext) -> AsyncIterator[None]:
        async with undoing(lambda: self._undo(stage, cycle)):
            await self._restart(stage, cycle)
            yield

    async def _restart(self, stage: CanHoldAddress, cycle: CycleContext) -> None:
        config, old = self.config, stage.app[0]
        self._old, self._again, self._identity = old, None, stage.next_identity()
        cycle.expect(self._identity)
        identity, (ip, _) = old
        async with cycle.deed(StopInstance(identity=identity, ip=ip, signal=config.signal)):
            cycle.begin(old=old, new=self._identity)
            await stage.stop(old, config.signal, config.grace.s)
        await wait(cycle, config.gap.s)
        await self._start(stage, cycle, ip)

    async def _undo(self, stage: CanHoldAddress, cycle: CycleContext) -> None:
        old, self._old = self._old, None
        if old is None or cycle.ending or old in stage.app:  # not stopped yet
            return
        if self._again in stage.app:
            await stage.ready(self._again)
        else:
            await self._start(stage, cycle, old.address.host)

    async def _start(self, stage: CanHoldAddress, cycle: CycleContext, ip: str) -> None:
        async with cycle.deed(StartInstance(identity=self._identity, ip=ip)):
            self._again = again = await stage.start(self._identity, ip)
        await stage.ready(again)
