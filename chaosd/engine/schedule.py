"""When faults come: instants on the run's clock, from APScheduler's triggers and a seeded jitter.

The cadence comes from the plan, never from "now + interval". APScheduler's own jitter is one-sided
and accumulates, so its triggers give the bare grid and the dither is added here, anew each time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import chain
from random import Random

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from chaosd.plugins.bases import Between, FaultConfig
from chaosd.system.clock import SECOND_NS, Clock, utc

GOLDEN = 0.6180339887498949  # its multiples never come close to each other
CHECKED_S_MAX = 30.0  # from when a proxy has started: who checks seldom has it all the same
STAGGER_NS = 20_000_000  # between two cells of a block: their deeds must not wait for each other


def instants(
    config: FaultConfig,
    clock: Clock,
    rng: Random,
    timers_s: Sequence[Sequence[float]],
    place: int = 0,
) -> Iterator[int]:
    """Yield the planned nanoseconds of one fault, without end.

    `place` is that of the cell among those with a schedule of their own: the grids of any number of
    them are spread over the period, or all would have their failovers at once. None begins earlier
    than one period from now, or than each proxy has checked its servers once: right after its start
    HAProxy has a server DOWN at one failed check, which is no recovery as it will be later.
    `timers_s` are those of each proxy: `timeout resolve`, and then how often it checks.
    """
    checked_s = max((period for each in timers_s for period in each[1:]), default=0.0)
    from_ns = clock.now_ns() + round(min(checked_s, CHECKED_S_MAX) * SECOND_NS)
    times = _planned(config, clock, rng, [*chain.from_iterable(timers_s)], place)
    return (at_ns for at_ns in times if at_ns >= from_ns)


def _planned(
    config: FaultConfig, clock: Clock, rng: Random, timers_s: Sequence[float], place: int
) -> Iterator[int]:
    if config.cron is not None:
        return _cron(config.cron, clock)
    if isinstance(config.every, Between):
        return _between(config.every, clock, rng)
    every_s = config.every.s if config.every is not None else 10.0
    jitter_s = config.jitter.s if config.jitter is not None else auto_jitter_s(every_s, timers_s)
    later_ns = round(place * GOLDEN % 1 * every_s * SECOND_NS)
    return (at_ns + later_ns for at_ns in _grid(every_s, jitter_s, clock, rng))


def merged(schedules: Sequence[Iterator[int]]) -> Iterator[tuple[int, int]]:
    """All faults of a cell in the order of their times, each with its place in the config."""

    def numbered(place: int, times: Iterator[int]) -> Iterator[tuple[int, int]]:
        for at_ns in times:
            yield at_ns, place

    return heapq.merge(*(numbered(place, times) for place, times in enumerate(schedules)))


def staggered(
    times: Iterator[tuple[int, int]], names: Sequence[str], name: str, rng: Random
) -> Iterator[tuple[int, int]]:
    """The times of one cell of a block: a little after each other, in an order of each block's own.

    `rng` is the same for all of `names`, so that each finds another slot.
    """
    order = list(names)
    for at_ns, place in times:
        rng.shuffle(order)
        yield at_ns + order.index(name) * STAGGER_NS, place


def auto_jitter_s(every_s: float, timers_s: Sequence[float]) -> float:
    """How far to spread a grid so that it can't lock to the proxy's own timers, in seconds.

    A whole multiple of each timer, as near as can be: the smallest multiple of the first one
    (`timeout resolve`, the one that matters most) that covers them all. At most the grid's period.
    """
    periods = [period for period in timers_s if period > 0]
    if not periods:
        return 0.0
    first = periods[0]
    return min(every_s, first * math.ceil(max(periods) / first))


def _grid(every_s: float, jitter_s: float, clock: Clock, rng: Random) -> Iterator[int]:
    origin_ns, origin = clock.now_ns(), utc(clock.unix_ns())
    trigger = IntervalTrigger(seconds=every_s, start_date=origin, timezone=origin.tzinfo)
    fire = trigger.get_next_fire_time(None, origin)
    while True:
        fire = trigger.get_next_fire_time(fire, fire)
        bare_ns = origin_ns + round((fire - origin).total_seconds() * SECOND_NS)
        yield bare_ns + round(rng.uniform(0, jitter_s) * SECOND_NS)


def _between(bounds: Between, clock: Clock, rng: Random) -> Iterator[int]:
    at_ns = clock.now_ns()
    while True:
        at_ns += round(rng.uniform(bounds.min, bounds.max))
        yield at_ns


def _cron(fields: str, clock: Clock) -> Iterator[int]:
    # Cron means the wall clock, whatever has been done to it since the last time.
    trigger = CronTrigger.from_crontab(fields, timezone="UTC")
    after = utc(clock.unix_ns())
    while True:
        fire = trigger.get_next_fire_time(None, after)
        if fire is None:  # such as the 30th of February
            return
        after = fire + timedelta(microseconds=1)
        now = utc(clock.unix_ns())
        yield clock.now_ns() + round((fire - now).total_seconds() * SECOND_NS)
