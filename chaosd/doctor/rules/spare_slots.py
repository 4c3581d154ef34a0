"""A template's slots: more endpoints than slots are not used, the others are in maintenance."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import quoted
from chaosd.proxies.haproxy.cfg.address import slots
from chaosd.proxies.haproxy.cfg.effective import Server


class SpareSlots(Rule):
    """One finding for each number of slots."""

    id = "spare-slots"
    severity = Severity.INFO
    title = "how many endpoints a template can use"
    sentence = (
        "{slots} slots: more than {slots} endpoints of {names} are not used, and the spare slots "
        "are shown as MAINT{doubled}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        found: dict[tuple[int, bool], list[Server]] = {}
        for _, server in subject.followers():
            if server.is_template and slots(server) > 0:
                section = subject.resolvers_of(server)
                held = section is not None and bool(section.values["hold obsolete"].value)
                found.setdefault((slots(server), held), []).append(server)
        for (number, held), servers in found.items():
            facts: Facts = {
                "slots": number,
                "names": quoted([subject.target(server).host for server in servers]),
                "doubled": "; while all instances are replaced, old and new ones need a slot each"
                if held
                else "",
            }
            yield self.finding(
                of_server(servers[0]),
                facts,
                backends=[server.backend for server in servers],
                also=[server.place for server in servers],
                remedy=Remedy(
                    advice="Alert on the number of servers that are UP, not on those in MAINT."
                ),
                beyond=True,
            )
