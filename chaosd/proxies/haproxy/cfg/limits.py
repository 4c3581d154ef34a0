"""What of a file the model leaves out, and what the answer may be wrong in for it.

A word that is not modelled takes nothing away: it becomes a `Limit`, with its line, and the rest is
predicted. Words that change nothing in the answer are not here at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from chaosd.proxies.haproxy.cfg.checks import is_option
from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Server, Value
from chaosd.proxies.haproxy.cfg.source import Place, Statement, Trouble
from chaosd.proxies.haproxy.model.backend import Limit

SAID_MAX = 60  # characters of a line


class Change(StrEnum):
    """What a part that is left out may change in the answer."""

    WHO = "who"  # which server a request goes to
    BROUGHT = "brought"  # the same, only for requests that bring something: a cookie, a header
    CROWD = "crowd"  # how many requests there are counts; it is in the model, for one rate
    QUEUE = "queue"  # how long requests wait for a place, or where they go instead
    AGENT = "agent"  # an agent tells states and weights
    PROGRAM_CHECKS = "program checks"  # a program finds out who is UP
    CHECK_ADDRESS = "check address"  # checks go to another host
    CHECK_TIMES = "check times"  # checks come sooner or later than they should
    DRAINED = "drained"  # an answer of 404 takes a server out softly
    ROLE = "role"  # a check seems to let one instance of several pass
    RETRIED = "retried"  # more than failed connections is tried again
    REDISPATCH = "redispatch"  # counted from the last retry
    PROGRAM = "program"  # Lua or an agent decides about requests
    DESTINATION = "destination"  # a rule chooses the address
    FALLBACK = "fallback"  # another backend takes over
    PREFERRED_NET = "preferred net"  # which of several addresses is taken
    DNS_BY_TCP = "dns by tcp"
    SOCKS = "socks"  # a SOCKS proxy says what an address meets
    PROCESSES = "processes"  # each one asks DNS and checks by itself
    DISABLED = "disabled"  # a server that stays out until somebody enables it
    NO_RESOLVERS = "no resolvers"  # the section is in none of the files: defaults are taken
    UNSET = "unset"  # a variable without a value: HAProxy's default is taken
    UNDECIDED = "undecided"  # whether a part of the file holds


# Keywords of a server that are left out: with which values nothing is changed, and what else is.
SERVER_LIMITS: dict[str, tuple[tuple[object, ...], Change]] = {
    "agent-check": ((False,), Change.AGENT),
    "addr": ((), Change.CHECK_ADDRESS),
    "resolve-net": ((), Change.PREFERRED_NET),
    "socks4": ((), Change.SOCKS),
    "redir": ((), Change.DESTINATION),
    "disabled": ((False,), Change.DISABLED),
}
# What changes when an address is found, or when a server is UP: no closed form holds with these.
TIMES = frozenset(
    {
        *(Change.AGENT, Change.PROGRAM_CHECKS, Change.CHECK_ADDRESS),
        *(Change.CHECK_TIMES, Change.DRAINED, Change.DESTINATION, Change.DNS_BY_TCP),
        *(Change.SOCKS, Change.PROCESSES, Change.DISABLED, Change.UNSET, Change.UNDECIDED),
        Change.NO_RESOLVERS,
    }
)
# What decides when a request first gets to the new instance.
DECIDES = TIMES | {Change.WHO}
# What changes what requests come to in a run, whose stand-in app passes all checks, and whose
# probes bring nothing.
REQUESTS = frozenset(Change) - {Change.ROLE, Change.BROUGHT, Change.CROWD}
# What an answer depends on only where there is more than one server.
_OF_SEVERAL = frozenset({Change.WHO, Change.BROUGHT, Change.ROLE})
_ROLES = re.compile(r"(?i)(?<![a-z])(?:primary|master|leader|writer|read-write)(?![a-z])")
_HASHES = ("source", "uri", "hash")
# By something that requests may lack: those are given to servers in turn.
_BROUGHT = ("url_param", "hdr", "rdp-cookie")
_BY_HOST = re.compile(r"^hdr\(\s*host\b", re.IGNORECASE)  # which no request lacks
_STICKS = ("on", "match", "store-request", "store-response")
_OUTCOMES = re.compile(r"\b(?:nbsrv|srv_is_up|connslots|be_conn_free)\(([^)/,]+)")
_ROUTES = ("use_backend", "default_backend", "http-request", "tcp-request", "redirect")
_ALWAYS_RETRIED = frozenset({"conn-failure", "none"})


class Before(NamedTuple):
    """What a frontend does before a request comes to a backend: that one, or None: any."""

    section: Place
    backend: str | None
    limit: Limit


def limits_of(
    effective: Effective, backend: Proxy, before: Sequence[Before], *, several: bool
) -> tuple[Limit, ...]:
    """All that is left out of this backend. `several`: it has more than one server."""
    found = [
        *_of_process(effective, backend),
        *_of_nameservers(effective, backend),
        *_of_values(backend),
        *_of_lines(backend),
        *(each.limit for each in before if _is_before(backend, each)),
    ]
    for server in backend.servers:
        found += _of_server(server)
    return tuple(
        dict.fromkeys(limit for limit in found if several or limit.changes not in _OF_SEVERAL)
    )


def limit(place: Place, what: str, change: Change) -> Limit:
    said = what if len(what) <= SAID_MAX else f"{what[: SAID_MAX - 2]} …"
    return Limit(file=str(place.file), line=place.line, what=said, changes=change)


def _of_line(line: Statement, change: Change, words: int = 4) -> Limit:
    return limit(line.place, " ".join(word.raw for word in line.words[:words]), change)


def _of_process(effective: Effective, backend: Proxy) -> Iterator[Limit]:
    for problem in effective.problems:
        if problem.trouble is Trouble.UNDECIDED:
            yield limit(problem.place, problem.what, Change.UNDECIDED)
    checked = any(server.values["check"].value for server in backend.servers)
    for _, line in effective.document.statements("global"):
        number = line.texts[1] if line.words[1:] else "0"
        if line.says("spread-checks") and number != "0" and checked:
            yield _of_line(line, Change.CHECK_TIMES)
        if line.says("nbproc") and number not in ("0", "1"):
            yield _of_line(line, Change.PROCESSES)


def _of_nameservers(effective: Effective, backend: Proxy) -> Iterator[Limit]:
    names = {str(server.values["resolvers"].value) for server in backend.servers}
    for name in sorted(names & effective.resolvers.keys()):
        for nameserver in effective.resolvers[name].nameservers:
            if nameserver.address.text.startswith("tcp"):
                yield limit(nameserver.place, nameserver.address.raw, Change.DNS_BY_TCP)


def _of_values(backend: Proxy) -> Iterator[Limit]:
    for name in ("transparent", "http_proxy"):
        if is_option(backend, name):
            yield _of_value(backend, f"option {name}", Change.DESTINATION)
    if is_option(backend, "external-check") and any(
        server.values["check"].value for server in backend.servers
    ):
        yield _of_value(backend, "option external-check", Change.PROGRAM_CHECKS)
    retried = backend.values.get("retry-on")
    if retried is not None and not {*str(retried.value).split()} <= _ALWAYS_RETRIED:
        yield _of_value(backend, "retry-on", Change.RETRIED)
    if int(backend.values["option redispatch"].value or 0) < -1:
        yield _of_value(backend, "option redispatch", Change.REDISPATCH)
    if (change := _balance(str(backend.values["balance"].value))) is not None:
        yield _of_value(backend, "balance", change)
    if "dispatch" in backend.values:
        yield _of_value(backend, "dispatch", Change.DESTINATION)


def _balance(said: str) -> Change | None:
    """What this way of choosing servers changes."""
    algorithm = said.partition(" ")[0].partition("(")[0]
    if algorithm in _HASHES or _BY_HOST.match(said):
        return Change.WHO
    return Change.BROUGHT if algorithm in _BROUGHT else None


def _of_value(backend: Proxy, name: str, change: Change) -> Limit:
    value: Value = backend.values[name]
    said = name if name.startswith("option ") else f"{name} {value.value}"
    return limit(value.place or backend.place, said, change)


def _of_lines(backend: Proxy) -> Iterator[Limit]:
    """What its rules do, its own and those of its defaults."""
    named = any("cookie" in server.values for server in backend.servers)
    for line in (*backend.inherited, *backend.statements):
        if line.modifier:
            continue
        texts = line.texts
        if line.keyword == "use-server":
            yield _of_line(line, Change.WHO, 2)
        elif line.keyword == "stick" and texts[1:2] and texts[1] in _STICKS:
            yield _of_line(line, Change.BROUGHT if _is_brought(texts) else Change.WHO, 3)
        elif line.keyword == "cookie" and (named or "dynamic" in texts):
            yield _of_line(line, Change.BROUGHT, 2)
        elif texts[:1] in (("option",), ("http-check",), ("tcp-check",)) and _is_role(texts):
            yield _of_line(line, Change.ROLE, 5)
        elif texts[:2] == ("http-check", "disable-on-404"):
            yield _of_line(line, Change.DRAINED)
        elif texts[:2] == ("filter", "spoe") or _is_program(texts):
            yield _of_line(line, Change.PROGRAM)
        elif texts[1:2] and texts[1].partition("(")[0] in ("set-dst", "set-dst-port", "do-resolve"):
            yield _of_line(line, Change.DESTINATION, 2)


def _is_brought(texts: Sequence[str]) -> bool:
    """Whether a user is kept by something that requests may lack, as the probes' do."""
    fetch = texts[2].lower() if texts[2:] else ""
    if fetch.startswith(("hdr(", "req.hdr(")) and not _BY_HOST.match(fetch.removeprefix("req.")):
        return "if" in texts[3:]  # else a rule may have set the header for all of them
    return fetch.startswith(
        ("cook(", "req.cook(", "res.cook(", "urlp(", "url_param(", "rdp_cookie")
    )


def _is_role(texts: Sequence[str]) -> bool:
    """Whether this is about which instance is the primary."""
    asks = texts[:2] in (("option", "httpchk"), ("http-check", "send")) or texts[1:2] == ("expect",)
    return asks and any(_ROLES.search(text) for text in texts[2:])


def _is_program(texts: Sequence[str]) -> bool:
    return any(text.startswith("lua.") for text in texts[1:4])


def before_backends(effective: Effective) -> tuple[Before, ...]:
    """What all frontends do; looked for once, as the files of some have thousands of backends."""
    return tuple(_of_frontends(effective))


def _of_frontends(effective: Effective) -> Iterator[Before]:
    for section, line in effective.document.statements("frontend", "listen"):
        if line.modifier:
            continue
        texts, place = line.texts, section.header.place
        if texts[:2] == ("filter", "spoe") or _is_program(texts):
            yield Before(place, None, _of_line(line, Change.PROGRAM))
        named = dict.fromkeys(_OUTCOMES.findall(" ".join(texts)))
        if named and (texts[0] in _ROUTES or _is_used(section.statements, texts)):
            yield from (Before(place, each, _of_line(line, Change.FALLBACK, 5)) for each in named)


def _is_before(backend: Proxy, before: Before) -> bool:
    return before.section != backend.place and before.backend in (None, backend.name)


def _is_used(lines: Sequence[Statement], acl: Sequence[str]) -> bool:
    """Whether a rule goes by this ACL that decides where a request goes."""
    if acl[0] != "acl" or not acl[1:]:
        return False
    used = (acl[1], f"!{acl[1]}")
    return any(line.keyword in _ROUTES and {*used} & {*line.texts[2:]} for line in lines)


def _of_server(server: Server) -> Iterator[Limit]:
    for name, (harmless, change) in SERVER_LIMITS.items():
        value = server.values.get(name)
        if value is None or value.unclear is not None or value.value in harmless:
            continue
        said = name if value.value is True else f"{name} {value.value}"
        yield limit(value.place or server.place, said, change)
