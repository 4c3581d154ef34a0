"""Let the platform replace an instance, where and at which address it likes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import RescheduleInstance
from chaosd.history.disturbances import InstanceMoves, InstanceRestarts
from chaosd.plugins.bases import FaultConfig
from chaosd.plugins.config_parts import at
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanReschedule


class Reschedule:
    """What an orchestrator does at a deployment, or when a node is taken away."""

    class Config(FaultConfig):
        type: Literal["reschedule"] = "reschedule"
        by: Literal["update", "drain"] = Field(
            "update",
            description="replace the instance as a deployment does, or drain the node it is on",
        )
        order: Literal["stop-first", "start-first"] = Field(
            "stop-first", description="of an update: which goes first"
        )

        @model_validator(mode="after")
        def _order_of_an_update(self) -> Self:
            if self.by == "drain" and self.order != "stop-first":
                what = "a drain has no order: the instance goes first"
                raise at(("order",), f"{what} (leave it out, or say by: update)")
            return self

    needs: ClassVar[tuple[type, ...]] = (CanReschedule,)
    kind: ClassVar[CycleKind] = CycleKind.FAILOVER

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(
        self, stage: CanReschedule, cycle: CycleContext
    ) -> AsyncIterator[InstanceMoves | InstanceRestarts]:
        config, old, identity = self.config, stage.app[0], stage.next_identity()
        ip = old.address.host

        async def undo() -> None:
            if not cycle.ending:
                await stage.settle()

        async with undoing(undo):
            cycle.expect(identity)
            deed = RescheduleInstance(
                identity=old.identity, ip=ip, by=config.by, order=config.order
            )
            async with cycle.deed(deed):
                cycle.begin(old=old, new=identity)
                new = await stage.reschedule(identity, config.by, config.order)
            await stage.ready(new)
            if stage.virtual_ip is not None:  # nothing has moved that the proxy could see
                yield InstanceRestarts(identity=old.identity, ip=stage.virtual_ip)
            else:
                yield InstanceMoves(identity=old.identity, ip=ip, old_ip="vacant")
