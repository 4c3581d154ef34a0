"""A state file restores addresses at a reload."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_words
from chaosd.doctor.words import servers_of, verb
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.cfg.source import Place, Statement

_LINE = "load-server-state-from-file"
_SRV_FIXED = (2, 5)


class StateFile(Rule):
    """One finding for each such line whose servers are found by DNS."""

    id = "state-file"
    severity = Severity.INFO
    title = "a state file brings old addresses back at a reload"
    sentence = (
        "the state file restores addresses at a reload: with `last` in `init-addr` "
        "{servers} {begin} with the address of before, until the first answer of DNS{stuck}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        lines: dict[Place, tuple[Statement, list[tuple[Proxy, Server]]]] = {}
        for proxy, server in subject.followers:
            line = _line_of(proxy)
            if line is not None and "last" in str(server.values["init-addr"].value):
                lines.setdefault(line.place, (line, []))[1].append((proxy, server))
        for line, users in lines.values():
            services = any(subject.target(server).is_service for _, server in users)
            is_stuck = services and subject.version < _SRV_FIXED
            names = [server.name for _, server in users]
            facts: Facts = {
                "servers": servers_of(names),
                "begin": verb(names, "begins", "begin"),
                "stuck": f". With HAProxy {subject.version_text} a slot of an SRV name may keep it "
                "for ever"
                if is_stuck
                else "",
            }
            yield self.finding(
                of_words(line),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=Remedy(
                    advice="`init-addr libc,none` on these servers begins with what DNS says now."
                ),
                severity=Severity.WARNING if is_stuck else None,
                beyond=True,
            )


def _line_of(proxy: Proxy) -> Statement | None:
    """The line that holds for a backend: its own, or that of its defaults."""
    found = [line for line in (*proxy.inherited, *proxy.statements) if line.keyword == _LINE]
    if not found or found[-1].modifier or found[-1].texts[1:2] == ("none",):
        return None
    return found[-1]
