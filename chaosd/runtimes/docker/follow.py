"""Streams of the engine, followed by threads of their own: events, and what containers print.

A stream that ends although its source lives is taken up again after its last entry; what was
repeated is left out. Everything arrives as callbacks in the event loop, with the instant at which
the engine itself stamped it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import EngineAwayError, translated, unix_ns
from chaosd.runtimes.docker.engine import Engine
from chaosd.system import priority
from chaosd.system.clock import SECOND_NS

RETRY_PAUSE_S = 0.25
LINE_BYTES_MAX = 8192
# What is between a deed and its stamp: the shim copies a container's output in small steps.
LINE_ERROR_NS = 2_000_000


class Follower:
    """A thread that reads one stream again and again until it is closed."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()
        self._stream: Any = None
        self._last_ns = 0  # the engine's stamp of the last entry
        self._repeats = True  # what it says may be known already: it has just been taken up
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop following; entries under way may still come in."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            # From another thread the SDK can only shut the socket down; it may be gone already.
            with suppress(Exception):
                stream.close()

    def _run(self) -> None:
        priority.share()
        broken = False
        while not self._closed.is_set():
            try:
                api = self._engine.endpoint.client()
            except MachineError:
                self._call(self._on_absence)
                broken = True
            else:
                with suppress(MachineError), api:
                    self._read(api, broken=broken)
                broken = True
                if not self._goes_on():
                    return
            self._closed.wait(RETRY_PAUSE_S)

    def _read(self, api: Any, *, broken: bool) -> None:
        self._stream = translated(lambda: self._open(api))
        self._repeats = True
        if broken:
            self._call(self._on_return)
        entries: Iterator[Any] = iter(self._stream)
        try:
            while not self._closed.is_set():
                entry = translated(lambda: next(entries, None))
                if entry is None:
                    return
                self._take(entry)
        except (EngineAwayError, AttributeError, ValueError):  # closed under its reader
            return
        finally:
            # The SDK's stream shuts its socket down, but leaves it open.
            with suppress(Exception):
                self._stream._response.close()  # noqa: SLF001

    def _call(self, what: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(what, *arguments)

    def _open(self, api: Any) -> Any:
        raise NotImplementedError

    def _take(self, entry: Any) -> None:
        raise NotImplementedError

    def _on_return(self) -> None:
        """It has been taken up again after an interruption; in the event loop."""

    def _on_absence(self) -> None:
        """The engine does not answer now; in the event loop, and again and again."""

    def _goes_on(self) -> bool:
        return True


class Events(Follower):
    """What the engine says of containers and networks."""

    def __init__(
        self,
        engine: Engine,
        heard: Callable[[dict[str, Any]], None],
        *,
        returned: Callable[[], None],
        absent: Callable[[], None],
    ) -> None:
        super().__init__(engine, "docker-events")
        self._heard = heard
        self._returned = returned
        self._absent = absent
        self._since_ns = engine.clock.unix_ns() + engine.offset_ns
        self._seen: list[str] = []  # of the last instant

    def _open(self, api: Any) -> Any:
        since = (self._last_ns or self._since_ns) / SECOND_NS
        kinds = {"type": ["container", "network"]}
        return api.events(since=f"{since:.9f}", filters=kinds, decode=True)

    def _take(self, entry: dict[str, Any]) -> None:
        at_ns = int(entry.get("timeNano") or 0)
        key = f"{entry.get('Action')} {entry.get('Actor', {}).get('ID')}"
        known = at_ns < self._last_ns or (at_ns == self._last_ns and key in self._seen)
        if self._repeats and known:
            return
        self._repeats = at_ns == self._last_ns
        self._seen = [*self._seen, key] if at_ns == self._last_ns else [key]
        self._last_ns = at_ns
        self._call(self._heard, entry)

    def _on_return(self) -> None:
        self._returned()

    def _on_absence(self) -> None:
        self._absent()


class Output(Follower):
    """The lines that a container prints, with our clock's instant and its error."""

    def __init__(
        self,
        engine: Engine,
        container: str,
        heard: Callable[[str, int, int], None],
        *,
        from_now: bool = False,
    ) -> None:
        super().__init__(engine, f"docker-logs-{container[:12]}")
        if from_now:
            self._last_ns = engine.clock.unix_ns() + engine.offset_ns
        self._container = container
        self._heard = heard
        self._alive = True

    def _open(self, api: Any) -> Any:
        since = {"since": self._last_ns / SECOND_NS} if self._last_ns else {}
        state = api.inspect_container(self._container)["State"]
        self._alive = bool(state.get("Running")) or state.get("Status") == "created"
        return api.logs(
            self._container, stream=True, follow=True, timestamps=True, stderr=True, **since
        )

    def _goes_on(self) -> bool:
        return self._alive

    def _take(self, entry: bytes) -> None:
        for line in entry.decode(errors="replace").splitlines():
            stamp, _, text = line[:LINE_BYTES_MAX].partition(" ")
            its_ns = unix_ns(stamp)
            if its_ns is None or (self._repeats and its_ns <= self._last_ns):
                continue
            self._last_ns, self._repeats = its_ns, False  # a clock may be set back from now on
            engine = self._engine
            error_ns = LINE_ERROR_NS + engine.offset_error_ns
            self._call(self._heard, text.rstrip(), engine.monotonic_ns(its_ns), error_ns)
