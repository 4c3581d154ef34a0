"""A `server` line for a name that lists many addresses: one of them is used."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.proxies.haproxy.cfg.effective import Server

# Names that list many addresses by what they are, what has one each, and how bad that is: a
# service of Consul or Nomad may have one instance only.
_MANY = (
    (re.compile(r"^tasks\."), "task of the service", Severity.WARNING),
    (re.compile(r"^[^.]*headless[^.]*(\.|$)"), "pod", Severity.WARNING),
    (re.compile(r"^[^.]+\.service(\.[^.]+)?\.(consul|nomad)\.?$"), "instance", Severity.INFO),
)
_OF_ONE = ("id", "cookie", "track")  # words that are not for many
_SLOTS = 10


class OneAddress(Rule):
    """Only where the name says that it has many: what DNS lists is not in the file."""

    id = "one-address"
    severity = Severity.WARNING
    confidence = Confidence.MEDIUM
    title = "one of a name's addresses is used"
    sentence = (
        "one `server` line is one address: of those that `{name}` lists, one for each {what}, "
        "server `{server}` uses one (`server-template` uses all)"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy, server in subject.followers:
            target = subject.target(server)
            found = [each for each in _MANY if each[0].match(target.host.lower())]
            if server.is_template or not found:
                continue
            _, what, severity = found[0]
            if sum(subject.target(other).host == target.host for other in proxy.servers) > 1:
                continue
            facts: Facts = {"name": target.host, "server": server.name, "what": what}
            rest = " ".join(word.raw for word in server.statement.words[2:])
            line = f"server-template {server.name}- {_SLOTS} {rest}"
            yield self.finding(
                of_server(server),
                facts,
                backends=[proxy.name],
                remedy=mending.remedy(
                    mending.rewrite(server.statement, line), safe=_is_free(subject, server)
                ),
                severity=severity,
                beyond=True,
            )


def _is_free(subject: Subject, server: Server) -> bool:
    """Whether the server may get another name: nothing else names it, or gives it an id."""
    if not set(_OF_ONE).isdisjoint(server.statement.texts):
        return False
    return not any(
        text == server.name or f"/{server.name}" in text
        for _, line in subject.statements()
        if line is not server.statement
        for text in line.texts[1:]
    )
