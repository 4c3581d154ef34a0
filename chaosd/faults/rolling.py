"""Replace every instance of the app, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field

from chaosd.faults.turnover import Turnover
from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import AppRolled
from chaosd.plugins.bases import EndingFaultConfig, Signal, Wait
from chaosd.plugins.fault import undoing, wait
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanMove
from chaosd.units import Duration


class Rolling:
    """What an orchestrator's rolling update does to an app of several instances.

    Each new one is up before an old one goes, or `surge: false`, an old one goes first. T0 is right
    before the first deed, and the recovery ends with the first good answer of the last new one.
    """

    class Config(EndingFaultConfig):
        type: Literal["rolling"] = "rolling"
        surge: bool = Field(
            True, description="start the new one first; false: stop an old one first"
        )
        pause: Wait = Field(
            Duration.parse("1s"), description="between one instance replaced and the next"
        )
        signal: Signal = "TERM"

    needs: ClassVar[tuple[type, ...]] = (CanMove,)
    kind: ClassVar[CycleKind] = CycleKind.FAILOVER

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(self, stage: CanMove, cycle: CycleContext) -> AsyncIterator[AppRolled]:
        config, olds = self.config, stage.app
        identities = [stage.next_identity() for _ in olds]
        apps = Turnover(stage, cycle, config, old=olds[-1], new=identities[-1])

        async def undo() -> None:
            """As many serve as before: the oldest go, or new ones come."""
            while not cycle.ending and len(stage.app) > len(olds):
                await apps.stop(stage.app[0])
            while not cycle.ending and len(stage.app) < len(olds):
                await apps.start(stage.next_identity())

        async with undoing(undo):
            for number, (old, identity) in enumerate(zip(olds, identities, strict=True)):
                if number:
                    await wait(cycle, config.pause.s)
                cycle.expect(identity)
                steps = [lambda i=identity: apps.start(i), lambda o=old: apps.stop(o)]
                for step in steps if config.surge else reversed(steps):
                    await step()
            yield AppRolled(instances=len(olds))
