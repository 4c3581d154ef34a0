"""Take an instance away and bring it back on a fresh IP, while something else holds the old one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field

from chaosd.errors import MachineError
from chaosd.history.cycles import CycleKind
from chaosd.history.events import HoldAddress, ReleaseAddress, StartInstance, StopInstance
from chaosd.history.values import Instance
from chaosd.plugins.bases import FaultConfig, OldIp, Wait
from chaosd.plugins.fault import Circumstances, undoing, wait
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanHoldAddress, CanMove, Holder
from chaosd.plugins.timeline import Timeline, move
from chaosd.units import Duration


class Recreate:
    """What a container platform does at every deployment, crash and move."""

    class Config(FaultConfig):
        type: Literal["recreate"] = "recreate"
        signal: Literal["KILL", "TERM"] = Field(
            "KILL", description="how the old instance is told to go"
        )
        grace: Wait = Field(
            Duration.parse("10s"), description="after TERM, how long before it is killed"
        )
        old_ip: OldIp = Field(
            "refuse",
            description="what is found at the old address afterwards: nobody listens (refuse), "
            "another application answers (imposter), packets vanish (blackhole), connections are "
            "taken and never answered (tarpit), or there is no host at all (vacant)",
        )
        gap: Wait = Field(
            Duration.parse("200ms"), description="between one instance gone and the other started"
        )
        order: Literal["break-before-make", "make-before-break"] = Field(
            "break-before-make",
            description="whether the old instance goes first, or the new one is up first",
        )

    needs: ClassVar[tuple[type, ...]] = (CanMove, CanHoldAddress)
    kind: ClassVar[CycleKind] = CycleKind.FAILOVER

    def __init__(self, config: Config) -> None:
        self.config = config
        self._old: Instance | None = None  # who is taken away, from before that until it is healed
        self._identity = ""  # of the one that takes its place
        self._new: Instance | None = None  # the same once it is started
        self._holder: Holder | None = None

    @asynccontextmanager
    async def disturb(self, stage: CanHoldAddress, cycle: CycleContext) -> AsyncIterator[None]:
        async with undoing(lambda: self._undo(stage, cycle)):
            await self._move(stage, cycle)
            yield

    async def _move(self, stage: CanHoldAddress, cycle: CycleContext) -> None:
        # With several replicas each is moved in its turn: the one that has served longest.
        old = stage.app[0]
        self._holder = await stage.hold(self.config.old_ip)
        self._old, self._new = old, None
        self._expect(stage, cycle)
        if self.config.order == "make-before-break":
            await stage.ready(await self._start(stage, cycle))
            await wait(cycle, self.config.gap.s)
        await self._stop(stage, cycle, old, new=self._identity)
        async with cycle.deed(HoldAddress(ip=old.address.host, manner=self.config.old_ip)):
            await self._holder.take(old.address.host)
        if self.config.order == "break-before-make":
            await wait(cycle, self.config.gap.s)
            await stage.ready(await self._start(stage, cycle))

    async def _undo(self, stage: CanHoldAddress, cycle: CycleContext) -> None:
        """Leave as many instances as there were, and nothing on the old IP."""
        old, self._old = self._old, None
        if old is not None and not cycle.ending:
            if old not in stage.app:
                await self._serve(stage, cycle)
            elif self._new in stage.app:  # made, but not broken yet
                await self._stop(stage, cycle, self._new)
        holder, self._holder = self._holder, None
        if holder is not None:
            async with cycle.deed(ReleaseAddress()):
                await holder.release()

    def foretell(self, circumstances: Circumstances) -> Timeline:
        known = circumstances
        published_s, listening_s, reachable_s = 0.0, 0.0, None
        first = self.config.order == "make-before-break"
        if not first:
            started_s = known.stop_s + self.config.gap.s
            published_s = started_s + known.publish_s
            listening_s = started_s + known.app_start_s
            reachable_s = None if known.reach_s is None else started_s + known.reach_s
        return move(
            published_s=published_s,
            listening_s=listening_s,
            reachable_s=reachable_s,
            missing_s=None if first else 0.0,
            missing=known.missing,
            old_ip=self.config.old_ip,
            others=known.others,
            took_s=known.answer_s,
        )

    async def _serve(self, stage: CanHoldAddress, cycle: CycleContext) -> None:
        """See to it that an instance serves. Raises MachineError if two in a row don't listen."""
        new = self._new if self._new in stage.app else await self._start(stage, cycle)
        try:
            await stage.ready(new)
        except MachineError:
            await self._stop(stage, cycle, new)
            self._expect(stage, cycle)
            await stage.ready(await self._start(stage, cycle))

    def _expect(self, stage: CanHoldAddress, cycle: CycleContext) -> None:
        self._identity = stage.next_identity()
        cycle.expect(self._identity)

    async def _start(self, stage: CanHoldAddress, cycle: CycleContext) -> Instance:
        async with cycle.deed(StartInstance(identity=self._identity)):
            self._new = new = await stage.start(self._identity)
        return new

    async def _stop(
        self,
        stage: CanHoldAddress,
        cycle: CycleContext,
        instance: Instance,
        new: str | None = None,
    ) -> None:
        """Stop an instance; if there is one that takes its place, that is T0."""
        identity, (ip, _) = instance
        config = self.config
        async with cycle.deed(StopInstance(identity=identity, ip=ip, signal=config.signal)):
            if new is not None:
                cycle.begin(old=instance, new=new)
            await stage.stop(instance, config.signal, config.grace.s)
