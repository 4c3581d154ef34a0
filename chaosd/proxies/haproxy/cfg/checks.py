"""How a server is checked: what the check finds out, and where it goes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Server
from chaosd.proxies.haproxy.cfg.source import Statement
from chaosd.proxies.haproxy.model.backend import CheckKind

# Options by which a check waits for an answer, whatever its rules are.
_ANSWERED = (
    *("httpchk", "ssl-hello-chk", "smtpchk", "mysql-check", "pgsql-check", "redis-check"),
    *("ldap-check", "spop-check"),
)
_RULES = {"httpchk": "http-check", "tcp-check": "tcp-check"}


def check_kind(effective: Effective, server: Server) -> CheckKind:
    """What the server's check finds out. One that tracks another is as that one."""
    seen: set[int] = set()
    while (tracked := _tracked(effective, server)) is not None and id(server) not in seen:
        seen.add(id(server))
        server = tracked
    if not server.values["check"].value:
        return CheckKind.OUTSIDE if server.values["agent-check"].value else CheckKind.NONE
    backend = effective.backend_of(server)
    if is_option(backend, "external-check"):
        return CheckKind.OUTSIDE
    if _goes_elsewhere(backend, server):
        return CheckKind.ELSEWHERE
    return CheckKind.ANSWERS if _waits(backend, server) else CheckKind.CONNECTS


def http_check(backend: Proxy) -> str | None:
    """The path that a check asks for; None if a check only connects."""
    value = backend.values.get("option httpchk")
    if value is None or not value.value:
        return None
    words = value.value.split() if isinstance(value.value, str) else []
    return next((word for word in words if word.startswith("/")), "/")


def is_option(backend: Proxy, name: str) -> bool:
    """Whether the backend has this option, its own or inherited."""
    value = backend.values.get(f"option {name}")
    return value is not None and bool(value.value)


def _tracked(effective: Effective, server: Server) -> Server | None:
    value = server.values.get("track")
    if value is None or not isinstance(value.value, str):
        return None
    backend, slash, name = value.value.rpartition("/")
    where = backend if slash else server.backend
    found = (s for s in effective.servers if s.backend == where and s.name == name)
    return next(found, None)


def _goes_elsewhere(backend: Proxy, server: Server) -> bool:
    """Whether a check goes to another port or address than requests."""
    port = target(server.address.text).port
    own = server.values.get("port")
    if server.values.get("addr") is not None:
        return True
    if own is not None and own.value is not None and str(own.value) != port:
        return True
    connects = [rule.texts for rule in _rules(backend) if rule.texts[1:2] == ("connect",)]
    for texts in connects[:1]:  # the first connection is the one that fails when the app is gone
        words = dict(pairwise(texts))
        return "addr" in words or words.get("port", port) != port
    return False


def _waits(backend: Proxy, server: Server) -> bool:
    """Whether a check waits for an answer. With TLS it is the handshake, at least."""
    if any(is_option(backend, name) for name in _ANSWERED):
        return True
    rules = [rule.texts for rule in _rules(backend)]
    if any(texts[1:2] == ("expect",) for texts in rules):
        return True
    if any(texts[1:2] == ("connect",) for texts in rules):
        return any("ssl" in texts for texts in rules)
    own, of_check = server.values.get("ssl"), server.values.get("check-ssl")
    said = of_check if of_check is not None else own
    return said is not None and bool(said.value)


def _rules(backend: Proxy) -> Iterator[Statement]:
    """The rules of its checks: its own ones, or else those of its defaults."""
    for option, keyword in _RULES.items():
        if not is_option(backend, option):
            continue
        own = [line for line in backend.statements if _is_rule(line, keyword)]
        yield from own or [line for line in backend.inherited if _is_rule(line, keyword)]


def _is_rule(line: Statement, keyword: str) -> bool:
    return line.keyword == keyword and not line.modifier and bool(line.words[1:])
