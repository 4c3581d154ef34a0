"""A template's slots: more endpoints than slots are not used, the others are in maintenance."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.proxies.haproxy.cfg.address import slots


class SpareSlots(Rule):
    """One finding for each template."""

    id = "spare-slots"
    severity = Severity.INFO
    title = "how many endpoints a template can use"
    sentence = (
        "{slots} slots: more than {slots} endpoints of `{name}` are not used, and the spare slots "
        "are shown as MAINT{doubled}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy, server in subject.followers():
            if not server.is_template or slots(server) < 1:
                continue
            section = subject.resolvers_of(server)
            held = 0 if section is None else section.values["hold obsolete"].value or 0
            facts: Facts = {
                "slots": slots(server),
                "name": subject.target(server).host,
                "doubled": "; while all instances are replaced, old and new ones need a slot each"
                if held
                else "",
            }
            yield self.finding(
                of_server(server),
                facts,
                backends=[proxy.name],
                remedy=Remedy(
                    advice="Alert on the number of servers that are UP, not on those in MAINT."
                ),
                beyond=True,
            )
