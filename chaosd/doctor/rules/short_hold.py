"""`hold timeout` and its like so short that a moment of DNS trouble is an outage."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.scenarios import short_trouble
from chaosd.doctor.subject import Subject, of_setting
from chaosd.doctor.words import between, quoted
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.cfg.effective import Resolvers

# What nameservers answer; not nx: a name that is gone is no trouble of DNS.
_ANSWERS = {
    "timeout": Failure.SILENCE,
    "other": Failure.SERVFAIL,
    "refused": Failure.REFUSED,
}
_MOMENT_S = 3.0
_MOMENT_MS = 10_000  # a hold below that is short for a moment of trouble, too
_ENOUGH_MS = 30_000
_GOOD = "30s"


class ShortHold(Rule):
    """One finding for each section."""

    id = "short-hold"
    severity = Severity.WARNING
    title = "a moment of DNS trouble takes healthy servers out"
    sentence = (
        "{holds}: {trouble} of DNS trouble put every server of resolvers `{section}` into "
        "maintenance, healthy or not, though nothing has moved"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            users = subject.users_of(section)
            short = [
                (name, value)
                for name in _ANSWERS
                if (value := section.values[f"hold {name}"]).is_said
                and isinstance(value.value, int)
                and value.value < _ENOUGH_MS
            ]
            if not users or not short:
                continue
            spot = of_setting(subject, short[0][1], Spot(section.place))
            said = [f"hold {name} {Ms(int(value.value or 0))}" for name, value in short]
            troubles = [_trouble(section, name, int(value.value or 0)) for name, value in short]
            facts: Facts = {
                "holds": quoted(said),
                "section": section.name,
                "trouble": between(*min(troubles)),
            }
            edits = [
                mending.set_in_resolvers(subject, section, f"hold {name}", _GOOD)
                for name, _ in short
            ]
            yield self.finding(
                spot,
                facts,
                backends=[proxy.name for proxy, _ in users],
                also=[value.place for _, value in short if value.place is not None],
                remedy=mending.remedy(*edits),
                scenarios=[
                    short_trouble(max(_MOMENT_S, high / 1000), _ANSWERS[name])
                    for (name, value), (_, high) in zip(short, troubles, strict=True)
                    if int(value.value or 0) < _MOMENT_MS
                ],
                severity=None
                if any(int(v.value or 0) < _MOMENT_MS for _, v in short)
                else Severity.INFO,
            )


def _trouble(section: Resolvers, hold: str, hold_ms: int) -> tuple[Ms, Ms]:
    """How long the trouble must last for that: so long at least, so long at most.

    A resolution fails with the answer to its last question, or a `timeout retry` after it.
    """
    values = (section.values[name].value for name in ("timeout resolve", "timeout retry"))
    poll, retry = (value if isinstance(value, int) else 1000 for value in values)
    rounds = section.values["resolve_retries"].value
    rounds = rounds if isinstance(rounds, int) else 3
    last = (rounds - 1) * retry  # from the first question of a resolution to its last
    resolution = poll + last + (retry if hold == "timeout" else 0)
    low = max(0, -(-hold_ms // resolution) - 1) * resolution + last
    return Ms(low), Ms(low + poll)
