"""Retries without `option redispatch`: they go to the old address."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_value
from chaosd.doctor.words import count, listed
from chaosd.proxies.haproxy.cfg.effective import Proxy
from chaosd.proxies.haproxy.rewire.choose import is_followed

REDISPATCH = "option redispatch 1"


class NoRedispatch(Rule):
    """One finding for each `defaults` that lacks the line, one for the backends without any."""

    id = "no-redispatch"
    severity = Severity.WARNING
    title = "retries go to the old address"
    sentence = (
        "`retries {retries}` without `option redispatch`: a request that was sent to the old "
        "address is tried there again, {times}, whatever DNS says by then ({backends})"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        if subject.is_part:
            return
        lacking = [
            (proxy, value)
            for proxy in followed(subject)
            if (value := proxy.values["option redispatch"]).value == 0 and retries(proxy) > 0
        ]
        for proxies in mending.by_home(subject, lacking):
            yield self._finding(subject, proxies)

    def _finding(self, subject: Subject, proxies: list[Proxy]) -> Finding:
        value = proxies[0].values["option redispatch"]
        tries = max(map(retries, proxies))
        line = None if value.place is None else subject.statement_at(value.place)
        facts: Facts = {
            "retries": tries,
            "times": count(tries, "time"),
            "backends": listed([proxy.name for proxy in proxies]),
        }
        if value.is_said and line is not None:  # no option redispatch
            edits = [mending.rewrite(line, REDISPATCH)]
        else:
            edits = mending.insert_for(subject, proxies, REDISPATCH)
        return self.finding(
            of_value(value, Spot(mending.home_of(subject, proxies[0]))),
            facts,
            origin=value.origin,
            backends=[proxy.name for proxy in proxies],
            also=[] if value.is_said else [mending.home_of(subject, p) for p in proxies],
            remedy=mending.remedy(*edits),
        )


def followed(subject: Subject) -> Iterator[Proxy]:
    """The backends with a server that is looked up again and again."""
    for proxy in subject.backends:
        if any(is_followed(server) for server in proxy.servers):
            yield proxy


def retries(proxy: Proxy) -> int:
    """How many further attempts a request has; 0 where that is not known."""
    value = proxy.values["retries"].value if "retries" in proxy.values else 3
    return value if isinstance(value, int) else 0


def turn_around_ms(proxy: Proxy) -> int:
    """The pause before a retry after a refused connection."""
    connect = proxy.values["timeout connect"].value
    return min(connect, 1000) if isinstance(connect, int) and connect else 1000
