"""What happens to the users of backends while DNS is in trouble."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import shapes
from foreseen import foresee, move, trouble, within
from shapes import resolver, server

from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.model.backend import (
    Follows,
)
from chaosd.proxies.haproxy.model.outlook import (
    queries_per_s,
)


def test_one_dead_nameserver_of_two() -> None:
    """A valid answer is as quick. The failure of AAAA has to wait for the dead one, each poll."""
    two = resolver(nameservers=2)
    dead = trouble(math.inf, nameservers=1)
    by_a = shapes.backend(server(dns=two, prefers="A"))
    by_aaaa = shapes.backend(server(dns=two))
    assert foresee(by_a, dead).unaffected == foresee(by_aaaa, dead).unaffected == 1.0
    assert foresee(by_a, dead).queries_in_trouble_per_s == pytest.approx(2, abs=0.1)
    assert foresee(by_aaaa, dead).queries_in_trouble_per_s == pytest.approx(2, abs=0.1)
    once = shapes.backend(server(dns=resolver(nameservers=2, rounds=1, timeout=5, other=5)))
    gone = foresee(once, trouble(30, nameservers=1))  # the last round does not ask for A
    assert gone.unaffected == 0.0
    assert within(gone.recovery_s, 30.0, 32.1)


def test_dropped_aaaa_is_maintenance_for_ever() -> None:
    dropped = trouble(math.inf, family="AAAA")
    backend = shapes.backend(server(dns=resolver()))
    found = foresee(backend, dropped)
    assert found.recovery_s.never == 1.0
    assert found.failed_s.p50 == pytest.approx(60.0, abs=5)
    spared = (
        server(dns=resolver(), prefers="A"),
        server(dns=resolver(families=("A",))),
    )
    for line in spared:
        assert foresee(shapes.backend(line), dropped).unaffected == 1.0


@pytest.mark.parametrize(
    ("missing", "hold", "least_s", "most_s"),
    [
        (Failure.SILENCE, "timeout", 8.0, 12.1),  # cycles of 4 s, the first ends after 3 to 4
        (Failure.NXDOMAIN, "nx", 8.0, 11.1),  # cycles of 3 s
        (Failure.REFUSED, "refused", 8.0, 11.1),
        (Failure.SERVFAIL, "other", 8.0, 11.1),
    ],
)
def test_a_hold_ends_in_maintenance(
    missing: Failure, hold: str, least_s: float, most_s: float
) -> None:
    dns = resolver(**{hold: 9.0})
    found = foresee(shapes.backend(server(dns=dns)), trouble(60, missing=missing))
    assert within(found.stable_s, 60.0, 63.0)
    began_s = [60.5 - failed_s for failed_s in (found.failed_s.p95, found.failed_s.p05)]
    assert least_s - 1 < began_s[0] <= began_s[1] < most_s + 1
    assert foresee(shapes.backend(server(dns=dns)), trouble(5, missing=missing)).unaffected == 1.0


def test_the_error_of_one_family_or_of_srv_waits_for_timeout_retry() -> None:
    """There is no other type to ask for: a round is over when `timeout retry` strikes."""
    plain = {"dns": resolver(families=("A",), nx=3)}
    service = {"dns": resolver(nx=3), "follows": Follows.SERVICE, "slots": 2}
    both = {"dns": resolver(nx=3)}
    lost_s = []
    for values in (plain, service, both):
        found = foresee(shapes.backend(server(**values)), trouble(20, missing=Failure.NXDOMAIN))
        lost_s.append(found.failed_s.mean)
    assert lost_s[0] == pytest.approx(lost_s[1], abs=0.3)
    assert lost_s[2] == pytest.approx(lost_s[0] + 1, abs=0.3)


def test_what_asking_costs() -> None:
    two_names = [server(name, name, dns=resolver()) for name in ("a", "b")]
    again = server("c", "a", dns=resolver())
    assert queries_per_s(shapes.backend(*two_names, again)) == pytest.approx(4, abs=0.05)
    many = server(dns=resolver(nameservers=3, resolve=0.5), prefers="A")
    assert queries_per_s(shapes.backend(many)) == pytest.approx(6, abs=0.05)
    nobody = foresee(shapes.backend(server(dns=resolver())), trouble(40))
    assert nobody.queries_in_trouble_per_s == pytest.approx(3 / 4, abs=0.1)  # AAAA, three rounds
    missing = foresee(shapes.backend(server(dns=resolver(rounds=1))), move(40.0))
    assert missing.queries_in_trouble_per_s == pytest.approx(2, abs=0.1)


def test_a_dead_nameserver_delays_only_what_is_missing() -> None:
    """An NXDOMAIN is held until `timeout retry`, for the other nameserver may know better."""
    dns = resolver(resolve=0.4, retry=0.3, rounds=2, nameservers=2)
    backend = shapes.backend(server(dns=dns, inter=30, prefers="A"))
    calm, missing = move(0.0), move(1.0)
    for scenario, slower_s in ((calm, 0.0), (missing, 0.37)):
        living = foresee(backend, scenario).recovery_s
        one_dead = foresee(backend, replace(scenario, dead=1)).recovery_s
        assert one_dead.mean - living.mean == pytest.approx(slower_s, abs=0.05)
    assert foresee(backend, replace(missing, dead=2)).recovery_s.never == 1


@pytest.mark.parametrize(
    ("version", "stays"), [("2.2.9", True), ("2.2.10", False), ("2.3.5", True), ("2.6.12", False)]
)
def test_an_old_release_keeps_srv_servers_whose_name_is_gone(version: str, stays: bool) -> None:
    """Where the answers held their addresses, too (HAProxy's issue 50)."""
    line = server("app", "_h1._tcp.x", slots=4, dns=resolver(nx=1), follows=Follows.SERVICE)
    gone = trouble(20, missing=Failure.NXDOMAIN)
    assert (foresee(shapes.backend(line), gone, version).unaffected == 1.0) == stays
