"""A server that comes back from maintenance by DNS is UP at once, unchecked."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.scenarios import slow_starter
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import listed, servers_of
from chaosd.proxies.haproxy.cfg.checks import check_kind
from chaosd.proxies.haproxy.cfg.effective import Resolvers, Server
from chaosd.proxies.haproxy.model.backend import CheckKind

_SINCE = (3, 1)  # `init-state`
_ASKS = (CheckKind.ANSWERS, CheckKind.ELSEWHERE, CheckKind.OUTSIDE)
_WORDS = "init-state fully-down"
_LONG = "1h"


class UncheckedReturn(Rule):
    """One finding for each section whose servers' checks ask for more than a connection."""

    id = "unchecked-return"
    severity = Severity.INFO
    title = "a server that comes back by DNS gets requests before its first check"
    sentence = (
        "a server that was in maintenance, as its name was missing for more than {hold}, is UP at "
        "once when its name resolves again: it gets requests before its first check, whether or "
        "not the app is ready ({servers} of {backends})"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        sections: dict[tuple[object, bool], list[Server]] = {}
        for _, server in subject.followers:
            if _trusts(subject, server):
                kind = check_kind(subject.effective, server)
                key = server.values["resolvers"].value, kind is CheckKind.OUTSIDE
                sections.setdefault(key, []).append(server)
        for (_, is_outside), servers in sections.items():
            yield self._finding(subject, servers, is_outside=is_outside)

    def _finding(self, subject: Subject, servers: list[Server], *, is_outside: bool) -> Finding:
        section = subject.resolvers_of(servers[0])
        hold = section.values["hold nx"].value if section is not None else 30_000
        backends = list(dict.fromkeys(server.backend for server in servers))
        facts: Facts = {
            "servers": servers_of([server.name for server in servers]),
            "backends": listed(backends),
            "hold": Ms(hold if isinstance(hold, int) else 30_000),
        }
        return self.finding(
            of_server(servers[0]),
            facts,
            backends=backends,
            also=[server.place for server in servers],
            remedy=_remedy(subject, section, servers),
            scenarios=[slow_starter()],
            # What an external command says is not modelled: it may be all that keeps requests
            # from a database node that joins.
            beyond=is_outside,
            severity=Severity.WARNING if is_outside else None,
        )


def _remedy(subject: Subject, section: Resolvers | None, servers: list[Server]) -> Remedy:
    """The server is DOWN as it comes back; before 3.1 by its checks, for want of another way."""
    if subject.version >= _SINCE:
        return mending.remedy(*(mending.append(server.statement, _WORDS) for server in servers))
    advice = f"HAProxy 3.1 and later have `{_WORDS}` for it."
    if section is None:
        return Remedy(advice=advice)
    return mending.remedy(
        mending.set_in_resolvers(subject, section, "hold nx", _LONG),
        advice="Its checks then take it DOWN at its old address, and have to let it in again. Not "
        f"where others may get that address. {advice}",
        safe=False,
    )


def _trusts(subject: Subject, server: Server) -> bool:
    """Whether its checks ask for more than a connection, and it is not checked as it comes back."""
    state = server.values.get("init-state")
    is_said = state is not None and state.is_said
    return not is_said and check_kind(subject.effective, server) in _ASKS
