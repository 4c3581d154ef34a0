"""A `server` line for a name that lists many addresses: one of them is used."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server

_ALL_TASKS = "tasks."  # of a Swarm service
_SLOTS = 10


class OneAddress(Rule):
    """Only where the name says that it has many: what DNS lists is not in the file."""

    id = "one-address"
    severity = Severity.WARNING
    confidence = Confidence.MEDIUM
    title = "one of a name's addresses is used"
    sentence = (
        "one `server` line is one address: of those that `{name}` lists, one for each task of the "
        "service, server `{server}` uses one (`server-template` uses all)"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy, server in subject.followers:
            target = subject.target(server)
            if server.is_template or not target.host.startswith(_ALL_TASKS):
                continue
            if sum(subject.target(other).host == target.host for other in proxy.servers) > 1:
                continue
            facts: Facts = {"name": target.host, "server": server.name}
            rest = " ".join(word.raw for word in server.statement.words[2:])
            line = f"server-template {server.name}- {_SLOTS} {rest}"
            yield self.finding(
                of_server(server),
                facts,
                backends=[proxy.name],
                remedy=mending.remedy(mending.rewrite(server.statement, line)),
                beyond=True,
            )
