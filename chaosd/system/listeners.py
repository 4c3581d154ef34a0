"""Who listens at an address of this machine, by the kernel's own list.

    sockets("127.0.0.1", 80)               # the inodes of those that listen exactly there
    held_by(pid)                           # the inodes of a process's sockets, or None

Several processes may listen at one address (SO_REUSEPORT): each gets a part of the connections.
What this kernel does not tell is left out, and then nothing may be claimed.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from struct import Struct

PROC = Path("/proc")
_SOCK_DIAG, _BY_FAMILY = 4, 20  # NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY
_REQUEST, _DUMP = 0x1, 0x300  # NLM_F_…
_DONE, _ERROR = 3, 2  # NLMSG_…
_LISTEN = 1 << 10  # of the states of TCP
_HEAD = Struct("=IHHII")  # length, type, flags, number, who asks
_ASK = Struct("=BBBBIHH44x")  # family, protocol, more, -, states; ports by the network's order, …
# The filter that the kernel runs: a step (what, where to go on if so, and if not) and an address.
# Its head, as of every attribute, is its length and its kind.
_FILTER, _STEP, _WHERE = Struct("=HH"), Struct("=BBH"), Struct("=BBxxi4s")
_BY_CODE, _FROM = 1, 7  # INET_DIAG_REQ_BYTECODE, INET_DIAG_BC_S_COND
_TOLD = Struct("=4xHH4s40x12xII")  # ports, the address, …, uid, inode
_ANSWER_MAX = 1 << 16
_WAIT_S = 1.0


def sockets(host: str, port: int) -> set[int]:
    """The inodes of the sockets that listen at this address of IPv4, and not at all addresses."""
    try:
        return set(_listening(socket.inet_aton(host), port))
    except OSError:
        return set()


def _listening(host: bytes, port: int) -> list[int]:
    body = _ASK.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _LISTEN, socket.htons(port), 0)
    length = _STEP.size + _WHERE.size
    body += _FILTER.pack(_FILTER.size + length, _BY_CODE)
    body += _STEP.pack(_FROM, length, length + 4) + _WHERE.pack(socket.AF_INET, 32, -1, host)
    head = _HEAD.pack(_HEAD.size + len(body), _BY_FAMILY, _REQUEST | _DUMP, 1, 0)
    found: list[int] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as asking:
        asking.settimeout(_WAIT_S)
        asking.send(head + body)
        while True:
            answer, at = asking.recv(_ANSWER_MAX), 0
            while at < len(answer):
                length, kind, *_ = _HEAD.unpack_from(answer, at)
                if kind in (_DONE, _ERROR) or length < _HEAD.size:
                    return found
                sport, _, where, _, inode = _TOLD.unpack_from(answer, at + _HEAD.size)
                if where == host and sport == socket.htons(port):
                    found.append(inode)
                at += (length + 3) & ~3


def held_by(pid: int) -> set[int] | None:
    """The inodes of its sockets; None if it has ended, or does not let us look."""
    found: set[int] = set()
    try:
        for entry in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError, ValueError):
                kind, _, inode = str(entry.readlink()).partition(":")
                if kind == "socket":
                    found.add(int(inode.strip("[]")))
    except OSError:
        return None
    return found
