"""`init-addr` without `none`: HAProxy does not start while a name is missing."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server, of_value
from chaosd.doctor.words import servers_of
from chaosd.proxies.haproxy.cfg.effective import Origin, Proxy, Server, Value
from chaosd.proxies.haproxy.cfg.source import Place

_SINCE = (1, 7)  # `init-addr`


class MissingAtStart(Rule):
    """One finding for each line that says it, or each backend where an old version decides."""

    id = "missing-at-start"
    severity = Severity.WARNING
    title = "HAProxy does not start while a name is missing"
    sentence = (
        "`init-addr {methods}`{who}: HAProxy does not start while the name of {servers} is "
        "missing, though it would be found by `resolvers` later"
    )
    _of_service = (
        "`init-addr {methods}`: HAProxy does not start with it: the SRV name of {servers} can't be "
        "looked up by libc"
    )
    _before = (
        "HAProxy {version} does not start while the name of {servers} is missing, though it would "
        "be found by `resolvers` later (from 1.7 on `init-addr` says what it does then)"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        lines: dict[tuple[Place, bool], list[tuple[Proxy, Server]]] = {}
        for proxy, server in subject.followers:
            value = server.values["init-addr"]
            if _can_be_missing(subject, value):
                continue
            is_service = subject.target(server).is_service and "libc" in str(value.value)
            place = value.place if value.is_said and value.place is not None else proxy.place
            lines.setdefault((place, is_service), []).append((proxy, server))
        for (_, is_service), users in lines.items():
            yield self._finding(subject, users, is_service=is_service)

    def _finding(
        self, subject: Subject, users: list[tuple[Proxy, Server]], *, is_service: bool
    ) -> Finding:
        first = users[0][1]
        value = first.values["init-addr"]
        said = value.is_said
        facts: Facts = {
            "methods": str(value.value),
            "who": "" if said else f", which is the default of HAProxy {subject.version_text}",
            "servers": servers_of([server.name for _, server in users]),
            "version": subject.version_text,
        }
        if subject.version < _SINCE:
            return self._of_old_version(users, facts)
        methods = f"{value.value},none"
        edits = (
            [mending.reword(value, methods)]
            if said
            else [mending.append(server.statement, f"init-addr {methods}") for _, server in users]
        )
        return self.finding(
            of_value(value if said else Value(None), of_server(first)),
            facts,
            origin=value.origin,
            backends=[proxy.name for proxy, _ in users],
            also=[] if said else [server.place for _, server in users],
            remedy=mending.remedy(*edits),
            severity=Severity.ERROR if is_service and said else None,
            sentence=self._of_service if is_service and said else None,
            beyond=True,
        )

    def _of_old_version(self, users: list[tuple[Proxy, Server]], facts: Facts) -> Finding:
        return self.finding(
            of_server(users[0][1]),
            facts,
            origin=Origin.HAPROXY,
            backends=[proxy.name for proxy, _ in users],
            also=[server.place for _, server in users],
            remedy=Remedy(advice="Upgrade HAProxy."),
            sentence=self._before,
            beyond=True,
        )


def _can_be_missing(subject: Subject, value: Value) -> bool:
    """Whether HAProxy starts without an address: by `none`, by one in the file, or by itself."""
    if not value.is_said:
        return subject.effective.dialect.starts_without_address
    methods = str(value.value or "none").split(",")
    return value.unclear is not None or not set(methods) <= {"last", "libc"}
