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
CALM_S, CALM_LATE_S = 0.3, 0.01  # a cycle begins once a sleep was not later than that

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
    todo: list[Job], lanes: int, rng: Random, observe: Callable[[cycle.Observation], None]
) -> None:
    """Work through them in so many lanes, and hand over what was seen in each cycle."""
    left = iter(todo)

    async def lane(own: Random) -> None:
        network = await claim(own, REMEMBERED)
        try:
            for shape, build in left:
                await _calm()
                observe(await cycle.run(shape, build, network, own))
        finally:
            network.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(lanes, len(todo))):
            tasks.create_task(lane(Random(rng.random())))


async def _calm() -> None:
    """Wait until the machine has time: a cycle that comes late is worth nothing."""
    late_s = CALM_LATE_S + 1
    while late_s > CALM_LATE_S:
        asked_s = time.monotonic()
        await asyncio.sleep(CALM_S)
        late_s = time.monotonic() - asked_s - CALM_S
