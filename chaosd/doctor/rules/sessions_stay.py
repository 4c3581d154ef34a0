"""Long sessions stay at an address that is gone."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_words
from chaosd.doctor.words import listed
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.cfg.source import Statement
from chaosd.proxies.haproxy.cfg.units import read_ms

_LONG_MS = 600_000


class SessionsStay(Rule):
    """One finding for each long `timeout tunnel`."""

    id = "sessions-stay"
    severity = Severity.WARNING
    confidence = Confidence.MEDIUM
    title = "tunnels stay at an address that is gone"
    sentence = (
        "`timeout tunnel {said}`: WebSockets and other tunnels to an address that is gone stay "
        "until it answers with a reset, for {said} at most (server {servers}). "
        "`on-marked-down shutdown-sessions` closes them when a server goes DOWN, not when its "
        "address changes"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        lines: dict[Statement, list[tuple[Proxy, Server]]] = {}
        for proxy, server in subject.followers():
            line = tunnel(proxy)
            shuts = server.values["on-marked-down"].value == "shutdown-sessions"
            if line is not None and _lasts_ms(line) >= _LONG_MS and not shuts:
                lines.setdefault(line, []).append((proxy, server))
        for line, users in lines.items():
            servers = [server for _, server in users]
            checked = [server for server in servers if server.values["check"].value]
            facts: Facts = {
                "said": Ms(_lasts_ms(line)),
                "servers": listed([server.name for server in servers]),
            }
            edits = [
                mending.set_on_server(server, "on-marked-down", "shutdown-sessions")
                for server in checked
            ]
            yield self.finding(
                Spot(line.place) if not line.words else of_words(line),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=mending.remedy(*edits, safe=False),
                beyond=True,
            )


def _lasts_ms(line: Statement) -> int:
    found = read_ms(line.texts[2])
    return found if isinstance(found, int) else 0


def tunnel(proxy: Proxy) -> Statement | None:
    """The line that says how long a tunnel may be idle."""
    lines = (*proxy.inherited, *proxy.statements)
    found = [line for line in lines if line.says("timeout", "tunnel") and line.texts[2:]]
    return found[-1] if found else None
