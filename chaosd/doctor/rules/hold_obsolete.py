"""`hold obsolete`: how long a server keeps an address that DNS no longer lists."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Remedy, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_setting
from chaosd.doctor.words import between, quoted
from chaosd.proxies.haproxy.cfg.effective import Resolvers


def found_after(section: Resolvers) -> tuple[Ms, Ms, Ms] | None:
    """`hold obsolete`, and how long after the old address was last answered it goes.

    None where it costs no poll, or where a value is not known.
    """
    hold = section.values["hold obsolete"].value
    poll = section.values["timeout resolve"].value
    if not isinstance(hold, int) or not isinstance(poll, int) or poll < 1:
        return None
    polls = -(-hold // poll)
    return None if polls <= 1 else (Ms(hold), Ms((polls - 1) * poll), Ms(polls * poll))


def kept_no_longer(subject: Subject, section: Resolvers) -> Remedy:
    """What mends it, for plain servers and for templates."""
    return mending.remedy(
        mending.set_in_resolvers(subject, section, "hold obsolete", "0s"),
        advice="Keep a little only where DNS answers with a part of the addresses.",
    )


class HoldObsolete(Rule):
    """One finding for each section whose plain servers (no templates) are found late by it."""

    id = "hold-obsolete"
    severity = Severity.WARNING
    title = "an address that DNS no longer lists is kept"
    sentence = (
        "`hold obsolete {hold}`: an address that DNS no longer lists is kept that long, of A "
        "records too. A move is found {found} after the old address was last answered, "
        "not within `timeout resolve` ({poll})"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for section in subject.effective.resolvers.values():
            users = [u for u in subject.users_of(section) if not u[1].is_template]
            found = found_after(section)
            if found is None or (subject.backends and not users):  # a part of a file has none
                continue
            hold, low, high = found
            facts: Facts = {
                "hold": hold,
                "found": between(low, high),
                "poll": Ms(section.values["timeout resolve"].value or 0),
                "servers": quoted([server.name for _, server in users]),
            }
            yield self.finding(
                of_setting(subject, section.values["hold obsolete"], Spot(section.place)),
                facts,
                backends=[proxy.name for proxy, _ in users],
                remedy=kept_no_longer(subject, section),
            )
