"""A long `timeout resolve`: a name is asked for so rarely."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.rules.late_question import is_late
from chaosd.doctor.subject import Subject, of_setting
from chaosd.doctor.words import count

_SLOW_MS = 2000
_GOOD = "1s"


class SlowPoll(Rule):
    """One finding for each section; `late-question` has those whose checks do not help."""

    id = "slow-poll"
    severity = Severity.WARNING
    title = "a name is asked for rarely"
    sentence = (
        "`timeout resolve {poll}`: a name is asked for that often, so a move is found up to {poll} "
        "late{checks}, and so is the end of DNS trouble. Once a second is {questions} a second "
        "here ({names})"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            users = subject.users_of(section)
            poll = section.values["timeout resolve"]
            if not users or not isinstance(poll.value, int) or poll.value < _SLOW_MS:
                continue
            if is_late(subject, section):
                continue
            names = {subject.target(server).host.lower() for _, server in users}
            checked = any(server.values["check"].value for _, server in users)
            facts: Facts = {
                "poll": Ms(poll.value),
                "names": count(len(names), "name"),
                "questions": count(len(names), "question"),
                "checks": " (a failed check asks earlier)" if checked else "",
            }
            yield self.finding(
                of_setting(subject, poll, Spot(section.place)),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=mending.remedy(
                    mending.set_in_resolvers(subject, section, "timeout resolve", _GOOD)
                ),
            )
