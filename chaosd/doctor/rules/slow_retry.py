"""`timeout retry` longer than `timeout resolve`: a missing name is asked for more rarely."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_setting


class SlowRetry(Rule):
    """One finding for each section that servers use."""

    id = "slow-retry"
    severity = Severity.WARNING
    title = "a missing name is asked for rarely"
    sentence = (
        "`timeout retry {retry}` is longer than `timeout resolve {poll}`: a name that is missing "
        "for a moment, or an answer that is lost, is asked for again only after {retry}"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            retry, poll = section.values["timeout retry"], section.values["timeout resolve"]
            if not isinstance(retry.value, int) or not isinstance(poll.value, int):
                continue
            users = subject.users_of(section)
            if retry.value <= poll.value or (subject.backends and not users):
                continue
            facts: Facts = {"retry": Ms(retry.value), "poll": Ms(poll.value)}
            good = str(Ms(poll.value)).replace(" ", "")
            yield self.finding(
                of_setting(subject, retry, Spot(section.place)),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=mending.remedy(
                    mending.set_in_resolvers(subject, section, "timeout retry", good)
                ),
            )
