"""What time is. The only file that asks the operating system, and the only one that sleeps.

Two clocks: `RealClock`, and `VirtualClock`, which jumps to the next timer whenever nothing is
ready to run, so that a week can be simulated in seconds and one seed gives one history.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import selectors
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

SECOND_NS = 1_000_000_000

# A simulated run starts here on everybody's wall: 2000-01-01T00:00:00Z.
VIRTUAL_EPOCH_UNIX_NS = 946_684_800 * SECOND_NS


class Clock(Protocol):
    """Time, handed in wherever it is needed."""

    def now_ns(self) -> int:
        """Monotonic time: all measuring is done on it."""

    def unix_ns(self) -> int:
        """Wall time: only for people, file names and cron."""

    async def sleep_until(self, at_ns: int) -> None:
        """Return when `now_ns() >= at_ns`, never before."""

    def every(self, period_s: float, name: str, work: Callable[[], Any]) -> Callable[[], None]:
        """Do recurring work, plain or async, until the returned function is called.

        Work that is still going on when its time comes again is left out once, not doubled.
        """

    def close(self) -> None:
        """Stop all recurring work."""


async def sleep(clock: Clock, seconds: float) -> None:
    """Sleep for a while on this clock."""
    await clock.sleep_until(clock.now_ns() + round(seconds * SECOND_NS))


def pause(seconds: float) -> None:
    """Sleep in a thread of one's own; never in the event loop."""
    time.sleep(seconds)


def utc(unix_ns: int) -> datetime:
    """The instant as a datetime in UTC."""
    return datetime.fromtimestamp(unix_ns / SECOND_NS, UTC)


class RealClock:
    """CLOCK_MONOTONIC and the running event loop; recurring work goes through APScheduler."""

    def __init__(self) -> None:
        self._scheduler: Any = None

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def unix_ns(self) -> int:
        return time.time_ns()

    async def sleep_until(self, at_ns: int) -> None:
        # A loop over instants that have passed must let other tasks run, too.
        await asyncio.sleep(0)
        # The loop's timers may be a millisecond coarse: look again instead of returning early.
        while (left_ns := at_ns - time.monotonic_ns()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_ns / SECOND_NS)

    def every(self, period_s: float, name: str, work: Callable[[], Any]) -> Callable[[], None]:
        from apscheduler.jobstores.base import JobLookupError
        from apscheduler.schedulers.asyncio import AsyncIOScheduler

        if self._scheduler is None:
            # It says a line at INFO for each execution.
            logging.getLogger("apscheduler").setLevel(logging.ERROR)
            self._scheduler = AsyncIOScheduler(timezone=UTC)
            self._scheduler.start()

        async def job() -> None:  # a coroutine, so that it runs in the loop and not in a thread
            result = work()
            if asyncio.iscoroutine(result):
                await result

        scheduled = self._scheduler.add_job(
            job,
            "interval",
            seconds=period_s,
            name=name,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

        def stop() -> None:
            try:
                scheduled.remove()
            except JobLookupError:
                pass

        return stop

    def close(self) -> None:
        """Stop all recurring work. Jobs under way are cancelled, so nothing that heals is a job."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None


class _SeldomSelector(selectors.SelectSelector):
    """Asks the system once in a while: all that it can tell a simulated run is that of a signal."""

    EVERY = 32

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._asked += 1
        return super().select(timeout) if timeout or self._asked % self.EVERY == 0 else []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time.

    When nothing is ready it jumps to the next timer. Nothing ready and no timer means that every
    task waits for something that can't happen: that is reported, not waited for.
    """

    def __init__(self) -> None:
        super().__init__(_SeldomSelector())
        self._now_s = 0.0

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            while self._scheduled and self._scheduled[0]._cancelled:  # type: ignore[attr-defined]  # noqa: SLF001
                timer = heapq.heappop(self._scheduled)  # type: ignore[attr-defined]
                timer._scheduled = False  # noqa: SLF001
                self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            if self._scheduled:  # type: ignore[attr-defined]
                self._now_s = max(self._now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]  # noqa: SLF001
            elif not self._stopping:  # type: ignore[attr-defined]
                raise RuntimeError("the simulation is stuck: nothing to run and no timer set")
        super()._run_once()  # type: ignore[misc]

    def run_in_executor(self, *_: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("a simulated run must not use threads")


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class VirtualClock:
    """The time of a `VirtualLoop`, in whole nanoseconds from 0."""

    def now_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * SECOND_NS)

    def unix_ns(self) -> int:
        return VIRTUAL_EPOCH_UNIX_NS + self.now_ns()

    async def sleep_until(self, at_ns: int) -> None:
        loop = asyncio.get_running_loop()
        # An absolute timer: relative sleeps add up rounding and fire a nanosecond early.
        woken: asyncio.Future[None] = loop.create_future()
        timer = loop.call_at(at_ns / SECOND_NS, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()

    def every(self, period_s: float, name: str, work: Callable[[], Any]) -> Callable[[], None]:
        async def repeat() -> None:
            start_ns, count = self.now_ns(), 0
            while True:
                count += 1
                await self.sleep_until(start_ns + count * round(period_s * SECOND_NS))
                result = work()
                if asyncio.iscoroutine(result):
                    await result

        coroutine: Coroutine[Any, Any, None] = repeat()
        task = asyncio.get_running_loop().create_task(coroutine, name=name)

        def stop() -> None:
            task.cancel()

        return stop

    def close(self) -> None:
        """Recurring work ends with the loop."""
