"""A way to standard output that never waits: who does not read it must not stop the measuring.

A pipe takes 64 KB and then blocks who writes; so does a terminal after Ctrl-S, and a file on a
disk that hangs. A thread writes, and what it can't get rid of is dropped and counted.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

from chaosd.system import priority

WAITING_MAX = 1000  # texts; further ones are dropped
BEHIND = 8  # texts that wait: what can be shown later should be
PATIENCE_S = 3.0  # at the end: without any progress for so long nobody reads it


def outlet(stream: TextIO) -> Outlet | Direct:
    """The way to this stream. What is no file of the system's (as in tests) takes all at once."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return Direct(stream)
    stream.flush()
    return Outlet(descriptor, stream.encoding or "utf-8")


class Direct:
    """For a stream in memory."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    @property
    def is_behind(self) -> bool:
        return False

    def write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()
            self.failure = None
        except ValueError:
            self.failure = BrokenPipeError()
        except OSError as error:
            self.failure = error

    def finish(self) -> None:
        """All is written already."""


class Outlet:
    """Writes to a descriptor by a thread of its own, around Python's buffers and their locks."""

    def __init__(
        self,
        descriptor: int,
        encoding: str,
        write: Callable[[int, bytes], int] = os.write,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.failure: OSError | None = None  # of the latest text
        self._descriptor, self._encoding = descriptor, encoding
        self._write, self._patience_s = write, patience_s
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._busy = False
        self._thread: threading.Thread | None = None

    @property
    def is_behind(self) -> bool:
        """Whether more waits to be written than a reader leaves who reads."""
        return len(self._waiting) > BEHIND

    def write(self, text: str) -> None:
        """Have this written after all before it; or drop it, if too much waits already."""
        with self._changed:
            if len(self._waiting) >= WAITING_MAX:
                self._dropped += 1
                return
            if self._dropped:
                lines = f"{self._dropped} line{'s' * (self._dropped != 1)}"
                self._waiting.append(f"({lines} left out here: standard output was not read)\n")
                self._dropped = 0
            self._waiting.append(text)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="output", daemon=True)
                self._thread.start()

    def finish(self) -> None:
        """Wait until all is written, as long as anything is."""
        with self._changed:
            while not self._is_idle() and self._changed.wait(self._patience_s):
                pass

    def _is_idle(self) -> bool:
        return not self._waiting and not self._busy

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                self._busy = True
                text = self._waiting.popleft()
            priority.share()  # by each text: the first ones come before the measuring
            try:
                data = text.encode(self._encoding, "backslashreplace")
                while data:
                    data = data[self._taken(data) :]
                self.failure = None
            except OSError as error:
                self.failure = error

    def _taken(self, data: bytes) -> int:
        """Write some of it, and say how much. Who has started us may have made writes not wait."""
        try:
            return self._write(self._descriptor, data)
        except BlockingIOError:
            select.select([], [self._descriptor], [])
            return 0
