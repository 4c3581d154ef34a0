"""`hold valid` at or above `timeout resolve`: a failed check never asks DNS."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_setting
from chaosd.proxies.haproxy.cfg.effective import Resolvers

_FIXED_SINCE = (2, 6, 7)  # before, a failed check asks nothing of DNS, whatever `hold valid` says
_GOOD_POLL = "1s"
_GOOD_POLL_MS = 1000


class LateQuestion(Rule):
    """One finding for each section that is polled so rarely that an early question would help."""

    id = "late-question"
    severity = Severity.WARNING
    title = "a failed check does not ask DNS"
    sentence = (
        "`hold valid {valid}` is not below `timeout resolve {poll}`: a failed check never brings "
        "the next question to DNS forward, and a move is found up to {poll} late"
    )
    _before = (
        "on HAProxy {version} a failed check never brings the next question to DNS forward, "
        "whatever `hold valid` says (2.6.7 and later do it): with `timeout resolve {poll}` a move "
        "is found up to {poll} late"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        never = subject.version < _FIXED_SINCE
        for section in subject.effective.resolvers.values():
            users = [u for u in subject.users_of(section) if u[1].values["check"].value]
            valid, poll = section.values["hold valid"], section.values["timeout resolve"]
            if not users or not isinstance(valid.value, int) or not isinstance(poll.value, int):
                continue
            if poll.value <= _GOOD_POLL_MS or (not never and valid.value < poll.value):
                continue
            facts: Facts = {
                "valid": Ms(valid.value),
                "poll": Ms(poll.value),
                "version": subject.version_text,
            }
            yield self.finding(
                of_setting(subject, poll if never else valid, _spot(subject, section)),
                facts,
                backends=[proxy.name for proxy, _ in users],
                sentence=self._before if never else None,
                remedy=mending.remedy(
                    mending.set_in_resolvers(subject, section, "timeout resolve", _GOOD_POLL)
                ),
            )


def _spot(subject: Subject, section: Resolvers) -> Spot:
    return of_setting(subject, section.values["timeout resolve"], Spot(section.place))
