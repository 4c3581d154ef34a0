"""What processes listen on, by the kernel's own tables, and what docs/security.md says of it."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parent.parent / "docs/security.md"
TCP_LISTENS = "0A"
TABLES = {"tcp": "tcp", "tcp6": "tcp", "udp": "udp", "udp6": "udp"}


class Socket(NamedTuple):
    """Something that others can send to."""

    kind: str  # tcp, udp, unix
    address: str


class Row(NamedTuple):
    """A line of the page: who listens, on what, and where, with `*` for what is chosen."""

    whose: str
    kind: str
    address: str


def rows(runtime: str) -> list[Row]:
    """The table of what listens on this runtime."""
    return [
        Row(whose, kind, where.strip("`"))
        for whose, kind, where, *_ in _table(f"runtime: {runtime}")
    ]


def privileges(runtime: str) -> dict[str, tuple[str, str]]:
    """Who has which user and capabilities, by the page."""
    lines = _table("With which privileges")
    return {whose: (user, what) for where, whose, user, what in lines if where == runtime}


def _table(heading: str) -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8")
    part = re.split(r"^#+ ", text.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def undocumented(found: dict[str, set[Socket]], runtime: str) -> tuple[list[str], list[str]]:
    """What listens and is not on the page, and what is on the page and was not found."""
    page = rows(runtime)
    missing = [
        f"{whose} listens on {kind} {address}, of which docs/security.md does not tell"
        for whose, sockets in found.items()
        for kind, address in sorted(sockets)
        if not any(
            (row.whose, row.kind) == (whose, kind) and fnmatchcase(address, row.address)
            for row in page
        )
    ]
    idle = [
        f"{row.whose} {row.kind} {row.address}"
        for row in page
        if not any(
            kind == row.kind and fnmatchcase(address, row.address)
            for kind, address in found.get(row.whose, ())
        )
    ]
    return missing, idle


# --- the kernel's tables ---


def children(pid: int) -> set[int]:
    """A process and all that it has started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found


def listening(pids: Iterable[int]) -> dict[int, set[Socket]]:
    """What processes of one network namespace listen on: sockets that take what anybody sends.

    Those that listen on nothing are left out. The tables are long, and read once.
    """
    owners: dict[str, set[int]] = {}
    for pid in pids:
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    target = str(Path(entry.path).readlink())
                    if target.startswith("socket:["):
                        owners.setdefault(target[len("socket:[") : -1], set()).add(pid)
    found: dict[int, set[Socket]] = {}
    for each in pids:
        for inode, where in _sockets(each):
            for pid in owners.get(inode, ()):
                found.setdefault(pid, set()).add(where)
        break
    return found


def _sockets(pid: int) -> Iterator[tuple[str, Socket]]:
    net = Path(f"/proc/{pid}/net")
    with suppress(OSError):
        for table, kind in TABLES.items():
            for line in (net / table).read_text().splitlines()[1:]:
                if kind == "tcp" and f" {TCP_LISTENS} " not in line:
                    continue  # thousands that are closed, waiting
                words = line.split()
                remote = int(words[2].rpartition(":")[2], 16)
                if words[3] == TCP_LISTENS if kind == "tcp" else remote == 0:
                    yield words[9], Socket(kind, _address(words[1]))
        for line in (net / "unix").read_text().splitlines()[1:]:
            words = line.split(maxsplit=7)
            if len(words) == 8:  # it has a name, so that others can find it
                yield words[6], Socket("unix", words[7])


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    packed = b"".join(
        struct.pack("=I", int(host[at : at + 8], 16)) for at in range(0, len(host), 8)
    )
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return f"{socket.inet_ntop(family, packed)}:{int(port, 16)}"


def capabilities(pid: int) -> int:
    """CapEff, as a mask."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)[0], 16)


def command(pid: int) -> str:
    """Its command line; that of a forked app is its name. Empty if it is gone."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        if name.startswith("chaosd "):
            return name
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
