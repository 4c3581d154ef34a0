"""A server that comes back from maintenance by DNS is UP at once, unchecked."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.scenarios import slow_starter
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import quoted
from chaosd.proxies.haproxy.cfg.checks import check_kind
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.model.backend import CheckKind

_SINCE = (3, 1)  # `init-state`
_ASKS = (CheckKind.ANSWERS, CheckKind.ELSEWHERE, CheckKind.OUTSIDE)
_WORDS = "init-state fully-down"


class UncheckedReturn(Rule):
    """One finding for each backend whose checks ask for more than a connection."""

    id = "unchecked-return"
    severity = Severity.INFO
    title = "a server that comes back by DNS gets requests before its first check"
    sentence = (
        "server {servers} of backend `{backend}` is UP at once when its name resolves again after "
        "maintenance (a name missing for more than {hold}): it gets requests before its first "
        "check, whether or not the app is ready"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy, followers in subject.followers_by_backend():
            servers = [server for server in followers if _trusts(subject, server)]
            if servers:
                yield self._finding(subject, proxy, servers)

    def _finding(self, subject: Subject, proxy: Proxy, servers: list[Server]) -> Finding:
        section = subject.resolvers_of(servers[0])
        hold = section.values["hold nx"].value if section is not None else 30_000
        facts: Facts = {
            "servers": quoted([server.name for server in servers]),
            "backend": proxy.name,
            "hold": Ms(hold if isinstance(hold, int) else 30_000),
        }
        has_state = subject.version >= _SINCE
        edits = [mending.append(server.statement, _WORDS) for server in servers]
        return self.finding(
            of_server(servers[0]),
            facts,
            backends=[proxy.name],
            also=[server.place for server in servers],
            remedy=mending.remedy(*edits)
            if has_state
            else Remedy(advice=f"HAProxy 3.1 and later have `{_WORDS}` for it."),
            scenarios=[slow_starter()],
            beyond=True,
        )


def _trusts(subject: Subject, server: Server) -> bool:
    """Whether its checks ask for more than a connection, and it is not checked as it comes back."""
    state = server.values.get("init-state")
    is_said = state is not None and state.is_said
    return not is_said and check_kind(subject.effective, server) in _ASKS
