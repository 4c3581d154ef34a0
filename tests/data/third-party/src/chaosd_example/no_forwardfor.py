"""A rule of somebody else's for `chaosd doctor`: their app wants to know the client's address."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Finding, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject


class NoForwardfor(Rule):
    """Our app logs the header X-Forwarded-For, and shows nothing where it is missing."""

    id = "no-forwardfor"
    severity = Severity.WARNING
    title = "the app does not learn the client's address"
    sentence = "backend `{backend}` has no `option forwardfor`"

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy in subject.backends:
            value = proxy.values.get("option forwardfor")
            if proxy.values["mode"].value == "http" and (value is None or not value.value):
                line = mending.insert(subject, proxy.place, "option forwardfor")
                yield self.finding(
                    Spot(proxy.place),
                    {"backend": proxy.name},
                    backends=[proxy.name],
                    remedy=mending.remedy(line),
                    beyond=True,
                )
