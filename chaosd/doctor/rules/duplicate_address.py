"""Several servers of a backend with one name: each address is taken once."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import quoted
from chaosd.proxies.haproxy.cfg.effective import Origin, Proxy, Server
from chaosd.proxies.haproxy.rewire.choose import is_followed
from chaosd.proxies.haproxy.rewire.edits import Edit

_ALLOW = "allow-dup-ip"


class DuplicateAddress(Rule):
    """One finding for each such name of a backend. Templates are made to share a name."""

    id = "duplicate-address"
    severity = Severity.WARNING
    title = "servers of one name need an address each"
    sentence = (
        "{count} servers of backend `{backend}` have the same name `{name}` ({servers}){ports}: "
        "with fewer than {count} addresses the rest stays in maintenance, "
        '"No IP for server". Ports do not count'
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy in subject.backends:
            by_name: dict[str, list[Server]] = {}
            for server in proxy.servers:
                if is_followed(server) and not server.is_template and not server.unread:
                    by_name.setdefault(subject.target(server).host.lower(), []).append(server)
            for servers in by_name.values():
                if len(servers) > 1 and not all(s.values[_ALLOW].value for s in servers):
                    yield self._finding(subject, proxy, servers)

    def _finding(self, subject: Subject, proxy: Proxy, servers: list[Server]) -> Finding:
        ports = {subject.target(server).port for server in servers}
        facts: Facts = {
            "count": len(servers),
            "backend": proxy.name,
            "name": subject.target(servers[0]).host,
            "servers": quoted([server.name for server in servers]),
            "ports": f" at {len(ports)} ports" if len(ports) > 1 else "",
        }
        return self.finding(
            of_server(servers[0]),
            facts,
            backends=[proxy.name],
            also=[server.place for server in servers],
            remedy=mending.remedy(*map(_edit, servers)),
            beyond=True,
            confidence=Confidence.HIGH if len(ports) > 1 else Confidence.MEDIUM,
        )


def _edit(server: Server) -> Edit:
    value = server.values.get(_ALLOW)
    if value is not None and value.origin is Origin.OWN and value.word is not None:
        return mending.reword(value, _ALLOW)
    return mending.append(server.statement, f"resolve-opts {_ALLOW}")
