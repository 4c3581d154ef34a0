"""A bare `option redispatch`: only the last retry looks the address up again."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.rules.no_redispatch import followed, retries, turn_around_ms
from chaosd.doctor.subject import Subject, of_setting
from chaosd.doctor.words import listed
from chaosd.proxies.haproxy.cfg.effective import Proxy
from chaosd.proxies.haproxy.cfg.source import Place


class LateRedispatch(Rule):
    """One finding for each such line."""

    id = "late-redispatch"
    severity = Severity.WARNING
    title = "only the last retry goes to the new address"
    sentence = (
        "bare `option redispatch`: of {retries} retries only the last one looks the address up "
        "again. A request begun just before the switch waits {wait} longer than it has to, "
        "unless several servers are up and no cookie or hash binds it to one ({backends})"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        lines: dict[Place, list[Proxy]] = {}
        for proxy in followed(subject):
            value = proxy.values["option redispatch"]
            if value.value == -1 and value.place is not None and retries(proxy) > 1:
                lines.setdefault(value.place, []).append(proxy)
        for place, proxies in lines.items():
            value, tries = proxies[0].values["option redispatch"], max(map(retries, proxies))
            facts: Facts = {
                "retries": tries,
                "wait": Ms((tries - 1) * turn_around_ms(proxies[0])),
                "backends": listed([proxy.name for proxy in proxies]),
            }
            yield self.finding(
                of_setting(subject, value, Spot(place)),
                facts,
                origin=value.origin,
                backends=[proxy.name for proxy in proxies],
                remedy=mending.remedy(mending.reword(value, "redispatch 1")),
            )
