"""`resolve_retries` times `timeout retry`: how late a failure of DNS counts as one."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_setting
from chaosd.proxies.haproxy.cfg.effective import Resolvers

_LONG_MS = 10_000
_GOOD = "3"


class ManyRetries(Rule):
    """One finding for each section that servers use."""

    id = "many-retries"
    severity = Severity.WARNING
    title = "a failure of DNS is noticed late"
    sentence = (
        "`resolve_retries {rounds}` times `timeout retry {retry}`: a name that is gone, or DNS "
        "that fails, is noticed after {after}, and `hold nx` and its like count only then"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            rounds, retry = section.values["resolve_retries"], section.values["timeout retry"]
            after = _after_ms(section)
            users = subject.users_of(section)
            if after < _LONG_MS or (subject.backends and not users):
                continue
            facts: Facts = {
                "rounds": int(rounds.value or 0),
                "retry": Ms(int(retry.value or 0)),
                "after": Ms(after),
            }
            spot = of_setting(subject, retry, Spot(section.place))
            yield self.finding(
                of_setting(subject, rounds, spot),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=mending.remedy(
                    mending.set_in_resolvers(subject, section, "resolve_retries", _GOOD)
                    if int(rounds.value or 0) > int(_GOOD)
                    else mending.set_in_resolvers(subject, section, "timeout retry", "1s")
                ),
                severity=Severity.INFO,
            )


def _after_ms(section: Resolvers) -> int:
    """From the first question to the final error, where each is answered with one."""
    rounds, retry = section.values["resolve_retries"].value, section.values["timeout retry"].value
    if not isinstance(rounds, int) or not isinstance(retry, int):
        return 0
    return (rounds - 1) * retry
