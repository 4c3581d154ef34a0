"""What the kernel says of a datagram: when it came, however late it is read, and what was lost.

A datagram that comes to a full buffer is dropped. The next one that finds room says how many were.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import NamedTuple

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


class Look(NamedTuple):
    """Both clocks at once."""

    now_ns: int  # monotonic
    unix_ns: int
    error_ns: int  # how far apart they were read
    since_ns: int  # what was stamped before this instant was stamped by another wall clock
    moved_ns: int  # by how much somebody has set it since it is watched


class WallClock:
    """The wall clock, which stamps what the kernel and Docker say, and which somebody may set.

    That it was set shows in what it is ahead of the monotonic one, beyond any slewing. Threads may
    share it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looking = threading.Lock()
        self._seen_ns = clock.now_ns()
        self._ahead_ns = clock.unix_ns() - self._seen_ns
        self._since_ns = self._moved_ns = 0

    def look(self) -> Look:
        with self._looking:
            before_ns = self._clock.now_ns()
            unix_ns = self._clock.unix_ns()
            now_ns = self._clock.now_ns()
            moved_ns = unix_ns - now_ns - self._ahead_ns
            slewed_ns = SLEW_NS_MAX + (now_ns - self._seen_ns) // 1000 + (now_ns - before_ns)
            if abs(moved_ns) > slewed_ns:
                self._since_ns = now_ns
                self._moved_ns += moved_ns
            self._seen_ns, self._ahead_ns = now_ns, unix_ns - now_ns
            return Look(now_ns, unix_ns, now_ns - before_ns, self._since_ns, self._moved_ns)


class Stamps:
    """From the kernel's stamps, which are by the wall clock, to instants on the monotonic one.

    What is known is how long ago a datagram came; if the wall clock was set meanwhile it is not.
    """

    def __init__(self, clock: Clock) -> None:
        self._wall = WallClock(clock)

    def instant(self, about: list[tuple[int, int, bytes]]) -> tuple[int, int]:
        """When a datagram came, and how wrong that may be."""
        look = self._wall.look()
        for level, kind, data in about:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) and len(data) == _TIMESPEC.size:
                seconds, rest_ns = _TIMESPEC.unpack(data)
                delay_ns = look.unix_ns - (seconds * 1_000_000_000 + rest_ns)
                came_ns = look.now_ns - delay_ns
                if 0 <= delay_ns <= DELAY_NS_MAX and came_ns >= look.since_ns:
                    return came_ns, look.error_ns
        return look.now_ns, 0
