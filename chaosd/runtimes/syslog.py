"""The proxy's log by UDP, each line at the instant at which the kernel had it."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from chaosd.history.values import Address
from chaosd.plugins.proxy import LogReader, log_event
from chaosd.plugins.recording import Recorder
from chaosd.system.clock import Clock

BUFFER_BYTES = 4 << 20  # a burst waits in the kernel; the proxy waits for nobody
LINE_BYTES_MAX = 65_536
LINES_AT_ONCE = 200  # then others have their turn
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_TIMESPEC = struct.Struct("@qq")
SLEW_NS_MAX = 2_000_000  # and a thousandth of the time that has passed
DELAY_NS_MAX = 10_000_000_000  # what claims to have waited longer was stamped by a clock that leapt


class LogReceiver:
    """Listens for a proxy's log, and stores what it tells. Raises OSError if it can't listen."""

    def __init__(self, at: Address, read: LogReader, recorder: Recorder) -> None:
        self._read_line, self._recorder = read, recorder
        self._stamps = Stamps(recorder.clock)
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
            at_ns, error_ns = self._stamps.instant(about)
            if said := self._read_line(line.decode(errors="replace").rstrip("\r\n\0")):
                what, data = said
                self._recorder.record(log_event(what, data), at_ns=at_ns, error_ns=error_ns)


class Stamps:
    """From the kernel's stamps, which are by the wall clock, to instants on the monotonic one.

    What is known is how long ago a datagram came. A wall clock that was set in the meantime is not
    believed: that it was shows in what it is ahead of the monotonic one, beyond any slewing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen_ns = clock.now_ns()
        self._ahead_ns = clock.unix_ns() - self._seen_ns

    def instant(self, about: list[tuple[int, int, bytes]]) -> tuple[int, int]:
        """When a datagram came, and how wrong that may be."""
        before_ns = self._clock.now_ns()
        unix_ns = self._clock.unix_ns()
        now_ns = self._clock.now_ns()
        passed_ns, ahead_ns = now_ns - self._seen_ns, unix_ns - now_ns
        slewed_ns = SLEW_NS_MAX + passed_ns // 1000 + (now_ns - before_ns)
        was_set = abs(ahead_ns - self._ahead_ns) > slewed_ns
        self._seen_ns, self._ahead_ns = now_ns, ahead_ns
        for level, kind, data in about:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(data) == _TIMESPEC.size:
                seconds, rest_ns = _TIMESPEC.unpack(data)
                delay_ns = unix_ns - (seconds * 1_000_000_000 + rest_ns)
                if 0 <= delay_ns <= DELAY_NS_MAX and not was_set:
                    return now_ns - delay_ns, now_ns - before_ns
        return now_ns, 0
