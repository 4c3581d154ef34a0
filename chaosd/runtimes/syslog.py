"""The proxy's log by UDP, each line at the instant at which the kernel had it."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

from chaosd.history.events import LogRefused
from chaosd.history.values import Address
from chaosd.plugins.proxy import LogReader, log_event
from chaosd.plugins.recording import Recorder
from chaosd.runtimes.senders import Believes
from chaosd.system.clock import Clock

BUFFER_BYTES = 4 << 20  # a burst waits in the kernel; the proxy waits for nobody
LINE_BYTES_MAX = 65_536
LINES_AT_ONCE = 200  # then others have their turn
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
_TIMESPEC = struct.Struct("@qq")
SLEW_NS_MAX = 2_000_000  # and a thousandth of the time that has passed
REFUSED_S = 1.0  # how often it is said how many were not believed
DELAY_NS_MAX = 10_000_000_000  # what claims to have waited longer was stamped by a clock that leapt


class LogReceiver:
    """Listens for a proxy's log, and stores what it tells. Raises OSError if it can't listen.

    Anybody can send here: what `believes` does not take for the proxy's is counted, and not read.
    """

    def __init__(
        self, at: Address, read: LogReader, recorder: Recorder, *, believes: Believes
    ) -> None:
        self._read_line, self._recorder = read, recorder
        self._refusals = Refusals(believes, recorder)
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
            self._refusals.close()

    def _read(self) -> None:
        for _ in range(LINES_AT_ONCE):
            try:
                line, about, _, sender = self._socket.recvmsg(
                    LINE_BYTES_MAX, socket.CMSG_SPACE(_TIMESPEC.size)
                )
            except OSError:  # there are no more
                return
            if self._refusals.refuses(Address(*sender[:2])):
                continue
            at_ns, error_ns = self._stamps.instant(about)
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
            self._timer = asyncio.get_running_loop().call_later(REFUSED_S, self._again)
        return True

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._say()

    def _again(self) -> None:
        self._timer = None
        self._say()

    def _say(self) -> None:
        if self._count > self._said:
            self._said = self._count
            self._recorder.record(LogRefused(count=self._count, sender=self._sender))


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
