"""Checks that go somewhere else than requests do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chaosd.doctor.finding import Confidence, Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import servers_of
from chaosd.proxies.haproxy.cfg.address import Target
from chaosd.proxies.haproxy.cfg.checks import check_kind, is_option
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.model.backend import CheckKind

_ADVICE = "Check the port that requests go to, too."
_ADVICE_OUTSIDE = "Polls come every `timeout resolve`: keep that short."
_OUTSIDE = "what it says asks nothing of DNS, so a move is found by polls alone"


class _Elsewhere(NamedTuple):
    """What a check asks, and whether it does so by a connection: that one asks DNS if it fails."""

    where: str
    connects: bool
    is_beside: bool = False  # there are checks of the port that requests go to, too


_AGENT = _Elsewhere("an agent", connects=False)
_AGENT_BESIDE = _Elsewhere("an agent", connects=False, is_beside=True)
_COMMAND = _Elsewhere("an external command", connects=False)


class CheckElsewhere(Rule):
    """One finding for each place that is asked instead."""

    id = "check-elsewhere"
    severity = Severity.INFO
    confidence = Confidence.MEDIUM
    title = "a check does not see what users see"
    sentence = "checks of {servers} go to {where}: {so}"
    _beside = (
        "{servers}: an agent has a say beside the checks. What it says asks nothing of DNS, so "
        "while it takes a server out, a move is found by polls alone"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        found: dict[_Elsewhere, list[Server]] = {}
        for proxy, server in subject.followers:
            if (elsewhere := _elsewhere(subject, proxy, server)) is not None:
                found.setdefault(elsewhere, []).append(server)
        for (where, connects, is_beside), servers in found.items():
            unseen = _unseen(subject.target(servers[0]))
            facts: Facts = {
                "servers": servers_of([server.name for server in servers]),
                "where": where,
                "so": f"{unseen} is not seen" if connects else _OUTSIDE,
            }
            advice = _ADVICE if connects else _ADVICE_OUTSIDE
            yield self.finding(
                of_server(servers[0]),
                facts,
                backends=[server.backend for server in servers],
                also=[server.place for server in servers],
                remedy=None if is_beside else Remedy(advice=advice),
                sentence=self._beside if is_beside else None,
                beyond=True,
            )


def _unseen(there: Target) -> str:
    """What a check of another port does not see."""
    if there.port:
        return f"a dead port {there.port}"
    return "a dead port " + ("of the SRV record" if there.is_service else "that requests go to")


def _agent(kind: CheckKind) -> _Elsewhere:
    return _AGENT if kind is CheckKind.NONE else _AGENT_BESIDE


def _elsewhere(subject: Subject, proxy: Proxy, server: Server) -> _Elsewhere | None:
    """What is asked instead of the port that requests go to; None: that very port."""
    values = server.values
    kind = check_kind(subject.effective, server)
    if kind is CheckKind.ELSEWHERE:
        if (tracked := values.get("track")) is not None and tracked.value:
            return _Elsewhere(f"server `{tracked.value}` (`track`)", connects=True)
        port, addr = (values.get(name) for name in ("port", "addr"))
        if port is not None and port.value is not None:
            return _Elsewhere(f"port {port.value}", connects=True)
        said = f"address {addr.value}" if addr is not None and addr.value else "the port of a rule"
        return _Elsewhere(said, connects=True)
    if kind is not CheckKind.OUTSIDE:
        return None if not values["agent-check"].value else _agent(kind)
    return _COMMAND if is_option(proxy, "external-check") else _AGENT
