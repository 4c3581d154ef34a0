"""Scale the app up or down for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from chaosd.faults.turnover import Turnover
from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import AppScaled
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

        @field_validator("by")
        @classmethod
        def _does_something(cls, by: int) -> int:
            if not by:
                raise ValueError("scales nothing (such as 1 or -1; `noop` is what breaks nothing)")
            return by

    needs: ClassVar[tuple[type, ...]] = (CanMove,)
    kind: ClassVar[CycleKind] = CycleKind.FAILOVER

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(self, stage: CanMove, cycle: CycleContext) -> AsyncIterator[AppScaled]:
        before = len(stage.app)
        after = max(0, before + self.config.by)
        identities = [stage.next_identity() for _ in range(after - before)]

        new = identities[-1] if identities else None
        apps = Turnover(stage, cycle, self.config, old=None, new=new)

        async def undo() -> None:
            """The youngest go, or others come, until there are as many as before."""
            while not cycle.ending and len(stage.app) > before:
                await apps.stop(stage.app[-1])
            while not cycle.ending and len(stage.app) < before:
                await apps.start(stage.next_identity())

        async with undoing(undo):
            if identities:
                cycle.expect(identities[-1])
            for identity in identities:
                await apps.start(identity)
            for instance in stage.app[after:] if after < before else ():
                await apps.stop(instance)
            apps.begin()  # if there was nothing to be scaled
            yield AppScaled(before=before, after=after)
