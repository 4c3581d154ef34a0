"""Checks that go somewhere else than requests do."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Confidence, Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import listed
from chaosd.proxies.haproxy.cfg.checks import check_kind, is_option
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.model.backend import CheckKind

_AGENT = "an agent"
_OUTSIDE = "what it says asks nothing of DNS, so a move is found by polls alone"


class CheckElsewhere(Rule):
    """One finding for each place that is asked instead."""

    id = "check-elsewhere"
    severity = Severity.INFO
    confidence = Confidence.MEDIUM
    title = "a check does not see what users see"
    sentence = "checks of server {servers} go to {where}: {so}"

    def look(self, subject: Subject) -> Iterator[Finding]:
        found: dict[str, list[Server]] = {}
        for proxy, server in subject.followers:
            if (where := _where(subject, proxy, server)) is not None:
                found.setdefault(where, []).append(server)
        for where, servers in found.items():
            is_port = where.startswith("port")
            port = subject.target(servers[0]).port or "of the answer"
            facts: Facts = {
                "servers": listed([server.name for server in servers]),
                "where": where,
                "so": f"a dead port {port} is not seen" if is_port else _OUTSIDE,
            }
            yield self.finding(
                of_server(servers[0]),
                facts,
                backends=[server.backend for server in servers],
                also=[server.place for server in servers],
                remedy=Remedy(advice="Check the port that requests go to, too."),
                beyond=True,
            )


def _where(subject: Subject, proxy: Proxy, server: Server) -> str | None:
    """What is asked instead of the port that requests go to."""
    values = server.values
    kind = check_kind(subject.effective, server)
    if kind is CheckKind.ELSEWHERE:
        port, addr = (values.get(name) for name in ("port", "addr"))
        if port is not None and port.value is not None:
            return f"port {port.value}"
        return f"address {addr.value}" if addr is not None and addr.value else "port of a rule"
    if kind is not CheckKind.OUTSIDE:
        return _AGENT if values["agent-check"].value else None
    return "an external command" if is_option(proxy, "external-check") else _AGENT
