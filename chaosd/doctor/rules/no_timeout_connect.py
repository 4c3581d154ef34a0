"""No `timeout connect`: an attempt lasts as long as the kernel tries."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Finding, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject
from chaosd.doctor.words import listed
from chaosd.proxies.haproxy.cfg.effective import Proxy
from chaosd.proxies.haproxy.cfg.source import Place


class NoTimeoutConnect(Rule):
    """One finding for each section that lacks the line: a `defaults`, or else a backend."""

    id = "no-timeout-connect"
    severity = Severity.WARNING
    title = "an attempt to connect has no end"
    sentence = (
        "no `timeout connect` ({backends}): an attempt at an address that does not answer lasts "
        "as long as the kernel tries, some two minutes"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        homes: dict[Place, list[Proxy]] = {}
        if subject.is_part:
            return
        for proxy in subject.backends:
            value = proxy.values["timeout connect"]
            if value.value in (None, 0) and value.unclear is None:
                place = value.place or mending.home_of(subject, proxy)
                homes.setdefault(place, []).append(proxy)
        for place, proxies in homes.items():
            value = proxies[0].values["timeout connect"]
            if value.is_said:
                edit = mending.reword(value, "5s")
            else:
                edit = mending.insert(subject, place, "timeout connect 5s")
            yield self.finding(
                Spot(place),
                {"backends": listed([proxy.name for proxy in proxies])},
                origin=value.origin,
                backends=[proxy.name for proxy in proxies],
                remedy=mending.remedy(edit),
            )
