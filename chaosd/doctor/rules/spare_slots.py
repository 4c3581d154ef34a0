"""How many servers a `server-template` makes, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_words
from chaosd.proxies.haproxy.cfg.address import slots


class SpareSlots(Rule):
    """One finding for each template."""

    id = "spare-slots"
    severity = Severity.INFO
    title = "a template has a fixed number of slots"
    sentence = (
        "{count} slots: more than {count} endpoints of `{name}` are not used, and spare slots are "
        "shown as MAINT"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy, server in subject.followers:
            if server.is_template and (count := slots(server)):
                facts: Facts = {"count": count, "name": subject.target(server).host}
                yield self.finding(
                    of_words(server.statement, 0, 2),
                    facts,
                    backends=[proxy.name],
                    remedy=Remedy(
                        advice="Alert on the number of servers that are UP, not on MAINT."
                    ),
                )
