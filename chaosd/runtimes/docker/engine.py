"""The Docker engine, asked from threads: every call has a limit, and every failure is one line.

The SDK is synchronous, so the probes would wait for it; a call that hangs holds up a thread of the
pool and nobody else. One API client per thread: a requests session is not made for sharing.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import (
    PING_LIMIT_S,
    Endpoint,
    EngineAwayError,
    translated,
    unix_ns,
)
from chaosd.system.clock import SECOND_NS, Clock, sleep

T = TypeVar("T")

PING_PAUSE_S = 0.25
THREADS_MAX = 32


class Engine:
    """One engine during a run. `wait_s` is how long it is waited for if it goes away."""

    def __init__(self, endpoint: Endpoint, clock: Clock, *, wait_s: float) -> None:
        self.endpoint = endpoint
        self.clock = clock
        self.offset_ns = 0  # its wall clock minus ours
        self.offset_error_ns = 0
        self.info: dict[str, Any] = {}
        self._wait_s = wait_s
        self._pool = ThreadPoolExecutor(THREADS_MAX, "docker")
        self._apis: dict[int, Any] = {}  # by thread: a requests session is not made for sharing
        self._away_since_ns: int | None = None
        self._calls: set[Future[Any]] = set()
        self._returns: asyncio.Task[bool] | None = None

    # --- calls ---

    def _api(self) -> Any:
        """This thread's client. Raises EngineAwayError."""
        apis: dict[int, Any] = self._apis
        thread = threading.get_ident()
        if thread not in apis:
            apis[thread] = self.endpoint.client()
        return apis[thread]

    async def do(self, call: Callable[[Any], T]) -> T:
        """Let a thread call the API.

        An engine that has gone away is waited for first, and then EngineAwayError is raised
        anyway: what became of the call is not known. Raises MissingError, ConflictError and
        MachineError, too.
        """
        try:
            return await self.now(call)
        except EngineAwayError:
            if not await self.returns():
                raise
            raise EngineAwayError("the Docker engine went away in the middle of it") from None

    async def now(self, call: Callable[[Any], T]) -> T:
        """Let a thread call the API, and don't wait for an engine that is away."""
        running = self._pool.submit(
            lambda: translated(lambda: call(self._api()), self.endpoint.url)
        )
        self._calls.add(running)
        running.add_done_callback(self._calls.discard)
        return await asyncio.wrap_future(running)

    async def idle(self, limit_s: float) -> None:
        """Wait for the calls whose callers were cancelled: they go on in their threads."""
        left = [asyncio.wrap_future(call) for call in list(self._calls)]
        if left:
            await asyncio.wait(left, timeout=limit_s)
            for call in left:
                if call.done() and not call.cancelled():
                    call.exception()  # retrieved: it is nobody's any more

    async def answers(self) -> bool:
        """Whether it answers at this moment."""
        try:
            await self.now(lambda _: self._ping())
        except MachineError:
            return False
        return True

    def _ping(self) -> None:
        with self.endpoint.client(PING_LIMIT_S) as api:
            api.ping()

    async def returns(self) -> bool:
        """Wait until it answers again; False if it does not in time."""
        if self._returns is None or self._returns.done():
            self._returns = asyncio.get_running_loop().create_task(self._ping_until_it_answers())
        return await asyncio.shield(self._returns)

    def absence(self) -> str:
        """What to say if it did not return."""
        waited = f" and did not return in {self._wait_s:g} s (runtime.engine_wait)"
        return (
            f"the Docker engine at {self.endpoint.url} went away{waited if self._wait_s else ''}; "
            "what is left there is removed by `chaosd clean`"
        )

    async def _ping_until_it_answers(self) -> bool:
        clock = self.clock
        if self._away_since_ns is None:
            self._away_since_ns = clock.now_ns()
        while True:
            if await self.answers():
                self._away_since_ns = None
                return True
            if clock.now_ns() - self._away_since_ns > self._wait_s * SECOND_NS:
                return False
            await sleep(clock, PING_PAUSE_S)

    # --- what it is ---

    async def meet(self) -> None:
        """Learn what it is, and how far its wall clock is from ours. Raises EngineAwayError."""
        before_ns = self.clock.unix_ns()
        self.info = await self.now(lambda api: api.info())
        after_ns = self.clock.unix_ns()
        its_ns = unix_ns(self.info.get("SystemTime", "")) or before_ns
        half_ns = (after_ns - before_ns) // 2
        offset_ns = its_ns - (before_ns + half_ns)
        if abs(offset_ns) > half_ns:  # otherwise they may well be the same
            self.offset_ns, self.offset_error_ns = offset_ns, half_ns

    @property
    def version(self) -> str:
        return str(self.info.get("ServerVersion", "?"))

    @property
    def is_here(self) -> bool:
        """Whether it runs on our own kernel, so that clocks and addresses are the same."""
        return self.endpoint.is_socket and self.info.get("KernelVersion") == os.uname().release

    @property
    def host(self) -> str:
        """The machine that it publishes ports on, as seen from here."""
        return "127.0.0.1" if self.is_here else self.endpoint.host or "127.0.0.1"

    def monotonic_ns(self, its_unix_ns: int) -> int:
        """An instant of its wall clock on our monotonic one."""
        ago_ns = self.clock.unix_ns() - (its_unix_ns - self.offset_ns)
        return self.clock.now_ns() - max(0, ago_ns)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for api in self._apis.values():
            api.close()
