"""The proxy's log by UDP, each line at the instant at which the kernel had it."""

from __future__ import annotations

import asyncio
import socket

from chaosd.history.events import Inbox, LogRefused
from chaosd.history.values import Address
from chaosd.plugins.proxy import LogReader, log_event
from chaosd.plugins.recording import Recorder
from chaosd.runtimes.senders import Believes
from chaosd.runtimes.unread import Unread
from chaosd.system import stamps

BUFFER_BYTES = 4 << 20  # a burst waits in the kernel; the proxy waits for nobody
LINE_BYTES_MAX = 65_536
LINES_AT_ONCE = 200  # then others have their turn
REFUSED_S = 1.0  # how often it is said how many were not believed


class LogReceiver:
    """Listens for a proxy's log, and stores what it tells. Raises OSError if it can't listen.

    Anybody can send here: what `believes` does not take for the proxy's is counted, and not read.
    """

    def __init__(
        self, at: Address, read: LogReader, recorder: Recorder, *, believes: Believes
    ) -> None:
        self._read_line, self._recorder = read, recorder
        self._refusals = Refusals(believes, recorder)
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
            self._refusals.close()

    def _read(self) -> None:
        for _ in range(LINES_AT_ONCE):
            try:
                line, about, _, sender = self._socket.recvmsg(LINE_BYTES_MAX, stamps.ABOUT_BYTES)
            except OSError:  # there are no more
                return
            if self._refusals.refuses(Address(*sender[:2])):
                continue
            at_ns, error_ns = self._stamps.instant(about)
            self._unread.was(self._recorder.clock.now_ns() - at_ns, at_ns)
            if said := self._read_line(line.decode(errors="replace").rstrip("\r\n\0")):
                what, data = said
                self._recorder.record(log_event(what, data), at_ns=at_ns, error_ns=error_ns)


class Refusals:
    """Counts what was not believed, and says so at most once a second."""

    def __init__(self, believes: Believes, recorder: Recorder) -> None:
        self._believes, self._recorder = believes, recorder
        self._count = self._said = 0
        self._sender = ""
        self._timer: asyncio.TimerHandle | None = None

    def refuses(self, sender: Address) -> bool:
        if self._believes(sender):
            return False
        self._count += 1
        self._sender = str(sender)
        if self._timer is None:
            self._say()
            self._timer = asyncio.get_running_loop().call_later(REFUSED_S, self._on_timer)
        return True

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._say()

    def _on_timer(self) -> None:
        self._timer = None
        self._say()

    def _say(self) -> None:
        if self._count > self._said:
            self._said = self._count
            self._recorder.record(LogRefused(count=self._count, sender=self._sender))
