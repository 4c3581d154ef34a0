"""The proxy's log by UDP, each line at the instant at which the kernel had it."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from chaosd.clock import Clock
from chaosd.events import Address
from chaosd.plugins import Proxy, Recorder

BUFFER_BYTES = 4 << 20  # a burst waits in the kernel; the proxy waits for nobody
LINE_BYTES_MAX = 65_536
LINES_AT_ONCE = 200  # then others have their turn
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_TIMESPEC = struct.Struct("@qq")
DELAY_NS_MAX = 10_000_000_000  # what claims to have waited longer was stamped by a clock that leapt


class LogReceiver:
    """Listens for a proxy's log, and stores what it tells. Raises OSError if it can't listen."""

    def __init__(self, at: Address, proxy: Proxy, recorder: Recorder) -> None:
        self._proxy, self._recorder = proxy, recorder
        family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            with suppress(OSError):  # then a line's instant is the one at which it is read
                self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
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
                line, about, *_ = self._socket.recvmsg(
                    LINE_BYTES_MAX, socket.CMSG_SPACE(_TIMESPEC.size)
                )
            except OSError:  # there are no more
                return
            at_ns, error_ns = _instant(about, self._recorder.clock)
            if said := self._proxy.read_log(line.decode(errors="replace").rstrip("\r\n\0")):
                what, data = said
                self._recorder.reading("proxy.log", what, at_ns=at_ns, error_ns=error_ns, **data)


def _instant(about: list[tuple[int, int, bytes]], clock: Clock) -> tuple[int, int]:
    """When a datagram came, on the monotonic clock, and how wrong that may be.

    The kernel stamps by the wall clock, so what is known is how long ago that was. It can't be less
    than nothing: a wall clock that was set meanwhile is not believed.
    """
    before_ns = clock.now_ns()
    unix_ns = clock.unix_ns()
    now_ns = clock.now_ns()
    for level, kind, data in about:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(data) == _TIMESPEC.size:
            seconds, rest_ns = _TIMESPEC.unpack(data)
            delay_ns = unix_ns - (seconds * 1_000_000_000 + rest_ns)
            if 0 <= delay_ns <= DELAY_NS_MAX:
                return now_ns - delay_ns, now_ns - before_ns
    return now_ns, 0
