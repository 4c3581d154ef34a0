"""What a user's file would do to the machine: the sockets it opens and the programs it runs.

HAProxy does both for real, with the rights of the user who runs chaosd. A file with `CHAOSD_…`
variables is run as it is, and may open chaosd's own addresses only; rewired copies are looked at by
`rewire/audit.py`. Programs run only if the user has said so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from chaosd.proxies.haproxy.cfg.findings import Finding, Kind
from chaosd.proxies.haproxy.cfg.source import Document, Section, Statement

LISTEN, DNS, API = "CHAOSD_LISTEN", "CHAOSD_DNS", "CHAOSD_API"

_BINDS = frozenset({"bind", "dgram-bind"})
_PROXIES = frozenset({"frontend", "listen", "backend"})
_FAMILY = r"(?:(?:ipv4|tcp|tcp4|udp|udp4|unix)@)?"

# What runs something, by its first words, and which word says what.
_RUNS: dict[tuple[str, ...], int] = {
    ("lua-load",): 1,
    ("lua-load-per-thread",): 1,
    ("external-check", "command"): 2,
    ("ssl-passphrase-cmd",): 1,
    ("module-load",): 1,
    ("ssl-engine",): 1,
}


def refusals(document: Document, *, allow_programs: bool, api_by_tcp: bool) -> list[Finding]:
    """Why this file is not started as it is: a finding for each line that opens or runs something.

    `document` has to have the lines of conditions of which it is not known whether they hold.
    `api_by_tcp` says that the Runtime API has no file whose permissions guard it.
    """
    found = [finding for section in document.sections for finding in _opens(section)]
    if api_by_tcp:
        found += [finding for section in document.sections for finding in _commanded(section)]
    if not allow_programs:
        found += [finding for section in document.sections for finding in _runs(section)]
    return sorted(found, key=lambda finding: finding.place)


def programs(document: Document) -> list[Finding]:
    """The lines that run something."""
    return [finding for section in document.sections for finding in _runs(section)]


# --- sockets -------------------------------------------------------------------------------------


def _opens(section: Section) -> Iterator[Finding]:
    header = section.header
    addresses = [word.text for word in header.arguments[1:2]]
    if section.kind in _PROXIES and addresses and addresses != ["from"]:
        yield _finding(header, Kind.OPENS, LISTEN)  # `listen web :80`
    for line in section.statements:
        if line.modifier:
            continue
        if line.keyword in _BINDS and not _is_ours(line, 1, LISTEN):
            yield _finding(line, Kind.OPENS, LISTEN)
        elif line.says("stats", "socket") and not _is_ours(line, 2, API):
            yield _finding(line, Kind.OPENS, API)
        elif section.kind == "peers" and _is_peer(line):
            yield _finding(line, Kind.PEERS)
        elif section.kind == "resolvers" and _asks(line):
            yield _finding(line, Kind.ASKS, DNS)


def _commanded(section: Section) -> Iterator[Finding]:
    for line in section.statements:
        if line.says("stats", "socket") and ("level", "admin") in pairwise(line.texts):
            yield _finding(line, Kind.COMMANDED)


def _is_peer(line: Statement) -> bool:
    """With an address: one of the local peer's name listens there, others are connected to."""
    return line.keyword in ("peer", "server") and len(line.words) > 2  # noqa: PLR2004


def _asks(line: Statement) -> bool:
    if line.keyword == "parse-resolv-conf":
        return True
    return line.keyword == "nameserver" and not _is_ours(line, 2, DNS)


def _is_ours(line: Statement, at: int, variable: str) -> bool:
    """Whether an address is what chaosd supplies, and nothing beside it.

    The file may give the variable a value of its own: then its text is that value.
    """
    text = line.texts[at] if at < len(line.texts) else ""
    return re.fullmatch(rf"{_FAMILY}\$\{{{variable}\}}", text) is not None


# --- programs ------------------------------------------------------------------------------------


def _runs(section: Section) -> Iterator[Finding]:
    for line in section.statements:
        at = 1 if section.kind == "program" and line.keyword == "command" else None
        for words, place in _RUNS.items():
            if line.says(*words):
                at = place
        if at is not None and not line.modifier:
            what = " ".join(word.raw for word in line.words[at:])
            yield _finding(line, Kind.RUNS, f"`{what}`" if what else "something")


def _finding(line: Statement, kind: Kind, detail: str = "") -> Finding:
    return Finding(line.place, kind, detail, " ".join(word.raw for word in line.words))
