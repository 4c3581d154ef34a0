"""How many servers a `server-template` makes, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Remedy, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.setting import Setting
from chaosd.doctor.subject import Subject, of_words
from chaosd.doctor.words import count
from chaosd.proxies.haproxy.cfg.address import slots


class SpareSlots(Rule):
    """One finding for each template."""

    id = "spare-slots"
    severity = Severity.INFO
    title = "a template has a fixed number of slots"
    sentence = (
        "{slots}: of the endpoints of `{name}` {count} {are} used at most, and spare slots are "
        "shown as MAINT{virtual}"
    )
    _virtual = (
        ". In Docker Swarm a service's name is one virtual address, unless the service has "
        "`endpoint_mode: dnsrr`: then one slot is used, and a task that moves is none of "
        "HAProxy's business. `tasks.{name}` lists the tasks"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy, server in subject.followers:
            if server.is_template and (number := slots(server)):
                facts: Facts = {
                    "slots": count(number, "slot"),
                    "count": number,
                    "are": "is" if number == 1 else "are",
                    "name": (name := subject.target(server).host),
                    "virtual": self._virtual.format(name=name) if _is_swarm(subject, name) else "",
                }
                yield self.finding(
                    of_words(server.statement, 0, 2),
                    facts,
                    backends=[proxy.name],
                    remedy=Remedy(
                        advice="Alert on the number of servers that are UP, not on MAINT."
                    ),
                )


def _is_swarm(subject: Subject, name: str) -> bool:
    """Whether it may be a service of Docker Swarm, and not the list of its tasks."""
    return subject.setting is Setting.DOCKER and not name.startswith("tasks.") and "." not in name
