"""A name that is missing when HAProxy starts, and `init-addr` without `none`."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server, of_setting
from chaosd.doctor.words import listed
from chaosd.proxies.haproxy.cfg.effective import Server
from chaosd.proxies.haproxy.rewire.choose import is_followed

_ADDS_NONE = (2, 4)  # `none` is added where `resolvers` is set and `init-addr` is not
_GOOD = "last,libc,none"


class MissingAtStart(Rule):
    """One finding for each `init-addr`, or for each line without one."""

    id = "missing-at-start"
    severity = Severity.WARNING
    confidence = Confidence.MEDIUM
    title = "HAProxy does not start while a name is missing"
    sentence = (
        "{said}: HAProxy {version} does not start while the name of server {servers} is missing, "
        "`resolvers` or not"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        found: dict[object, list[Server]] = {}
        for _, server in subject.followers():
            if is_followed(server) and _is_fatal(subject, server):
                found.setdefault(server.values["init-addr"].place or server.place, []).append(
                    server
                )
        for servers in found.values():
            first = servers[0]
            value = first.values["init-addr"]
            said = f"`init-addr {value.value}`" if value.is_said else "no `init-addr`"
            facts: Facts = {
                "said": said,
                "version": subject.version_text,
                "servers": listed([server.name for server in servers]),
            }
            edits = (
                [mending.reword(value, _GOOD)]
                if value.is_said
                else [mending.set_on_server(server, "init-addr", _GOOD) for server in servers]
            )
            yield self.finding(
                of_setting(subject, value, of_server(first)),
                facts,
                origin=value.origin,
                backends=[server.backend for server in servers],
                also=[server.place for server in servers],
                remedy=mending.remedy(*edits),
                beyond=True,
            )


def _is_fatal(subject: Subject, server: Server) -> bool:
    value = server.values["init-addr"]
    if not value.is_said:
        return subject.version < _ADDS_NONE
    methods = [method.strip() for method in str(value.value).split(",")]
    return value.unclear is None and not any(_is_last_resort(method) for method in methods)


def _is_last_resort(method: str) -> bool:
    """`none`, or an address of its own."""
    return method == "none" or method[:1].isdigit() or ":" in method
