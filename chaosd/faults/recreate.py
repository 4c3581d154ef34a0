"""Take an instance away and bring it back on a fresh IP, while something else holds the old one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field

from chaosd.errors import MachineError
from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import HoldAddress, ReleaseAddress, StartInstance, StopInstance
from chaosd.history.disturbances import InstanceMoves
from chaosd.history.values import Instance
from chaosd.plugins.bases import EndingFaultConfig, OldIp, Wait
from chaosd.plugins.fault import Circumstances, undoing, wait
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanHoldAddress, CanMove, Holder
from chaosd.plugins.timeline import Timeline, move
from chaosd.units import Duration


class Recreate:
    """What a container platform does at every deployment, crash and move."""

    class Config(EndingFaultConfig):
        type: Literal["recreate"] = "recreate"
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

    @asynccontextmanager
    async def disturb(
        self, stage: CanHoldAddress, cycle: CycleContext
    ) -> AsyncIterator[InstanceMoves]:
        # With several replicas each is moved in its turn: the one that has served longest.
        old = stage.app[0]
        move = _Move(self.config, stage, cycle, old)
        async with undoing(move.undo):
            await move.make()
            yield InstanceMoves(
                identity=old.identity, ip=old.address.host, old_ip=self.config.old_ip
            )

    def prepares_s(self, circumstances: Circumstances) -> float:
        first = self.config.order == "make-before-break"
        return circumstances.app_start_s + self.config.gap.s if first else 0.0

    def foretell(self, circumstances: Circumstances) -> Timeline:
        published_s, listening_s, reachable_s = 0.0, 0.0, None
        first = self.config.order == "make-before-break"
        if not first:
            started_s = circumstances.stop_s + self.config.gap.s
            published_s = started_s + circumstances.publish_s
            listening_s = started_s + circumstances.app_start_s
            reach_s = circumstances.reach_s
            reachable_s = None if reach_s is None else started_s + reach_s
        return move(
            published_s=published_s,
            listening_s=listening_s,
            reachable_s=reachable_s,
            missing_s=None if first else 0.0,
            missing=circumstances.missing,
            old_ip=self.config.old_ip,
            others=circumstances.others,
            gone_s=published_s if circumstances.missing == "stale" else 0.0,
            took_s=circumstances.answer_s,
            held_s=0.0 if self.config.old_ip in ("refuse", "vacant") else circumstances.held_s,
        )


class _Move:
    """One move of one instance, and how far it has come."""

    def __init__(
        self, config: Recreate.Config, stage: CanHoldAddress, cycle: CycleContext, old: Instance
    ) -> None:
        self._config, self._stage, self._cycle = config, stage, cycle
        self._old = old
        self._identity = ""  # of the one that takes its place
        self._new: Instance | None = None  # the same once it is started
        self._holder: Holder | None = None

    async def make(self) -> None:
        stage, cycle, config = self._stage, self._cycle, self._config
        self._holder = await stage.hold(config.old_ip)
        self._expect()
        if config.order == "make-before-break":
            await stage.ready(await self._start())
            await wait(cycle, config.gap.s)
        await self._stop(self._old, new=self._identity)
        host = self._old.address.host
        async with cycle.deed(HoldAddress(ip=host, manner=config.old_ip)):
            await self._holder.take(host)
        if config.order == "break-before-make":
            await wait(cycle, config.gap.s)
            await stage.ready(await self._start())

    async def undo(self) -> None:
        """Leave as many instances as there were, and nothing on the old IP."""
        stage, cycle = self._stage, self._cycle
        if not cycle.ending:
            if self._old not in stage.app:
                await self._serve()
            elif self._new is not None and self._new in stage.app:  # made, but not broken yet
                await self._stop(self._new)
        if self._holder is not None:
            async with cycle.deed(ReleaseAddress()):
                await self._holder.release()

    async def _serve(self) -> None:
        """See to it that an instance serves. Raises MachineError if two in a row don't listen."""
        stage = self._stage
        there = self._new is not None and self._new in stage.app
        new = self._new if there and self._new is not None else await self._start()
        try:
            await stage.ready(new)
        except MachineError:
            await self._stop(new)
            self._expect()
            await stage.ready(await self._start())

    def _expect(self) -> None:
        self._identity = self._stage.next_identity()
        self._cycle.expect(self._identity)

    async def _start(self) -> Instance:
        async with self._cycle.deed(StartInstance(identity=self._identity)):
            self._new = new = await self._stage.start(self._identity)
        return new

    async def _stop(self, instance: Instance, new: str | None = None) -> None:
        """Stop an instance; if there is one that takes its place, that is T0."""
        identity, (ip, _) = instance
        config, cycle = self._config, self._cycle
        async with cycle.deed(StopInstance(identity=identity, ip=ip, signal=config.signal)):
            if new is not None:
                cycle.begin(old=instance, new=new)
            await self._stage.stop(instance, config.signal, config.grace.s)
