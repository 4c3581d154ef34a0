"""Who has sent something: what is not the proxy's own is not believed.

A datagram says a sender's address and port, and nothing of who it is. The kernel's tables do: a
port belongs to a socket, and a socket to a process. See docs/decisions/0035-what-is-believed.md.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from chaosd.dns.actions import Transport
from chaosd.history.values import Address
from chaosd.system.clock import SECOND_NS, Clock

# A look at the kernel's tables takes a millisecond. Who floods us makes no more of them than this.
LOOKS_PER_SECOND_MAX = 50
STRANGER_NS = 20_000_000  # how long an address that was not the proxy's is not looked at again
LAST_WORDS_NS = 5 * SECOND_NS  # how long a process that was replaced is believed
STRANGERS_MAX = 1000
PROCESSES_MAX = 10_000
STRANGERS_S = 1.0  # how often it is said how many there were
ANYWHERE = ""
_UID, _INODE = 7, 9  # columns of /proc/net/udp, and of tcp

Believes = Callable[[Address], bool]


class OfProcess:
    """Believes a process of ours, and those of its session: its workers."""

    def __init__(
        self,
        pid: Callable[[], int | None],
        clock: Clock,
        transport: Transport = "udp",
        *,
        leaving: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`pid` is None as long as it is not started, and when it has ended.

        `leaving` is the one that it has taken over from, as long as that one ends its work.
        """
        self._pid, self._clock, self._transport = pid, clock, transport
        self._leaving = leaving
        self._looked_at: int | None = None
        self._former: set[tuple[str, int]] = set()  # sockets of the one before it,
        self._former_until_ns = 0  # whose last words may be read when it is gone
        self._known: set[tuple[str, int]] = set()
        self._strangers: dict[Address, int] = {}  # until when
        self._second = self._looks = 0

    def __call__(self, sender: Address) -> bool:
        if self._is_known(sender):  # its socket lives as long as it does
            return True
        now_ns, pid = self._clock.now_ns(), self._pid()
        if pid is None or now_ns < self._strangers.get(sender, 0) or not self._may_look(now_ns):
            return False
        if pid != self._looked_at:
            self._former, self._former_until_ns = self._known, now_ns + LAST_WORDS_NS
            self._looked_at = pid
        elif now_ns > self._former_until_ns:
            self._former = set()
        self._known = sockets_of(pid, self._transport) | self._former
        if (leaving := self._leaving()) is not None:
            self._known |= sockets_of(leaving, self._transport)
        if self._is_known(sender):
            return True
        if len(self._strangers) >= STRANGERS_MAX:
            self._strangers.clear()
        self._strangers[sender] = now_ns + STRANGER_NS
        return False

    def _may_look(self, now_ns: int) -> bool:
        second = now_ns // SECOND_NS
        self._looks = self._looks + 1 if second == self._second else 1
        self._second = second
        return self._looks <= LOOKS_PER_SECOND_MAX

    def _is_known(self, sender: Address) -> bool:
        # Where a socket has every address, nobody else can have its port at one of them.
        return (ANYWHERE, sender.port) in self._known or tuple(sender) in self._known


class OfAddress:
    """Believes one machine: the one that is named, or else the first that sends anything."""

    def __init__(self, host: str | None) -> None:
        self._host = host

    def __call__(self, sender: Address) -> bool:
        if self._host is None:
            self._host = sender.host
        return sender.host == self._host


class Strangers:
    """Counts what came from others, and tells of it at most once a second."""

    def __init__(self, tell: Callable[[int, str], None]) -> None:
        """`tell` gets how many there were so far, and who was the latest."""
        self._tell = tell
        self._count = self._told = 0
        self._latest = ""
        self._timer: asyncio.TimerHandle | None = None

    def one(self, sender: str) -> None:
        """Another one, from there."""
        self._count += 1
        self._latest = sender
        if self._timer is None:
            self._say()
            self._timer = asyncio.get_running_loop().call_later(STRANGERS_S, self._on_timer)

    def close(self) -> None:
        """Tell of those of which was not told yet. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
        self._say()

    def _on_timer(self) -> None:
        self._timer = None
        self._say()

    def _say(self) -> None:
        if self._count > self._told:
            self._told = self._count
            self._tell(self._count, self._latest)


def sockets_of(pid: int, transport: Transport = "udp") -> set[tuple[str, int]]:
    """Where the sockets of a process are, and of the other ones of its session.

    Where its descriptors can't be seen, as with a program that has capabilities of its own, they
    are those of its user.
    """
    try:
        inodes = _inodes(pid)
    except OSError:
        with suppress(OSError):
            uid = Path(f"/proc/{pid}").stat().st_uid
            return {where for where, owner, _ in _table(transport) if owner == uid}
        return set()  # it has ended
    for other in _session(pid):
        with suppress(OSError):
            inodes |= _inodes(other)
    return {where for where, _, inode in _table(transport) if inode in inodes}


def _inodes(pid: int) -> set[str]:
    """Of a process's sockets. Raises OSError if they can't be seen."""
    found = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(OSError):  # closed meanwhile
            target = str(Path(entry.path).readlink())
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    return found


def _session(pid: int) -> Iterator[int]:
    """The other processes of its session."""
    for entry in list(os.scandir("/proc"))[:PROCESSES_MAX]:
        if entry.name.isdecimal() and entry.name != str(pid):
            with suppress(OSError):
                if os.getsid(int(entry.name)) == pid:
                    yield int(entry.name)


def _table(transport: Transport) -> Iterator[tuple[tuple[str, int], int, str]]:
    """Each bound socket: its address, user and inode."""
    for name in (transport, f"{transport}6"):
        with suppress(OSError):
            lines = Path(f"/proc/self/net/{name}").read_text(encoding="ascii").splitlines()[1:]
            for words in map(str.split, lines):
                yield _where(words[1]), int(words[_UID]), words[_INODE]


def _where(text: str) -> tuple[str, int]:
    """An address as the kernel's tables have it: in words of 32 bits, each in this machine's order.

    One that stands for every address is ANYWHERE.
    """
    host, _, port = text.rpartition(":")
    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, packed) if any(words) else ANYWHERE, int(port, 16)
