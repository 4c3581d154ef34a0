"""Give the app's name to a new instance while the old one lives on for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field

from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import StartInstance, StopInstance, SwitchName
from chaosd.history.disturbances import InstanceReplaced
from chaosd.history.values import Instance
from chaosd.plugins.bases import EndingFaultConfig, Signal, Wait
from chaosd.plugins.fault import Circumstances, undoing, wait
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanSwitch
from chaosd.plugins.timeline import Timeline, move
from chaosd.units import Duration


class BlueGreen:
    """A blue/green deployment: both versions are up, and DNS is what moves users.

    T0 is the switch of the name. From then on every answer of the old instance is misrouted: of
    requests that the proxy sent there before it knew, and of those that go over connections which
    it keeps. At the end of `keep` the old instance goes as it is told.
    """

    class Config(EndingFaultConfig):
        type: Literal["bluegreen"] = "bluegreen"
        keep: Wait = Field(
            Duration.parse("5s"), description="how long the old instance lives on after the switch"
        )
        signal: Signal = "TERM"

    needs: ClassVar[tuple[type, ...]] = (CanSwitch,)
    kind: ClassVar[CycleKind] = CycleKind.FAILOVER

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(
        self, stage: CanSwitch, cycle: CycleContext
    ) -> AsyncIterator[InstanceReplaced]:
        # With several replicas each is replaced in its turn: the one that has served longest.
        config, old, identity = self.config, stage.app[0], stage.next_identity()
        new: Instance | None = None
        switched = False

        async def stop(instance: Instance) -> None:
            who, (ip, _) = instance
            async with cycle.deed(StopInstance(identity=who, ip=ip, signal=config.signal)):
                await stage.stop(instance, config.signal, config.grace.s)

        async def undo() -> None:
            """One of the two goes: the old one, once the name is the other's."""
            leaving = old if switched else new
            if not cycle.ending and leaving is not None and leaving in stage.app:
                await stop(leaving)

        async with undoing(undo):
            cycle.expect(identity)
            async with cycle.deed(StartInstance(identity=identity)):
                new = await stage.start_aside(identity)
            await stage.ready(new)
            async with cycle.deed(SwitchName(old=old.identity, new=new.identity)):
                cycle.begin(old=old, new=identity, lasts=True)
                switched = True
                await stage.switch(old, new)
            await wait(cycle, config.keep.s)
            await stop(old)
            yield InstanceReplaced(identity=old.identity, ip=old.address.host, keep_s=config.keep.s)

    def prepares_s(self, circumstances: Circumstances) -> float:
        return circumstances.app_start_s

    def foretell(self, circumstances: Circumstances) -> Timeline:
        # To the proxy the old instance is as another app at the old address: it answers, and well.
        return move(
            published_s=0.0,
            listening_s=0.0,
            missing_s=None,
            missing=circumstances.missing,
            old_ip="imposter",
            others=circumstances.others,
            took_s=circumstances.answer_s,
        )
