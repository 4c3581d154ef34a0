"""What the kernel says of a datagram: when it came, however late it is read, and what was lost.

A datagram that comes to a full buffer is dropped. The next one that finds room says how many were.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

from chaosd.system.clock import Clock

SO_TIMESTAMPNS, SO_RXQ_OVFL = 35, 40  # asm-generic/socket.h; Python has no names for them
_TIMESPEC, _COUNT = struct.Struct("@qq"), struct.Struct("@I")
# What `recvmsg` needs room for.
ABOUT_BYTES = socket.CMSG_SPACE(_TIMESPEC.size) + socket.CMSG_SPACE(_COUNT.size)
SLEW_NS_MAX = 2_000_000  # and a thousandth of the time that has passed
# What claims to have waited longer was stamped by a clock that leapt. A process that is stopped for
# minutes reads what came meanwhile when it goes on.
DELAY_NS_MAX = 600_000_000_000


def ask_for(receiver: socket.socket) -> None:
    """Let its datagrams be stamped; where that can't be, their instant is when they are read."""
    for option in (SO_TIMESTAMPNS, SO_RXQ_OVFL):
        with suppress(OSError):
            receiver.setsockopt(socket.SOL_SOCKET, option, 1)


def dropped(about: list[tuple[int, int, bytes]]) -> int:
    """How many datagrams its socket had dropped when this one came."""
    for level, kind, data in about:
        if (level, kind) == (socket.SOL_SOCKET, SO_RXQ_OVFL) and len(data) == _COUNT.size:
            return int(_COUNT.unpack(data)[0])
    return 0


class Stamps:
    """From the kernel's stamps, which are by the wall clock, to instants on the monotonic one.

    What is known is how long ago a datagram came. A wall clock that was set in the meantime is not
    believed: that it was shows in what it is ahead of the monotonic one, beyond any slewing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen_ns = clock.now_ns()
        self._ahead_ns = clock.unix_ns() - self._seen_ns
        self._set_ns = self._seen_ns  # since when the wall clock was not set, as far as is known

    def instant(self, about: list[tuple[int, int, bytes]]) -> tuple[int, int]:
        """When a datagram came, and how wrong that may be."""
        before_ns = self._clock.now_ns()
        unix_ns = self._clock.unix_ns()
        now_ns = self._clock.now_ns()
        passed_ns, ahead_ns = now_ns - self._seen_ns, unix_ns - now_ns
        slewed_ns = SLEW_NS_MAX + passed_ns // 1000 + (now_ns - before_ns)
        if abs(ahead_ns - self._ahead_ns) > slewed_ns:
            self._set_ns = now_ns
        self._seen_ns, self._ahead_ns = now_ns, ahead_ns
        for level, kind, data in about:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(data) == _TIMESPEC.size:
                seconds, rest_ns = _TIMESPEC.unpack(data)
                delay_ns = unix_ns - (seconds * 1_000_000_000 + rest_ns)
                if 0 <= delay_ns <= min(DELAY_NS_MAX, now_ns - self._set_ns):
                    return now_ns - delay_ns, now_ns - before_ns
        return now_ns, 0
