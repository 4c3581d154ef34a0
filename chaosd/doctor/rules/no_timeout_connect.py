"""No `timeout connect`: an attempt lasts as long as the kernel tries."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Finding, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject
from chaosd.doctor.words import listed


class NoTimeoutConnect(Rule):
    """One finding for each `defaults` that lacks the line, one for the backends without any."""

    id = "no-timeout-connect"
    severity = Severity.WARNING
    title = "an attempt to connect has no end"
    sentence = (
        "no `timeout connect` ({backends}): an attempt at an address that does not answer lasts "
        "as long as the kernel tries, some two minutes"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        if subject.is_part:
            return
        lacking = [
            (proxy, value)
            for proxy in subject.backends
            if (value := proxy.values["timeout connect"]).value in (None, 0)
            and value.unclear is None
        ]
        for proxies in mending.by_home(subject, lacking):
            value = proxies[0].values["timeout connect"]
            homes = [mending.home_of(subject, proxy) for proxy in proxies]
            if value.is_said:
                edits = [mending.reword(value, "5s")]
            else:
                edits = mending.insert_for(subject, proxies, "timeout connect 5s")
            yield self.finding(
                Spot(value.place or homes[0]),
                {"backends": listed([proxy.name for proxy in proxies])},
                origin=value.origin,
                backends=[proxy.name for proxy in proxies],
                also=[] if value.is_said else homes,
                remedy=mending.remedy(*edits),
            )
