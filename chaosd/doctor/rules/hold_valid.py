"""`hold valid` taken for the time between two questions."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.finding import Facts, Finding, Ms, Remedy, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_setting


class HoldValid(Rule):
    """One finding for each section that says it: the belief is common, the line does no harm."""

    id = "hold-valid"
    severity = Severity.INFO
    title = "`hold valid` does not say how often a name is asked for"
    sentence = (
        "`hold valid {valid}` does not say how often a name is asked for: that is "
        "`timeout resolve`, {poll} here{unsaid}. For servers it only spaces the extra question "
        "after a failed check, and as it is no shorter, it does not even do that"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            valid, poll = section.values["hold valid"], section.values["timeout resolve"]
            if not valid.is_said or not isinstance(valid.value, int) or valid.unclear:
                continue
            users = subject.users_of(section)
            if not isinstance(poll.value, int) or (subject.backends and not users):
                continue
            if valid.value < poll.value:  # it has its effect, as far as there are checks
                continue
            facts: Facts = {
                "valid": Ms(valid.value),
                "poll": Ms(poll.value),
                "unsaid": "" if poll.is_said else ", as it is not set",
            }
            yield self.finding(
                of_setting(subject, valid, Spot(section.place)),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=Remedy(advice="To ask more often, or less, set `timeout resolve`."),
            )
