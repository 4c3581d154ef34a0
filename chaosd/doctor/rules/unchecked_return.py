"""A server that comes back by DNS takes requests before its first check."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import listed
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.cfg.checks import check_kind
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.model.backend import CheckKind, Happening, Scenario

_HAS_INIT_STATE = (3, 1)
_WAITS = (CheckKind.ANSWERS, CheckKind.OUTSIDE)  # the file says that listening is not enough
_GOOD = "fully-down"
# An instance that is away for longer than `hold nx`, and listens before it is well.
_LATE = Scenario(
    happening=Happening.MOVE,
    published_s=45.0,
    listening_s=45.0,
    healthy_s=51.0,
    missing=Failure.NXDOMAIN,
)


class UncheckedReturn(Rule):
    """One finding for each backend whose checks wait for an answer."""

    id = "unchecked-return"
    severity = Severity.WARNING
    title = "a server that comes back by DNS is UP at once"
    sentence = (
        "server {servers} of backend `{backend}` is UP as soon as DNS answers again after "
        "maintenance, unchecked: until {fall} failed checks have taken it DOWN ({down}), an "
        "instance that is not ready gets requests{since}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        by_backend: dict[str, tuple[Proxy, list[Server]]] = {}
        for proxy, server in subject.followers():
            if _is_trusted(subject, server):
                by_backend.setdefault(proxy.name, (proxy, []))[1].append(server)
        for proxy, servers in by_backend.values():
            yield self._finding(subject, proxy, servers)

    def _finding(self, subject: Subject, proxy: Proxy, servers: list[Server]) -> Finding:
        can = subject.version >= _HAS_INIT_STATE
        values = servers[0].values
        fall, inter = _number(values["fall"].value, 3), _number(values["inter"].value, 2000)
        fast = _number(values["fastinter"].value, inter)
        facts: Facts = {
            "servers": listed([server.name for server in servers]),
            "backend": proxy.name,
            "fall": fall,
            "down": f"up to {Ms(inter + (fall - 1) * fast)}",
            "since": "" if can else ". `init-state` of HAProxy 3.1 and later can change that",
        }
        edits = [mending.set_on_server(server, "init-state", _GOOD) for server in servers]
        return self.finding(
            of_server(servers[0]),
            facts,
            backends=[proxy.name],
            also=[server.place for server in servers],
            remedy=mending.remedy(*edits, safe=False)
            if can
            else Remedy(advice="Let the name be answered only once the instance is ready."),
            scenarios=[_LATE],
            severity=None if can else Severity.INFO,
            beyond=not can,
        )


def _is_trusted(subject: Subject, server: Server) -> bool:
    state = server.values.get("init-state")
    said = state is not None and state.value in ("down", "fully-down")
    return not said and check_kind(subject.effective, server) in _WAITS


def _number(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
