"""The Docker engine, asked from threads: every call has a limit, and every failure is one line.

The SDK is synchronous, so the probes would wait for it; a call that hangs holds up a thread of the
pool and nobody else. One API client per thread: a requests session is not made for sharing.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import EngineAwayError, translated, unix_ns
from chaosd.runtimes.docker.presence import SLOW_S, Presence, Silent, deferred, hangs
from chaosd.system.clock import SECOND_NS, Clock
from chaosd.system.stamps import WallClock

T = TypeVar("T")

THREADS_MAX = 32
CLOCK_AGE_NS_MAX = 60 * SECOND_NS  # of what is known of another machine's clock
DRIFT_PPM = 500  # NTP slews a clock by no more than that
OTHER_USERS = ("name=selinux", "name=rootless", "name=userns")  # of an engine's options


class _Pool:
    """Threads that nobody waits for at the end of the program: one of them may hang."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = self._threads = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        work, result = deferred(call)
        self._work.put(work)
        with self._lock:
            wanted = self._idle == 0 and self._threads < THREADS_MAX
            self._idle -= 0 if wanted else min(1, self._idle)
            self._threads += wanted
        if wanted:
            threading.Thread(target=self._serve, name="docker", daemon=True).start()
        return result

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            with self._lock:
                self._idle += 1

    def close(self) -> None:
        """Let the threads end when they have done what they were given."""
        for _ in range(self._threads):
            self._work.put(None)


class Engine:
    """One engine as one cell asks it. What is known of its absence is all cells'."""

    def __init__(
        self, presence: Presence, clock: Clock, silent: Silent = lambda _, __: None
    ) -> None:
        """`silent` is told from when to when a call was held up by an engine that hung."""
        self.presence = presence
        self._silent = silent
        self.endpoint = presence.endpoint
        self.clock = clock
        self._wall = WallClock(clock)
        self._offset_ns = self._moved_ns = 0  # its wall clock minus ours, when that was measured
        self._error_ns = self._measured_ns = 0
        self._measuring: asyncio.Task[None] | None = None
        self.info: dict[str, Any] = {}
        self._pool = _Pool()
        self._apis: dict[int, Any] = {}  # by thread: a requests session is not made for sharing
        self._calls: set[Future[Any]] = set()

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
        if self.presence.hangs and not await self.presence.returns():
            raise EngineAwayError(self.presence.absence())
        self._keep_time()
        try:
            return await self.now(call)
        except EngineAwayError:
            if not await self.presence.returns():
                raise EngineAwayError(self.presence.absence()) from None
            raise EngineAwayError("the Docker engine went away in the middle of it") from None

    async def now(self, call: Callable[[Any], T]) -> T:
        """Let a thread call the API, and don't wait for an engine that is away."""
        if self.presence.hangs:
            raise hangs(self.endpoint)
        running = self._pool.submit(
            lambda: translated(lambda: call(self._api()), self.endpoint.url)
        )
        self._calls.add(running)
        running.add_done_callback(self._calls.discard)
        return await self.presence.answer(running, self._silent)

    async def idle(self, limit_s: float) -> None:
        """Wait for the calls whose callers were cancelled: they go on in their threads."""
        left = {asyncio.wrap_future(call) for call in list(self._calls)}
        for call in left:
            call.add_done_callback(_retrieve)
        end_ns = self.clock.now_ns() + round(limit_s * SECOND_NS)
        while left and not self.presence.hangs and self.clock.now_ns() < end_ns:
            _, left = await asyncio.wait(left, timeout=SLOW_S)
            if left and await self.presence.is_silent(left):
                return

    # --- what it is ---

    async def meet(self) -> None:
        """Learn what it is, and how far its wall clock is from ours. Raises EngineAwayError."""
        before_ns = self.clock.unix_ns()
        self.info = await self.now(lambda api: api.info())
        after_ns = self.clock.unix_ns()
        its_ns = unix_ns(self.info.get("SystemTime", "")) or before_ns
        half_ns = (after_ns - before_ns) // 2
        offset_ns = its_ns - (before_ns + half_ns)
        if not self.is_here or abs(offset_ns) > half_ns:  # here they may well be the same
            self._offset_ns, self._error_ns = offset_ns, half_ns
        self._moved_ns, self._measured_ns = self._wall.look().moved_ns, self.clock.now_ns()

    def _keep_time(self) -> None:
        """Measure another machine's clock again now and then, beside what is done."""
        age_ns = self.clock.now_ns() - self._measured_ns
        is_due = bool(self.info) and not self.is_here and age_ns > CLOCK_AGE_NS_MAX
        if is_due and (self._measuring is None or self._measuring.done()):
            self._measuring = asyncio.get_running_loop().create_task(self._meet_again())

    async def _meet_again(self) -> None:
        with suppress(MachineError):
            await self.meet()

    @property
    def version(self) -> str:
        return str(self.info.get("ServerVersion", "?"))

    @property
    def is_here(self) -> bool:
        """Whether it runs on our own kernel, so that clocks and addresses are the same."""
        return self.endpoint.is_socket and self.info.get("KernelVersion") == os.uname().release

    @property
    def shares_files(self) -> bool:
        """Whether its containers can have a directory of ours, and its users are the same there.

        That it sees our files is not known before it is tried.
        """
        options = " ".join(self.info.get("SecurityOptions") or ())
        return self.is_here and not any(name in options for name in OTHER_USERS)

    @property
    def host(self) -> str:
        """The machine that it publishes ports on, as seen from here."""
        return "127.0.0.1" if self.is_here else self.endpoint.host or "127.0.0.1"

    @property
    def offset_ns(self) -> int:
        """Its wall clock minus ours; if it runs elsewhere, nobody has set it when ours was set."""
        moved_ns = 0 if self.is_here else self._wall.look().moved_ns - self._moved_ns
        return self._offset_ns - moved_ns

    @property
    def offset_error_ns(self) -> int:
        """By how much `offset_ns` may be wrong: more from moment to moment, as clocks drift."""
        age_ns = 0 if self.is_here else self.clock.now_ns() - self._measured_ns
        return self._error_ns + age_ns * DRIFT_PPM // 1_000_000

    def monotonic_ns(self, its_unix_ns: int) -> int:
        """An instant of its wall clock on our monotonic one; now if nobody can tell."""
        look = self._wall.look()
        at_ns = look.now_ns - max(0, look.unix_ns - (its_unix_ns - self.offset_ns))
        was_set = self.is_here and at_ns < look.since_ns
        return look.now_ns if was_set else at_ns

    def close(self) -> None:
        self._pool.close()
        for api in self._apis.values():
            api.close()


def _retrieve(call: asyncio.Future[Any]) -> None:
    """Take note of how it ended, for it is nobody's any more."""
    if not call.cancelled():
        call.exception()
