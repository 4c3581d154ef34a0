"""Whether an engine answers: found out while a call takes long, and known once for all cells.

An engine that hangs takes connections and never answers. A call to it would end with the SDK's own
limit, each call of each cell after the other. So a call has no limit of its own as long as the
engine answers pings; where it answers none for some seconds, nobody waits for any call any more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any, TypeVar

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import PING_LIMIT_S, Endpoint, EngineAwayError, translated
from chaosd.system import priority
from chaosd.system.clock import SECOND_NS, Clock, RealClock, sleep

T = TypeVar("T")
Silent = Callable[[int, int], None]

SLOW_S = 2.0  # a call that takes longer is a reason to ping
SILENT_S = 8.0  # no ping was answered for this long: it hangs
PING_PAUSE_S = 0.25
PROMPT_S = 0.5  # within this a healthy engine answers a ping
CALL_LIMIT_S = 180.0  # of a call to an engine that answers pings


def in_thread(call: Callable[[], T], name: str = "docker-call") -> Future[T]:
    """Let a thread of its own do this; at the end of the program nobody waits for it."""
    work, result = deferred(call)
    threading.Thread(target=work, name=name, daemon=True).start()
    return result


def deferred(call: Callable[[], T]) -> tuple[Callable[[], None], Future[T]]:
    """The call as a piece of work for a thread, and its result, which may be cancelled before."""
    result: Future[T] = Future()

    def work() -> None:
        if not result.set_running_or_notify_cancel():
            return
        priority.share()
        try:
            found = call()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            result.set_exception(error)
        else:
            result.set_result(found)

    return work, result


def ping(endpoint: Endpoint) -> bool:
    """Whether it answers at this moment; it takes some seconds to say no."""
    try:
        with endpoint.client(PING_LIMIT_S) as api:
            return bool(translated(api.ping, endpoint.url))
    except MachineError:
        return False


class EngineHangsError(EngineAwayError):
    """The engine takes connections and never answers."""


def hangs(endpoint: Endpoint) -> EngineHangsError:
    return EngineHangsError(
        f"the Docker engine at {endpoint.url} does not answer any more; what is left there is "
        "removed by `chaosd clean`"
    )


def watched(endpoint: Endpoint, call: Callable[[], T]) -> T:
    """Let a thread call the API, and wait for it as long as the engine answers pings.

    For where there is no event loop. Raises EngineAwayError, and what `translated` raises.
    """
    running = in_thread(lambda: translated(call, endpoint.url))
    clock = RealClock()
    heard_ns = clock.now_ns()
    while True:
        concurrent.futures.wait([running], SLOW_S)
        if running.done():
            return running.result()
        asked = in_thread(lambda: ping(endpoint))
        either: list[Future[Any]] = [asked, running]
        concurrent.futures.wait(either, 2 * PING_LIMIT_S, concurrent.futures.FIRST_COMPLETED)
        if asked.done() and asked.result():
            heard_ns = clock.now_ns()
        elif not running.done() and clock.now_ns() - heard_ns > SILENT_S * SECOND_NS:
            raise hangs(endpoint)


class Presence:
    """One engine during a run. `wait_s` is how long it is waited for if it goes away."""

    def __init__(self, endpoint: Endpoint, clock: Clock, *, wait_s: float) -> None:
        self.endpoint = endpoint
        self._clock = clock
        self._wait_s = wait_s
        self._away_since_ns: int | None = None
        self._hangs = False  # until it answers a ping again
        self._lost = False  # it was waited for, and did not return
        self._silence: asyncio.Task[bool] | None = None
        self._return: asyncio.Task[bool] | None = None
        self._watchers: list[Callable[[], None]] = []

    def watch(self, absent: Callable[[], None]) -> Callable[[], None]:
        """Have this called, in the event loop, when it is found to hang, or does not return.

        It may be called again and again. Returns how to stop it.
        """
        self._watchers.append(absent)
        return lambda: self._watchers.remove(absent) if absent in self._watchers else None

    @property
    def hangs(self) -> bool:
        """Whether it is known not to answer: a call that does not wait for it fails at once."""
        return self._hangs or self._lost

    async def answer(self, running: Future[T], silent: Silent = lambda _, __: None) -> T:
        """Wait for a call in a thread as long as the engine answers pings.

        `silent` is told from when to when it answered nothing, and went on then. Raises
        EngineAwayError if it does not go on, and what the call raises.
        """
        limit_ns = self._clock.now_ns() + round(CALL_LIMIT_S * SECOND_NS)
        waiting = asyncio.wrap_future(running)
        try:
            while True:
                from_ns = self._clock.now_ns()
                await asyncio.wait([waiting], timeout=SLOW_S)
                if waiting.done():
                    return waiting.result()
                pinged_ns = self._clock.now_ns()
                if await self.is_silent([waiting]) or self._clock.now_ns() > limit_ns:
                    raise hangs(self.endpoint)
                if self._clock.now_ns() - pinged_ns > PROMPT_S * SECOND_NS:
                    silent(from_ns, self._clock.now_ns())
        finally:
            waiting.cancel()  # nobody waits for it any more, if it goes on

    async def is_silent(self, waiting: Collection[asyncio.Future[Any]]) -> bool:
        """Whether no ping is answered for some seconds, nor any call that is waited for."""
        if self._silence is None or self._silence.done():
            self._silence = asyncio.get_running_loop().create_task(self._listen())
        silence = self._silence
        await asyncio.wait([*waiting, silence], return_when=asyncio.FIRST_COMPLETED)
        return silence.done() and silence.result() and not any(call.done() for call in waiting)

    async def _listen(self) -> bool:
        """Ping until one is answered, or none was for long enough."""
        began_ns = self._clock.now_ns()
        while not await self.answers():
            if self._clock.now_ns() - began_ns > (SILENT_S - SLOW_S) * SECOND_NS:
                self._away_since_ns = self._away_since_ns or began_ns - round(SLOW_S * SECOND_NS)
                self._hangs = True
                self._tell()
                return True
            await sleep(self._clock, PING_PAUSE_S)
        return False

    def _tell(self) -> None:
        """Tell every cell, whatever one of them makes of it."""
        loop = asyncio.get_running_loop()
        for absent in list(self._watchers):
            loop.call_soon(absent)

    async def answers(self) -> bool:
        """Whether it answers at this moment."""
        asked = asyncio.wrap_future(in_thread(lambda: ping(self.endpoint), "docker-ping"))
        await asyncio.wait([asked], timeout=2 * PING_LIMIT_S)
        found = asked.done() and asked.result()
        asked.cancel()
        if found:
            self._hangs = self._lost = False
            self._away_since_ns = None
        return found

    async def returns(self) -> bool:
        """Wait until it answers again; False if it does not in time."""
        if self._lost:
            self._tell()  # again: a run must not go on without an engine
            return False
        if self._return is None or self._return.done():
            self._return = asyncio.get_running_loop().create_task(self._ping_until_it_answers())
        return await asyncio.shield(self._return)

    async def _ping_until_it_answers(self) -> bool:
        clock = self._clock
        if self._away_since_ns is None:
            self._away_since_ns = clock.now_ns()
        while not await self.answers():
            if clock.now_ns() - self._away_since_ns > self._wait_s * SECOND_NS:
                self._lost = True
                self._tell()
                return False
            await sleep(clock, PING_PAUSE_S)
        return True

    def absence(self) -> str:
        """What to say if it did not return."""
        waited = f" and did not return in {self._wait_s:g} s (runtime.engine_wait)"
        return (
            f"the Docker engine at {self.endpoint.url} went away{waited if self._wait_s else ''}; "
            "what is left there is removed by `chaosd clean`"
        )
