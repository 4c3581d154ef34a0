"""Many cycles beside each other: they mostly wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from random import Random

from chaosd.proxies.haproxy.builds import Build, line_of
from chaosd.runtimes.local.loopback import claim
from shapebench import cycle
from shapebench.catalogue import Shape

REMEMBERED = 32  # addresses that a lane doesn't use again soon
APART_S = 0.2  # between two starts
CALM_S = 1.0  # a cycle begins once the machine was never late for so long,
CALM_LATE_S, LOOK_S = 0.015, 0.03  # by more than that; looked at so often

Job = tuple[Shape, Build]


def jobs(shapes: Iterable[Shape], builds: Iterable[Build], cycles: int, rng: Random) -> list[Job]:
    """Each shape on each build that it is for, so many times, in any order."""
    builds = list(builds)
    found = [
        (shape, build)
        for shape in shapes
        for build in builds
        if shape.lines is None or line_of(build.version) in shape.lines
        for _ in range(cycles)
    ]
    rng.shuffle(found)
    return found


async def run(
    todo: list[Job],
    lanes: int,
    rng: Random,
    observe: Callable[[cycle.Observation], None],
    *,
    patient: bool = True,
) -> None:
    """Work through them in so many lanes, and hand over what was seen in each cycle.

    One that is patient begins a cycle only while the machine has time, however long that takes.
    """
    left = iter(todo)
    calm, lag = _Calm(), cycle.Lag()

    async def lane(own: Random) -> None:
        network = await claim(own, REMEMBERED)
        try:
            for shape, build in left:
                await calm.turn(patient=patient)
                observe(await cycle.run(shape, build, network, own, lag))
        finally:
            network.close()

    watching = [asyncio.create_task(each.watch()) for each in (calm, lag)]
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(lanes, len(todo))):
                tasks.create_task(lane(Random(rng.random())))
    finally:
        for each in watching:
            each.cancel()


class _Calm:
    """Whether the machine has time: a cycle that comes late is worth nothing."""

    def __init__(self) -> None:
        self._calm = asyncio.Event()
        self._starting = asyncio.Lock()

    async def watch(self) -> None:
        late_at_s = time.monotonic()
        while True:
            asked_s = time.monotonic()
            await asyncio.sleep(LOOK_S)
            now_s = time.monotonic()
            if now_s - asked_s - LOOK_S > CALM_LATE_S:
                late_at_s = now_s
            if now_s - late_at_s > CALM_S:
                self._calm.set()
            else:
                self._calm.clear()

    async def turn(self, *, patient: bool) -> None:
        """One lane after the other: a start takes time from those that are under way."""
        async with self._starting:
            await asyncio.sleep(APART_S)
            if patient:
                await self._calm.wait()
