"""What the runtimes of the real world have in common: its time, its probes, its processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from chaosd.plugins.probe import Prober
from chaosd.system import processes, scratch
from chaosd.system.clock import Clock, RealClock


class Stage(Protocol):
    """What `standing` asks of a stage."""

    async def set_up(self) -> None: ...

    async def close(self) -> None: ...


S = TypeVar("S", bound=Stage)


async def standing(stage: S) -> S:
    """The stage once it is set up; what was made of it is removed if that fails."""
    try:
        await stage.set_up()
    except BaseException:
        await stage.close()
        raise
    return stage


class RealTime:
    """The part of a Runtime that does not depend on where its topology lives."""

    def loop_factory(self) -> Callable[[], Any]:
        import uvloop

        return uvloop.new_event_loop

    def clock(self) -> Clock:
        return RealClock()

    def prober(self) -> Prober:
        from chaosd.probes.host import ProbeHost

        return ProbeHost(labels=processes.labels())

    async def sweep(self) -> list[str]:
        return await asyncio.to_thread(lambda: processes.sweep() + scratch.sweep())
