"""Retries without `option redispatch`: they go to the old address."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Facts, Finding, Severity, Spot
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_value
from chaosd.doctor.words import count, listed
from chaosd.proxies.haproxy.cfg.effective import Proxy
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.rewire.choose import is_followed

REDISPATCH = "option redispatch 1"


class NoRedispatch(Rule):
    """One finding for each section that lacks the line: a `defaults`, or else a backend."""

    id = "no-redispatch"
    severity = Severity.WARNING
    title = "retries go to the old address"
    sentence = (
        "`retries {retries}` without `option redispatch`: a request that was sent to the old "
        "address is tried there again, {times}, whatever DNS says by then ({backends})"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        homes: dict[Place, list[Proxy]] = {}
        if subject.is_part:
            return
        for proxy in followed(subject):
            value = proxy.values["option redispatch"]
            if value.value == 0 and retries(proxy) > 0:
                place = value.place or mending.home_of(subject, proxy)
                homes.setdefault(place, []).append(proxy)
        for place, proxies in homes.items():
            yield self._finding(subject, place, proxies)

    def _finding(self, subject: Subject, place: Place, proxies: list[Proxy]) -> Finding:
        value = proxies[0].values["option redispatch"]
        tries = max(map(retries, proxies))
        line = subject.statement_at(place)
        facts: Facts = {
            "retries": tries,
            "times": count(tries, "time"),
            "backends": listed([proxy.name for proxy in proxies]),
        }
        if value.is_said and line is not None:  # no option redispatch
            edit = mending.rewrite(line, REDISPATCH)
        else:
            edit = mending.insert(subject, place, REDISPATCH)
        return self.finding(
            of_value(value, Spot(place)),
            facts,
            origin=value.origin,
            backends=[proxy.name for proxy in proxies],
            remedy=mending.remedy(edit),
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
