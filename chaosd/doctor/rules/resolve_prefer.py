"""No `resolve-prefer`: every poll asks for AAAA first."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.scenarios import aaaa_dropped
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import count
from chaosd.proxies.haproxy.cfg.effective import Proxy, Resolvers, Server
from chaosd.proxies.haproxy.rewire.edits import Edit

_WORDS = "resolve-prefer ipv4"
_MANY = 3  # servers
_AUTO_SINCE = (3, 3)  # `dns-accept-family auto`


class ResolvePrefer(Rule):
    """One finding for each resolvers section with such servers. SRV names are asked for as SRV."""

    id = "resolve-prefer"
    severity = Severity.WARNING
    title = "every poll asks for AAAA first"
    sentence = (
        "no `resolve-prefer`{host}: every poll asks for AAAA first, two DNS questions for one "
        "({names}{often}). Where questions for AAAA are "
        "dropped, the server goes into maintenance and does not come back while they are"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        if accepts_one_family(subject):
            return
        for section in subject.effective.resolvers.values():
            users = [u for u in subject.users_of(section) if _asks_both(subject, u[1])]
            if users:
                yield self._finding(subject, section, users)

    def _finding(
        self, subject: Subject, section: Resolvers, users: list[tuple[Proxy, Server]]
    ) -> Finding:
        names = {subject.target(server).host.lower() for _, server in users}
        poll = section.values["timeout resolve"].value
        questions = len(names) * max(1, len(section.nameservers))
        rate = questions * 1000 / poll if isinstance(poll, int) and poll else 0.0
        by_route = subject.version >= _AUTO_SINCE
        facts: Facts = {
            "names": count(len(names), "name"),
            "often": f", {2 * rate:.2g} a second instead of {rate:.2g}" if rate else "",
            "host": ", on a host with an IPv6 default route" if by_route else "",
        }
        return self.finding(
            of_server(users[0][1]),
            facts,
            backends=[proxy.name for proxy, _ in users],
            also=[server.place for _, server in users],
            remedy=mending.remedy(*_edits(subject, users)),
            scenarios=[aaaa_dropped()],
            confidence=Confidence.LOW if by_route else Confidence.HIGH,
            severity=Severity.INFO if by_route else None,
        )


def accepts_one_family(subject: Subject) -> bool:
    """Whether the file says that one kind of address is asked for alone."""
    return any(
        line.keyword == "dns-accept-family" and line.texts[1:2] in (("ipv4",), ("ipv6",))
        for _, line in subject.statements("global")
    )


def _asks_both(subject: Subject, server: Server) -> bool:
    prefers = server.values["resolve-prefer"]
    return not prefers.is_said and not subject.target(server).is_service


def _edits(subject: Subject, users: list[tuple[Proxy, Server]]) -> list[Edit]:
    """Where a later `default-server` line does not reset it: one line for many, else on each."""
    resets = subject.effective.dialect.default_server_resets
    parents = {proxy.parent for proxy, _ in users}
    if len(users) >= _MANY and len(parents) == 1 and None not in parents:
        proxies = [proxy for proxy, _ in users]
        lines = (line for proxy in proxies for line in (*proxy.inherited, *proxy.statements))
        if not (resets and any(line.says("default-server") for line in lines)):
            home = mending.home_of(subject, proxies[0])
            return [mending.insert(subject, home, f"default-server {_WORDS}")]
    found: list[Edit] = []
    for _, server in users:
        by = server.values["resolvers"]
        line = None if by.place is None else subject.statement_at(by.place)
        found.append(mending.append(line if line and not resets else server.statement, _WORDS))
    return found
