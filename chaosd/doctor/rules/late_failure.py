"""`resolve_retries` times `timeout retry`: so late is a failure of DNS noticed."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_setting

_LATE_MS = 15_000


class LateFailure(Rule):
    """One finding for each section."""

    id = "late-failure"
    severity = Severity.INFO
    title = "a failure of DNS is noticed late"
    sentence = (
        "`resolve_retries {rounds}` x `timeout retry {retry}`: a failure of DNS is noticed only "
        "after {late}, and `hold nx` and its like count only then"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            users = subject.users_of(section)
            rounds, retry = section.values["resolve_retries"], section.values["timeout retry"]
            if not isinstance(rounds.value, int) or not isinstance(retry.value, int):
                continue
            late = (rounds.value - 1) * retry.value
            if late < _LATE_MS or (subject.backends and not users):
                continue
            facts: Facts = {
                "rounds": rounds.value,
                "retry": Ms(retry.value),
                "late": Ms(late),
            }
            yield self.finding(
                of_setting(subject, rounds, Spot(section.place)),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=mending.remedy(
                    mending.set_in_resolvers(subject, section, "resolve_retries", "3"), safe=False
                ),
                beyond=True,
            )
