"""The Docker engine, asked from threads: every call has a limit, and every failure is one line.

The SDK is synchronous, so the probes would wait for it; a call that hangs holds up a thread of the
pool and nobody else. One API client per thread: a requests session is not made for sharing.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import docker
import docker.errors
import requests
import urllib3

from chaosd.errors import MachineError
from chaosd.system.clock import SECOND_NS, Clock, sleep

T = TypeVar("T")

CALL_LIMIT_S = 60  # of the engine's silence, not of the call
PING_LIMIT_S = 3
PING_PAUSE_S = 0.25
THREADS_MAX = 32
# Versions of the API whose answers are known here: engines 20.10 to 29. An older engine is asked in
# its own version, and one that takes only newer ones in the oldest that it takes.
API_MAX = (1, 51)

_AWAY = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class EngineAwayError(MachineError):
    """The engine does not answer (any more)."""


class MissingError(MachineError):
    """There is no such container, network or image."""


class ConflictError(MachineError):
    """Something with this name is there, or is being removed."""


class Engine:
    """One engine. `wait_s` is how long one that goes away during a run is waited for."""

    def __init__(self, clock: Clock, *, wait_s: float) -> None:
        self.clock = clock
        self.offset_ns = 0  # its wall clock minus ours
        self.offset_error_ns = 0
        self.info: dict[str, Any] = {}
        self._wait_s = wait_s
        self._pool = ThreadPoolExecutor(THREADS_MAX, "docker")
        self._local = threading.local()
        self._away_since_ns: int | None = None
        self._calls: set[Future[Any]] = set()
        self._returns: asyncio.Task[bool] | None = None

    # --- calls ---

    def _api(self) -> Any:
        """This thread's client. Raises EngineAwayError."""
        if not hasattr(self._local, "api"):
            self._local.api = client()
        return self._local.api

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
        running = self._pool.submit(lambda: translated(lambda: call(self._api())))
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
            await self.now(lambda _: client(PING_LIMIT_S).ping())
        except MachineError:
            return False
        return True

    async def returns(self) -> bool:
        """Wait until it answers again; False if it does not in time."""
        if self._returns is None or self._returns.done():
            self._returns = asyncio.get_running_loop().create_task(self._ping_until_it_answers())
        return await asyncio.shield(self._returns)

    def absence(self) -> str:
        """What to say if it did not return."""
        waited = f" and did not return in {self._wait_s:g} s (runtime.engine_wait)"
        return (
            f"the Docker engine at {address()} went away{waited if self._wait_s else ''}; "
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
        local = urlsplit(address()).scheme in ("unix", "http+unix")
        return local and self.info.get("KernelVersion") == os.uname().release

    @property
    def host(self) -> str:
        """The machine that it publishes ports on, as seen from here."""
        return urlsplit(address()).hostname or "127.0.0.1" if not self.is_here else "127.0.0.1"

    def monotonic_ns(self, its_unix_ns: int) -> int:
        """An instant of its wall clock on our monotonic one."""
        ago_ns = self.clock.unix_ns() - (its_unix_ns - self.offset_ns)
        return self.clock.now_ns() - max(0, ago_ns)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


# --- outside of a run -----------------------------------------------------------------------------


def client(limit_s: int = CALL_LIMIT_S) -> Any:
    """A new API client, as DOCKER_HOST or the CLI's context say. Raises EngineAwayError."""

    def connect() -> Any:
        api = docker.from_env(timeout=limit_s, version="auto").api
        if _pair(api.api_version) > API_MAX:
            oldest = _pair(api.version(api_version=False).get("MinAPIVersion", "1.12"))
            major, minor = max(API_MAX, oldest)
            api.close()
            api = docker.from_env(timeout=limit_s, version=f"{major}.{minor}").api
        return api

    return translated(connect)


def translated(call: Callable[[], T]) -> T:
    """Call it, with the SDK's many exceptions turned into our few."""
    try:
        return call()
    except docker.errors.NotFound as error:
        raise MissingError(_words(error)) from None
    except docker.errors.APIError as error:
        conflict = error.response is not None and error.response.status_code == 409  # noqa: PLR2004
        raise (ConflictError if conflict else MachineError)(_words(error)) from None
    except (docker.errors.DockerException, *_AWAY) as error:
        raise EngineAwayError(
            f"no Docker engine answers at {address()} ({_reason(error)})"
        ) from None


def unreachable() -> str | None:
    """Why no engine can be used, in one line, or None."""
    try:
        client(PING_LIMIT_S).close()
    except MachineError as error:
        return str(error)
    return None


def expected() -> bool:
    """Whether an engine is said to be there: by DOCKER_HOST, a context elsewhere, or a socket."""
    where = urlsplit(address())
    local = where.scheme in ("unix", "http+unix")
    return bool(os.environ.get("DOCKER_HOST")) or not local or Path(where.path).exists()


def address() -> str:
    """Where the engine is looked for."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    try:
        context = docker.ContextAPI.get_current_context()
    except (docker.errors.DockerException, OSError):
        context = None
    return (context and context.Host) or "unix:///var/run/docker.sock"


def unix_ns(stamp: str) -> int | None:
    """Read `2026-11-24T09:00:00.123456789Z`, or with an offset, to the nanosecond."""
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", stamp
    )
    if found is None:
        return None
    from datetime import datetime

    zone = "+00:00" if found[3] == "Z" else found[3]
    seconds = int(datetime.fromisoformat(found[1] + zone).timestamp())
    return seconds * SECOND_NS + int((found[2] or "0").ljust(9, "0"))


def own_container(api: Any) -> str | None:
    """The id of the container that chaosd itself runs in, if it is one of this engine's."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"/containers/([0-9a-f]{64})/", mounts)
    if found is None:
        return None
    try:
        translated(lambda: api.inspect_container(found[1]))
    except MissingError:
        return None
    return found[1]


def _pair(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def _words(error: Any) -> str:
    return " ".join(str(error.explanation or error).split())[:300]


def _reason(error: BaseException) -> str:
    """The innermost cause: the outer ones only say that there is one."""
    text = str(error)
    for known in ("No such file or directory", "Permission denied", "Connection refused"):
        if known in text:
            hint = ": is it your group's?" if known == "Permission denied" else ""
            return known + hint
    return "it takes too long" if "timed out" in text.lower() else " ".join(text.split())[:120]
