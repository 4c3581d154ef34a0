"""A server by name without `resolvers`: looked up once, at start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import quoted, servers_of, verb
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.rewire.edits import Edit, Insert
from chaosd.proxies.haproxy.rewire.reasons import Reason

# What is in /etc/hosts, and not in DNS.
_FIXED = (
    *("localhost", "localhost.localdomain", "ip6-localhost"),
    *("host.docker.internal", "gateway.docker.internal", "host.containers.internal"),
)
_SECTION = "dns"
_SERVICE = re.compile(r"^[^.]+\.[^.]+\.svc(\.cluster\.local)?\.?$", re.IGNORECASE)
_CLUSTER_IP = (
    "The ClusterIP of a service stays the same until somebody makes the service anew: if this is "
    "one, ignore the finding."
)
_ASKED = "A name is then asked for every second (`timeout resolve`)."


class NeverResolved(Rule):
    """One finding for each backend that has such servers."""

    id = "never-resolved"
    severity = Severity.ERROR
    confidence = Confidence.MEDIUM  # the address of a name may stay for ever
    title = "a server's name is looked up once, at start"
    sentence = (
        "server {servers} of backend `{backend}` is a name without `resolvers`: it is looked up "
        "once, at start, and never again. When its address changes, requests go to the old one "
        "until a reload. {missing}"
    )
    _several = (
        "servers {servers} of backend `{backend}` are names without `resolvers`: they are looked "
        "up once, at start, and never again. When an address changes, requests go to the old one "
        "until a reload. {missing}"
    )
    _by_variable = (
        "{servers} of backend `{backend}`: no `resolvers`. If `{variable}` is a name, it is looked "
        "up once, at start, and never again: when its address changes, requests go to the old one "
        "until a reload"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy in subject.backends:
            servers = [server for server in proxy.servers if _is_fixed(subject, server)]
            told = [server for server in servers if subject.is_known(server.address)]
            if told:
                yield self._finding(subject, proxy, told)
            elif servers:
                yield self._of_variable(subject, proxy, servers)

    def _finding(self, subject: Subject, proxy: Proxy, servers: list[Server]) -> Finding:
        names = [server.name for server in servers]
        is_service = all(_SERVICE.match(subject.target(server).host) for server in servers)
        facts: Facts = {
            "servers": quoted(names),
            "backend": proxy.name,
            "missing": _missing(servers),
        }
        return self.finding(
            of_server(servers[0]),
            facts,
            backends=[proxy.name],
            also=[server.place for server in servers],
            remedy=_remedy(subject, servers, advice=_CLUSTER_IP if is_service else _ASKED),
            severity=Severity.WARNING if is_service else None,
            confidence=Confidence.LOW if is_service else None,
            sentence=verb(names, self.sentence, self._several),
        )

    def _of_variable(self, subject: Subject, proxy: Proxy, servers: list[Server]) -> Finding:
        """What a variable without a value holds is a name or an address: it is not known here."""
        facts: Facts = {
            "servers": servers_of([server.name for server in servers]),
            "backend": proxy.name,
            "variable": subject.target(servers[0]).host,
        }
        return self.finding(
            of_server(servers[0]),
            facts,
            backends=[proxy.name],
            also=[server.place for server in servers],
            remedy=replace(_remedy(subject, servers, advice=_ASKED), safe=False),
            severity=Severity.WARNING,
            confidence=Confidence.LOW,
            sentence=self._by_variable,
        )


def _missing(servers: list[Server]) -> str:
    """What a missing name does at start: `init-addr` says it."""
    if all("none" in str(server.values["init-addr"].value).split(",") for server in servers):
        return "A name that is missing at start leaves its server in maintenance for ever"
    return "HAProxy does not start while a name is missing"


def _is_fixed(subject: Subject, server: Server) -> bool:
    target = subject.target(server)
    return (
        target.is_name
        and target.host.lower() not in _FIXED
        and not server.values["resolvers"].is_said
        and not server.values["disabled"].value
        and not server.unread
    )


def _remedy(subject: Subject, servers: list[Server], *, advice: str) -> Remedy:
    used = [str(s.values["resolvers"].value) for _, s in subject.followers]
    names = [name for name in used if name in subject.effective.resolvers]
    names += list(subject.effective.resolvers)
    name = names[0] if names else _SECTION
    edits: list[Edit] = [
        mending.append(server.statement, f"resolvers {name} resolve-prefer ipv4")
        for server in servers
    ]
    if not names:
        last = subject.sources[-1]
        place = Place(last.path, last.text.count("\n") + (not last.text.endswith("\n")))
        lines = ("", f"resolvers {name}", "    parse-resolv-conf")
        edits.append(Insert(place, Reason.MENDED, lines=lines))
    return mending.remedy(*edits, advice=advice)
