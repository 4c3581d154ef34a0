"""The proxy's log by UDP, each line at the instant at which the kernel had it."""

from __future__ import annotations

import asyncio
import socket

from chaosd.history.events import Inbox, LogRefused
from chaosd.history.values import Address
from chaosd.plugins.proxy import LogReader, log_event
from chaosd.plugins.recording import Recorder
from chaosd.runtimes.senders import Believes, Strangers
from chaosd.runtimes.unread import Unread
from chaosd.system import stamps

BUFFER_BYTES = 4 << 20  # a burst waits in the kernel; the proxy waits for nobody
LINE_BYTES_MAX = 65_536
LINES_AT_ONCE = 200  # then others have their turn


class LogReceiver:
    """Listens for a proxy's log, and stores what it tells. Raises OSError if it can't listen.

    Anybody can send here: what `believes` does not take for the proxy's is counted, and not read.
    """

    def __init__(
        self, at: Address, read: LogReader, recorder: Recorder, *, believes: Believes
    ) -> None:
        self._read_line, self._recorder = read, recorder
        self._believes = believes
        self._strangers = Strangers(
            lambda count, sender: recorder.record(LogRefused(count=count, sender=sender))
        )
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
            self._strangers.close()

    def _read(self) -> None:
        for _ in range(LINES_AT_ONCE):
            try:
                line, about, _, sender = self._socket.recvmsg(LINE_BYTES_MAX, stamps.ABOUT_BYTES)
            except OSError:  # there are no more
                return
            if not self._believes(Address(*sender[:2])):
                self._strangers.one(str(Address(*sender[:2])))
                continue
            at_ns, error_ns = self._stamps.instant(about)
            late_ns = self._recorder.clock.now_ns() - at_ns
            self._unread.was(late_ns, at_ns, stamps.dropped(about))
            if said := self._read_line(line.decode(errors="replace").rstrip("\r\n\0")):
                what, data = said
                self._recorder.record(log_event(what, data), at_ns=at_ns, error_ns=error_ns)
