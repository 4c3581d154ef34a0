"""`timeout retry` above `timeout resolve`: what is missing for a moment is asked for rarely."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.scenarios import away
from chaosd.doctor.subject import Subject, of_setting


class SlowRetry(Rule):
    """One finding for each section."""

    id = "slow-retry"
    severity = Severity.WARNING
    title = "a name that is missing for a moment is asked for more rarely"
    sentence = (
        "`timeout retry {retry}` is longer than `timeout resolve` ({poll}): a name that is missing "
        "for a moment is asked for only every {retry}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            users = subject.users_of(section)
            retry, poll = section.values["timeout retry"], section.values["timeout resolve"]
            if not users or not isinstance(retry.value, int) or not isinstance(poll.value, int):
                continue
            if retry.value <= poll.value:
                continue
            facts: Facts = {"retry": Ms(retry.value), "poll": Ms(poll.value)}
            edit = mending.set_in_resolvers(subject, section, "timeout retry", f"{poll.value}ms")
            yield self.finding(
                of_setting(subject, retry, Spot(section.place)),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=mending.remedy(edit),
                scenarios=[away()],
            )
