"""A way to the real engine that can be told to hang: it takes connections and answers nothing."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PAUSE_S = 0.02
REAL = "/var/run/docker.sock"


class HangingEngine:
    """A UNIX socket before the engine's own; `hang_when` says by which request it hangs."""

    def __init__(self, root: Path, real: str = REAL) -> None:
        self.url = f"unix://{root}/s"
        self.hangs = threading.Event()
        self._hang_at: Callable[[str], bool] = lambda _: False
        self._real = real
        self._closed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{root}/s")
        self._listener.listen(64)
        self._start(self._accept)

    def hang_when(self, *patterns: str) -> None:
        """Hang at the first request like the last of these, once those before it were seen."""
        left = list(patterns)

        def now(request: str) -> bool:
            if left and re.match(left[0], request):
                left.pop(0)
                return not left
            return False

        self._hang_at = now

    def close(self) -> None:
        self._closed.set()
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._sockets):
            each.close()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._closed.is_set():
                asking, _ = self._listener.accept()
                answering = socket.socket(socket.AF_UNIX)
                self._sockets += [asking, answering]
                answering.connect(self._real)
                self._start(self._pump, asking, answering)
                self._start(self._pump, answering, asking)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                line = data.split(b"\r\n")[0].decode(errors="replace")
                if line.endswith(" HTTP/1.1") and self._hang_at(line):
                    self.hangs.set()
                while self.hangs.is_set() and not self._closed.is_set():
                    time.sleep(PAUSE_S)
                if self._closed.is_set():
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
