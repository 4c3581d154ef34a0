"""What faults have in common that leave an instance where it is and keep it from answering."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from chaosd.history.deeds import ImpairInstance, RestoreInstance
from chaosd.history.disturbances import InstanceImpaired
from chaosd.history.values import Instance
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext

Deed = Callable[[Instance], Awaitable[None]]


@asynccontextmanager
async def impaired(
    cycle: CycleContext, instance: Instance, how: str, *, begin: Deed, end: Deed
) -> AsyncIterator[InstanceImpaired]:
    """Do this to an instance, and undo it: T0 is right before it is done."""
    identity, ip = instance.identity, instance.address.host

    async def undo() -> None:
        async with cycle.deed(RestoreInstance(identity=identity, how=how)):
            await end(instance)

    async with undoing(undo):
        async with cycle.deed(ImpairInstance(identity=identity, how=how)):
            cycle.begin(old=None, new=None)
            await begin(instance)
        yield InstanceImpaired(identity=identity, ip=ip, how=how)
