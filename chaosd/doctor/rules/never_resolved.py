"""A server by name without `resolvers`: looked up once, at start."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import count, quoted
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.rewire.edits import Edit, Insert
from chaosd.proxies.haproxy.rewire.reasons import Reason

_FIXED = ("localhost", "localhost.localdomain", "ip6-localhost")
_SECTION = "dns"


class NeverResolved(Rule):
    """One finding for each backend that has such servers."""

    id = "never-resolved"
    severity = Severity.ERROR
    confidence = Confidence.MEDIUM  # the address of a name may stay for ever
    title = "a server's name is looked up once, at start"
    sentence = (
        "server {servers} of backend `{backend}` is a name without `resolvers`: it is looked up "
        "once, at start, and never again. When its address changes, requests go to the old one "
        "until a reload"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy in subject.backends:
            servers = [server for server in proxy.servers if _is_fixed(subject, server)]
            if servers:
                yield self._finding(subject, proxy, servers)

    def _finding(self, subject: Subject, proxy: Proxy, servers: list[Server]) -> Finding:
        facts: Facts = {
            "servers": quoted([server.name for server in servers]),
            "names": count(len({subject.target(s).host for s in servers}), "name"),
            "backend": proxy.name,
        }
        return self.finding(
            of_server(servers[0]),
            facts,
            backends=[proxy.name],
            also=[server.place for server in servers],
            remedy=_remedy(subject, servers),
        )


def _is_fixed(subject: Subject, server: Server) -> bool:
    target = subject.target(server)
    return (
        target.is_name
        and target.host.lower() not in _FIXED
        and not server.values["resolvers"].is_said
        and not server.values["disabled"].value
        and not server.unread
        and subject.is_known(server.address)
    )


def _remedy(subject: Subject, servers: list[Server]) -> Remedy:
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
    return mending.remedy(
        *edits, advice="A name is then asked for every second (`timeout resolve`)."
    )
