"""A state file: a reload restores addresses that may be old."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Confidence, Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_words
from chaosd.doctor.words import listed
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.cfg.source import Statement

_KEYWORD = "load-server-state-from-file"
_SERVICES_LET_GO = (2, 5)  # before, an SRV slot from a state file may keep its address for ever


class StateFile(Rule):
    """One finding for each line that loads a state file for servers that are found by DNS."""

    id = "state-file"
    severity = Severity.INFO
    confidence = Confidence.MEDIUM
    title = "a reload brings addresses back that may be gone"
    sentence = (
        "`{line}`: a reload gives server {servers} the address of when the state file was written. "
        "If it is gone by then, requests fail until the first answer of DNS{slots}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        lines: dict[Statement, list[tuple[Proxy, Server]]] = {}
        for proxy, server in subject.followers():
            methods = str(server.values["init-addr"].value).split(",")
            if (line := loads(proxy)) is not None and "last" in methods:
                lines.setdefault(line, []).append((proxy, server))
        for line, users in lines.items():
            services = any(subject.target(server).is_service for _, server in users)
            old = services and subject.version < _SERVICES_LET_GO
            facts: Facts = {
                "line": " ".join(line.texts[:2]),
                "servers": listed([server.name for _, server in users]),
                "slots": "; before HAProxy 2.5 an SRV slot may keep it for ever" if old else "",
            }
            yield self.finding(
                of_words(line),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=Remedy(
                    advice="Write the state file right before each reload, or leave `last` out of "
                    "`init-addr`."
                ),
                severity=Severity.WARNING if old else None,
                beyond=True,
            )


def loads(proxy: Proxy) -> Statement | None:
    """The line by which a proxy loads a state file."""
    found = [line for line in (*proxy.inherited, *proxy.statements) if line.keyword == _KEYWORD]
    return found[-1] if found and found[-1].texts[1:2] not in ((), ("none",)) else None
