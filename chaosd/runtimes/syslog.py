"""The proxy's log by UDP, each line at the instant at which the kernel had it."""

from __future__ import annotations

import asyncio
import socket

from chaosd.history.events import Inbox
from chaosd.history.values import Address
from chaosd.plugins.proxy import LogReader, log_event
from chaosd.plugins.recording import Recorder
from chaosd.runtimes.unread import Unread
from chaosd.system import stamps

BUFFER_BYTES = 4 << 20  # a burst waits in the kernel; the proxy waits for nobody
LINE_BYTES_MAX = 65_536
LINES_AT_ONCE = 200  # then others have their turn


class LogReceiver:
    """Listens for a proxy's log, and stores what it tells. Raises OSError if it can't listen."""

    def __init__(self, at: Address, read: LogReader, recorder: Recorder) -> None:
        self._read_line, self._recorder = read, recorder
        self._stamps = stamps.Stamps(recorder.clock)
        self._unread = Unread(recorder, Inbox.LOG)
        family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            stamps.ask_for(self._socket)
            self._socket.bind(at)
        except BaseException:
            self._socket.close()
            raise
        self.address = Address(*self._socket.getsockname()[:2])
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """May be called twice."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> None:
        for _ in range(LINES_AT_ONCE):
            try:
                line, about, *_ = self._socket.recvmsg(LINE_BYTES_MAX, stamps.ABOUT_BYTES)
            except OSError:  # there are no more
                return
            at_ns, error_ns = self._stamps.instant(about)
            self._unread.was(self._recorder.clock.now_ns() - at_ns, at_ns)
            if said := self._read_line(line.decode(errors="replace").rstrip("\r\n\0")):
                what, data = said
                self._recorder.record(log_event(what, data), at_ns=at_ns, error_ns=error_ns)
