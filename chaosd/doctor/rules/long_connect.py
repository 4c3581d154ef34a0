"""A `timeout connect` so long that a client waits for minutes at an address that is silent."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Ms, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.rules.no_redispatch import retries
from chaosd.doctor.subject import Subject, of_setting
from chaosd.doctor.words import listed
from chaosd.proxies.haproxy.cfg.effective import Proxy
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.requests import KERNEL_CONNECT_NS

_LONG_MS = 20_000
_GOOD = "5s"
_KERNEL_MS = KERNEL_CONNECT_NS // 1_000_000
_BY_KERNEL = ", as the kernel gives an attempt up after some two minutes"


class LongConnect(Rule):
    """One finding for each such line."""

    id = "long-connect"
    severity = Severity.WARNING
    title = "a client waits long at an address that does not answer"
    sentence = (
        "`timeout connect {said}`{unit}: with `retries {retries}` a client at an address that "
        "does not answer waits up to {wait}{kernel} ({backends})"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        lines: dict[Place, list[Proxy]] = {}
        for proxy in subject.backends:
            value = proxy.values["timeout connect"]
            if isinstance(value.value, int) and value.value >= _LONG_MS and value.place:
                lines.setdefault(value.place, []).append(proxy)
        for place, proxies in lines.items():
            value, tries = proxies[0].values["timeout connect"], max(map(retries, proxies))
            ms = Ms(value.value or 0)
            said = value.word.text if value.word is not None else str(ms)
            facts: Facts = {
                "said": said,
                "unit": f" has no unit and means {ms}" if said.isdecimal() else "",
                "retries": tries,
                "wait": Ms((tries + 1) * min(ms, _KERNEL_MS)),
                "kernel": _BY_KERNEL if ms > _KERNEL_MS else "",
                "backends": listed([proxy.name for proxy in proxies]),
            }
            yield self.finding(
                of_setting(subject, value, Spot(place)),
                facts,
                origin=value.origin,
                backends=[proxy.name for proxy in proxies],
                remedy=mending.remedy(mending.reword(value, _GOOD)),
            )
