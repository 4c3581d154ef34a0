"""`hold timeout` and its like so long that nobody notices that DNS does not answer."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_setting
from chaosd.doctor.words import quoted

_HOLDS = ("timeout", "other", "refused", "nx")
_LONG_MS = 120_000


class LongHold(Rule):
    """One finding for each section. To keep a healthy server through an outage of DNS is right."""

    id = "long-hold"
    severity = Severity.INFO
    title = "an outage of DNS goes unnoticed"
    sentence = (
        "{holds}: while DNS does not give an address, a server that has moved is not found for up "
        "to {longest}, and nothing in its state says so: it is UP until a check fails"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            users = subject.users_of(section)
            long = [
                (name, value.value, value)
                for name in _HOLDS
                if isinstance((value := section.values[f"hold {name}"]).value, int)
                and value.value > _LONG_MS
            ]
            if not long or (subject.backends and not users):
                continue
            facts: Facts = {
                "holds": quoted([f"hold {name} {Ms(int(ms))}" for name, ms, _ in long]),
                "longest": Ms(max(int(ms) for _, ms, _ in long)),
            }
            edits = [mending.reword(value, "30s") for _, _, value in long]
            yield self.finding(
                of_setting(subject, long[0][2], Spot(section.place)),
                facts,
                backends=[proxy.name for proxy, _ in users],
                also=[value.place for _, _, value in long if value.place is not None],
                remedy=mending.remedy(*edits, safe=False),
                beyond=True,
            )
