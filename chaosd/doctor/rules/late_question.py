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
        for section in subject.effective.resolvers.values():
            if not is_late(subject, section):
                continue
            users = [u for u in subject.users_of(section) if u[1].values["check"].value]
            never = subject.version < _FIXED_SINCE
            valid, poll = section.values["hold valid"], section.values["timeout resolve"]
            facts: Facts = {
                "valid": Ms(valid.value or 0),
                "poll": Ms(poll.value or 0),
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


def is_late(subject: Subject, section: Resolvers) -> bool:
    """Whether names are asked for rarely, and checks that fail do not make it sooner."""
    valid, poll = (section.values[name].value for name in ("hold valid", "timeout resolve"))
    if not isinstance(valid, int) or not isinstance(poll, int) or poll <= _GOOD_POLL_MS:
        return False
    checked = any(server.values["check"].value for _, server in subject.users_of(section))
    return checked and (subject.version < _FIXED_SINCE or valid >= poll)


def _spot(subject: Subject, section: Resolvers) -> Spot:
    return of_setting(subject, section.values["timeout resolve"], Spot(section.place))
