"""What happens to the users of backends as they are found in files, when something moves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import shapes
from foreseen import NEWEST, NOTHING, PUBLISHED_S, VERSIONS, foresee, move, trouble, within
from shapes import ns, resolver, server

from chaosd.plugins import timeline
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.config import Config, settings_of
from chaosd.proxies.haproxy.model.algorithm import backend_of
from chaosd.proxies.haproxy.model.backend import (
    Beyond,
    CheckKind,
    Follows,
    Happening,
    Outlook,
    Unknown,
)
from chaosd.proxies.haproxy.model.outlook import (
    MOVE,
    NODE_LOST,
    instances_of,
    moves_at_first,
    outlook,
    queries_per_s,
    standard_scenarios,
)
from chaosd.proxies.haproxy.model.predicting import predict

# --- a plain server -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("missing", [Failure.NXDOMAIN, Failure.SILENCE, None])
def test_a_single_server_has_the_prediction_of_a_run(version: str, missing: Failure | None) -> None:
    settings = settings_of(
        Config.model_validate(
            {"type": "haproxy", "server": {"inter": "600ms", "fall": 2, "rise": 2}}
        )
    )
    scenario = move(1.3, listening_s=1.5, healthy_s=1.5, missing=missing)
    found = foresee(backend_of(settings, 1), scenario, version)
    happens = timeline.move(
        published_s=1.3,
        listening_s=1.5,
        missing_s=None if missing is None else 0.0,
        missing=missing or "stale",
        old_ip="refuse",
    )
    expected = predict(settings, version, happens)
    assert expected.quantiles_s["p50"] == pytest.approx(found.recovery_s.p50, abs=0.15)
    assert expected.quantiles_s["p95"] == pytest.approx(found.recovery_s.p95, abs=0.15)
    assert expected.mean_s == pytest.approx(found.recovery_s.mean, abs=0.1)
    assert within(found.recovery_s, expected.lower_s, expected.upper_s)
    assert found.stable_s == found.recovery_s
    assert found.failed_s.p50 == pytest.approx(found.recovery_s.p50, abs=0.01)


def test_every_default_at_once() -> None:
    """One of four that moves: its requests wait three times 1 s and fail, three others are fine."""
    dns = resolver()
    servers = [server(f"srv{n}", f"h{n}", dns=dns) for n in (1, 2, 3, 4)]
    found = foresee(shapes.backend(*servers))
    assert within(found.recovery_s, PUBLISHED_S, PUBLISHED_S + 1.01)
    assert found.slowest_s == pytest.approx(3.0, abs=0.01)
    assert found.failed_s.p50 == pytest.approx(found.recovery_s.p50 / 4, abs=0.02)
    assert found.queries_per_s == pytest.approx(8, abs=0.1)  # AAAA and A of four names
    better = foresee(shapes.backend(*servers, redispatch_every=1))
    assert better.unaffected == 1.0
    assert better.stable_s == NOTHING
    assert better.masked_s == NOTHING  # another server takes a refused request at once


def test_without_a_check_requests_fail_until_the_poll() -> None:
    """`hold obsolete 10s` counts from when the old address was last answered."""
    backend = shapes.backend(server(dns=resolver(obsolete=10), check=CheckKind.NONE))
    stale = foresee(backend, move(0.0, missing=None))
    assert within(stale.recovery_s, 9.0, 10.01)
    assert within(foresee(backend, move(2.0)).recovery_s, 9.0, 10.01)
    old = foresee(backend, move(0.0, missing=None), "2.2.9")
    assert within(old.recovery_s, 9.0, 11.02)  # whole seconds
    away = shapes.backend(server(dns=resolver(obsolete=10, nx=10), check=CheckKind.NONE))
    long = foresee(away, move(20.0))  # in maintenance by then
    assert within(long.recovery_s, 20.0, 21.01)


@pytest.mark.parametrize(("version", "latest_s"), [("2.2.9", 30.01), ("2.6.6", 30.01)])
def test_a_failed_check_does_not_ask_before_2_6_7(version: str, latest_s: float) -> None:
    """`timeout resolve 30s`, `hold valid 3s`."""
    dns = resolver(resolve=30, valid=3, nx=60)
    backend = shapes.backend(server(dns=dns, inter=1, fall=2))
    late = foresee(backend, move(0.0, missing=None), version)
    assert late.recovery_s.p50 > 10
    assert late.recovery_s.p95 < latest_s + 3
    soon = foresee(backend, move(0.0, missing=None), "2.6.7")
    assert soon.recovery_s.p50 < 3
    assert soon.recovery_s.p95 < 5.1


def test_quick_checks_and_no_holds_make_moves_short_and_dns_trouble_an_outage() -> None:
    """All holds are 0: a moment of DNS trouble is an outage, though nothing moves."""
    dns = resolver(valid=1, nx=0, timeout=0, other=0, refused=0)
    backend = shapes.backend(server(dns=dns, inter=0.1), connect=10)
    assert within(foresee(backend, move(0.0, missing=None)).recovery_s, 0.0, 1.35)
    some = foresee(backend, trouble(2.2, missing=Failure.SERVFAIL))  # three rounds take 2 s
    assert some.unaffected == pytest.approx(0.8, abs=0.05)
    for seconds, missing in ((3.1, Failure.SERVFAIL), (3.2, Failure.SILENCE)):
        found = foresee(backend, trouble(seconds, missing=missing))
        assert found.unaffected < 0.05
        assert found.recovery_s == found.stable_s
        assert found.recovery_s.p95 < 5.05  # two resolutions, a second apart
    assert foresee(shapes.backend(server(dns=resolver())), trouble()).unaffected == 1.0


# --- the jump of `hold obsolete` ------------------------------------------------------------------


def test_who_returns_quickly_is_lost_for_half_an_hour() -> None:
    """5 s away and the old address is kept; 20 s away and maintenance forgets it."""
    dns = resolver(valid=30, nx=10, refused=8, obsolete=1800)
    values: dict[str, Any] = {"inter": 1, "fall": 1, "rise": 1, "check": CheckKind.ANSWERS}
    servers = [server(f"srv{n}", f"h{n}", dns=dns, **values) for n in (1, 2, 3)]
    backend = shapes.backend(*servers, connect=4, timeout_check_ns=ns(2), mode="tcp")
    for version in ("2.6.12", NEWEST):
        quick, slow = (foresee(backend, move(gap_s), version) for gap_s in (5.0, 20.0))
        assert within(quick.recovery_s, 1799.0, 1802.0)
        assert within(slow.recovery_s, 20.0, 21.1)
    for gap_s in (5.0, 20.0):
        assert within(foresee(backend, move(gap_s), "2.2.9").recovery_s, 1799.0, 1803.1)
    # One of three is DOWN after the first failed check: a third of at most a second fails.
    assert within(foresee(backend, move(5.0)).failed_s, 0.0, 0.34)
    alone = foresee(shapes.backend(servers[0], connect=4), move(5.0))
    assert alone.failed_s.p05 > 1799


# --- several servers ------------------------------------------------------------------------------


def test_of_servers_with_one_name_only_one_is_used() -> None:
    """One address and three ports. Another section hides it from 2.5 on."""
    dns = resolver()
    values: dict[str, Any] = {"dns": dns, "check": CheckKind.NONE, "prefers": "A"}
    lines = [server(f"srv{n}", "h1", **values) for n in (1, 2, 3)]
    alone = foresee(shapes.backend(*lines))
    assert alone.failed_s.p50 == pytest.approx(alone.recovery_s.p50, abs=0.01)
    assert within(alone.recovery_s, PUBLISHED_S, PUBLISHED_S + 1.01)
    assert alone.queries_per_s == pytest.approx(1, abs=0.01)
    with_duplicates = [replace(line, allow_dup_ip=True) for line in lines]
    both = foresee(shapes.backend(*with_duplicates, redispatch_every=1))
    assert both.recovery_s.p95 < PUBLISHED_S + 1.01
    other = [lines[0], replace(lines[1], resolver=resolver(name="other"))]
    assert queries_per_s(shapes.backend(*other)) == pytest.approx(2, abs=0.01)


def test_a_name_without_resolvers_never_recovers() -> None:
    """Checks take it out where there are others; without any, its share fails for ever."""
    alone = foresee(shapes.backend(server(inter=60)))
    assert alone.recovery_s.never == alone.stable_s.never == 1.0
    assert math.isinf(alone.recovery_s.p05)
    assert math.isnan(alone.recovery_s.mean)
    assert alone.failed_s.p50 == pytest.approx(alone.horizon_s)
    assert alone.queries_per_s == 0
    pair = foresee(shapes.backend(server("a", inter=1), server("b", "h2", inter=1)))
    assert pair.recovery_s.never == 1.0
    assert within(pair.stable_s, 2.0, 3.02)
    unchecked = [server(name, name, check=CheckKind.NONE) for name in ("a", "b")]
    half = foresee(shapes.backend(*unchecked))
    assert half.stable_s.never == 1.0
    assert half.failed_s.p50 == pytest.approx(half.horizon_s / 2)
    by_address = foresee(shapes.backend(server("a", None, check=CheckKind.NONE)))
    assert by_address.recovery_s.never == 1.0


def test_primary_and_backup() -> None:
    """The backup is used only when checks have taken the primary out."""
    dns = resolver(valid=5)
    backend = shapes.backend(server(dns=dns), server("srv2", "h2", dns=dns, backup=True))
    quick = foresee(backend)
    assert within(quick.recovery_s, PUBLISHED_S, PUBLISHED_S + 1.01)
    assert quick.stable_s == quick.recovery_s
    slow = foresee(backend, move(20.0, missing=None))
    assert within(slow.stable_s, 4.0, 6.02)
    assert within(slow.failed_s, 4.0, 6.02)
    assert within(slow.recovery_s, 22.0, 25.1)  # and `rise 2`
    second = foresee(backend, moved="srv2")
    assert second.unaffected == 1.0


def test_the_first_backup_alone_or_all_of_them() -> None:
    dns = resolver()
    backups = [server(f"b{n}", f"b{n}", dns=dns, backup=True) for n in (1, 2)]
    backend = shapes.backend(*backups)
    first = foresee(backend)
    assert first.failed_s.p50 == pytest.approx(first.recovery_s.p50, abs=0.01)
    assert foresee(backend, moved="b2").unaffected == 1.0
    every = foresee(replace(backend, all_backups=True), moved="b2")
    assert every.failed_s.p50 == pytest.approx(every.recovery_s.p50 / 2, abs=0.02)


def test_weights_are_shares() -> None:
    dns = resolver()
    backend = shapes.backend(
        server("a", "a", dns=dns, weight=30),
        server("b", "b", dns=dns, weight=10),
        server("c", "c", dns=dns, weight=0),
    )
    found = foresee(backend, moved="b")
    assert found.failed_s.p50 == pytest.approx(found.recovery_s.p50 / 4, abs=0.02)
    assert foresee(backend, moved="c").unaffected == 1.0


def test_a_slow_starter_that_comes_back_by_dns() -> None:
    """UP unchecked while it boots. One failed check is enough, and then `rise 1`."""
    dns = resolver()
    lines = [server(f"srv{n}", f"h{n}", dns=dns, rise=1, check=CheckKind.ANSWERS) for n in (2, 3)]
    backend = shapes.backend(*lines, redispatch_every=-1)
    appears = move(40.0, listening_s=40.0, healthy_s=50.0)
    found = foresee(backend, appears)
    assert within(found.recovery_s, 50.0, 52.02)
    assert 0.2 < found.failed_s.p50 < 1.1  # half of the requests, for up to 2 s
    assert found.failed_s.p95 < 1.1
    safe = [replace(line, init_state="fully-down") for line in lines]
    assert foresee(shapes.backend(*safe, redispatch_every=-1), appears).unaffected == 1.0
    ignored = foresee(shapes.backend(*safe, redispatch_every=-1), appears, "3.0.11")
    assert ignored.unaffected < 0.1


# --- templates ------------------------------------------------------------------------------------


def test_a_template_keeps_the_old_slot_for_hold_obsolete() -> None:
    """A spare slot has the new address within a second, half of the requests fail."""
    dns = resolver(obsolete=10, nx=10, refused=10, timeout=10, other=10)
    checked = foresee(shapes.backend(server("app", slots=6, dns=dns), connect=10))
    assert within(checked.recovery_s, PUBLISHED_S, PUBLISHED_S + 1.01)
    assert within(checked.stable_s, 4.0, 6.02)
    unchecked = server("app", slots=6, dns=dns, check=CheckKind.NONE)
    kept = foresee(shapes.backend(unchecked, connect=10))
    assert within(kept.stable_s, 9.0, 10.02)
    gone = replace(unchecked, resolver=resolver())
    swift = foresee(shapes.backend(gone, connect=10))
    assert within(swift.stable_s, 0.0, 1.01)


def test_a_pool_and_its_backup_pool_without_checks() -> None:
    """A moved task is found at once; one that hangs while it is listed is never out."""
    dns = resolver()
    values: dict[str, Any] = {"slots": 8, "dns": dns, "prefers": "A", "check": CheckKind.NONE}
    backend = shapes.backend(
        server("local", "h1", weight=100, **values),
        server("remote", "h2", weight=10, backup=True, **values),
        connect=2,
        retries=2,
    )
    assert within(foresee(backend).stable_s, 0.0, 1.01)
    hangs = foresee(backend, replace(NODE_LOST, published_s=math.inf, listening_s=math.inf))
    assert hangs.stable_s.never == 1.0
    assert hangs.failed_s.p50 == pytest.approx(hangs.horizon_s / 2)
    assert hangs.slowest_s == pytest.approx(6.0)  # three attempts of 2 s


def test_more_instances_and_how_many_there_are() -> None:
    backend = shapes.backend(
        server("app", slots=6, dns=resolver(obsolete=60), check=CheckKind.NONE)
    )
    assert instances_of(backend, "app") == 2
    assert instances_of(shapes.backend(server(dns=resolver())), "srv1") == 1
    of_five = foresee(backend, replace(MOVE, instances=5))
    assert of_five.failed_s.p50 == pytest.approx(59.5 / 6, abs=0.4)  # the sixth has the new one
    full = foresee(backend, replace(MOVE, instances=6))
    assert within(full.recovery_s, 59.0, 60.1)  # no spare slot


# --- SRV ------------------------------------------------------------------------------------------


def test_srv_records() -> None:
    """`hold obsolete` 0 and no `timeout connect`."""
    line = server("app", "_h1._tcp.x", slots=10, dns=resolver(valid=5), follows=Follows.SERVICE)
    backend = shapes.backend(line, connect=None)
    found = foresee(backend)
    assert within(found.recovery_s, PUBLISHED_S, PUBLISHED_S + 1.01)
    assert within(found.stable_s, 0.0, 1.01)
    assert found.queries_per_s == pytest.approx(1, abs=0.01)
    lost = foresee(backend, NODE_LOST)
    assert lost.slowest_s > 120 * 4  # as long as the kernel tries, four times
    forever = replace(NODE_LOST, published_s=math.inf, listening_s=math.inf)
    assert within(foresee(backend, forever).stable_s, 10.0, 12.1)  # 3 checks of 2 s, 2 s apart


def test_srv_slots_of_removed_pods_live_on_for_hold_obsolete() -> None:
    """Checks take them out, and `redispatch` among several saves the requests."""
    dns = resolver(resolve=2, obsolete=60)
    line = server("app", "_h1._tcp.x", slots=10, dns=dns, follows=Follows.SERVICE)
    checked = foresee(shapes.backend(line))
    assert within(checked.stable_s, 4.0, 6.02)
    unchecked = replace(line, check=CheckKind.NONE)
    assert within(foresee(shapes.backend(unchecked)).stable_s, 58.0, 60.1)
    assert foresee(shapes.backend(line, redispatch_every=-1, all_backups=True)).unaffected == 1.0
    full = foresee(shapes.backend(replace(unchecked, slots=2)))
    assert within(full.recovery_s, 58.0, 62.2)  # no free slot: 10 may not be enough


# --- checks ---------------------------------------------------------------------------------------


def test_checks_outside_take_a_dead_host_out_but_ask_nothing_of_dns() -> None:
    """10 to 20 s until DOWN; a silent node holds a request for 18 minutes."""
    values: dict[str, Any] = {"dns": resolver(), "inter": 10, "rise": 1, "fall": 2}
    for kind in (CheckKind.OUTSIDE, CheckKind.ELSEWHERE):
        backend = shapes.backend(
            server(check=kind, **values),
            server("srv2", "h2", check=kind, backup=True, **values),
            connect=100.5,
            retries=10,
        )
        refused = foresee(backend, move(100.0, missing=None))
        assert within(refused.stable_s, 10.0, 20.1)
        assert refused.slowest_s == pytest.approx(10.0, abs=0.1)
        lost = foresee(backend, NODE_LOST)
        assert lost.slowest_s == pytest.approx(11 * 100.5, rel=0.01)
        away = foresee(backend, move(40.0, healthy_s=100.0))  # in maintenance, and back unchecked
        assert within(away.failed_s, 9.0, 80.1)
    slow = {"dns": resolver(resolve=30, valid=1), "inter": 1, "fall": 9}
    for kind in (CheckKind.CONNECTS, CheckKind.ELSEWHERE):  # to any port: docs/findings.md
        asks = foresee(shapes.backend(server(check=kind, **slow)), move(0.0, missing=None))
        assert asks.recovery_s.p95 < 3
    deaf = foresee(shapes.backend(server(check=CheckKind.OUTSIDE, **slow)), move(0.0, missing=None))
    assert deaf.recovery_s.p50 > 10


def test_healthy_counts_where_checks_want_an_answer() -> None:
    """An app that answers 503 for 6 s after its start: no recovery before it is well."""
    booting = move(0.3, healthy_s=6.3)
    for kind, latest_s in ((CheckKind.ANSWERS, 9.0), (CheckKind.CONNECTS, 6.35)):
        line = server(dns=resolver(), check=kind, inter=1)
        found = foresee(shapes.backend(line), booting)
        assert within(found.recovery_s, 6.29, latest_s)


# --- who moves, and what is beyond ----------------------------------------------------------------


def test_who_moves_where_nobody_says() -> None:
    followed = server("b", "b", dns=resolver())
    backup = server("z", "z", dns=resolver(), backup=True)
    fixed = server("f", None)
    for lines, name in (
        ((backup, fixed, followed), "b"),
        ((backup, fixed), "z"),
        ((backup, server("once", "once")), "once"),
        ((fixed, server("once", "once")), "once"),
        ((backup,), "z"),
    ):
        moves = moves_at_first(shapes.backend(*lines))
        assert moves is not None
        assert moves.name == name


def test_what_is_beyond_is_said() -> None:
    plain = shapes.backend(server(dns=resolver()))
    unheard = shapes.backend(server(dns=resolver(nameservers=0)))
    for backend, version, why in (
        (shapes.backend(), NEWEST, Beyond.NO_SERVER),
        (plain, "2.0.35", Beyond.OLD_VERSION),
        (unheard, NEWEST, Beyond.NO_NAMESERVER),
    ):
        found = outlook(backend, version, MOVE)
        assert isinstance(found, Unknown)
        assert found.why == why


def test_an_outlook_is_the_same_each_time_and_the_scenarios_are_three() -> None:
    backend = shapes.backend(server("app", slots=4, dns=resolver(obsolete=3)), redispatch_every=1)
    for scenario in standard_scenarios():
        assert foresee(backend, scenario) == foresee(backend, scenario)
    happenings = [scenario.happening for scenario in standard_scenarios()]
    assert happenings == [Happening.MOVE, Happening.NODE_LOST, Happening.DNS_TROUBLE]
    assert foresee(backend, trials=40).trials <= 40


def test_scaling_up_fails_nobody_and_scaling_down_some() -> None:
    pool = shapes.backend(server("app", "app", slots=4, dns=resolver(), inter=1))
    more = replace(move(1.0), happening=Happening.GROWS, instances=3)
    grows = foresee(pool, more)
    assert within(grows.recovery_s, 1.0, 2.1)
    assert grows.unaffected == 1
    shrinks = foresee(pool, replace(more, happening=Happening.SHRINKS))
    assert shrinks.recovery_s.never == 1
    assert 0 < shrinks.failed_s.mean < 1 / 3
    assert within(shrinks.stable_s, 0.0, 1.1)


@pytest.mark.parametrize(("version", "later_s"), [("2.6.12", 0.0), ("3.2.26", 1.0)])
def test_a_target_without_an_address_is_asked_for_a_poll_later(
    version: str, later_s: float
) -> None:
    service = shapes.backend(
        server("s", "_http._tcp.app", slots=4, dns=resolver(), follows=Follows.SERVICE)
    )
    told = outlook(service, version, move(1.0))
    asked = outlook(service, version, replace(move(1.0), additional=False))
    assert isinstance(told, Outlook)
    assert isinstance(asked, Outlook)
    assert asked.recovery_s.mean - told.recovery_s.mean == pytest.approx(later_s, abs=0.05)
    assert asked.queries_in_trouble_per_s > told.queries_in_trouble_per_s


def test_a_check_that_is_under_way_at_a_dead_address_ends_there() -> None:
    """It takes 2 s, and so does the pause after it: the next one may be that late."""
    dns = resolver(obsolete=20)
    vanished = replace(NODE_LOST, published_s=0.0, listening_s=0.0, healthy_s=0.0)
    found = foresee(shapes.backend(server(dns=dns, rise=1)), vanished)
    assert within(found.recovery_s, 19.0, 24.1)
    assert found.recovery_s.p95 - found.recovery_s.p05 > 3.0


def test_there_is_no_answer_that_would_take_minutes() -> None:
    many = shapes.backend(server(dns=resolver(), slots=257))
    found = outlook(many, NEWEST, MOVE)
    assert isinstance(found, Unknown)
    assert found.why is Beyond.TOO_MANY


def test_a_request_that_is_tried_for_ever_is_counted_as_failed() -> None:
    stuck = shapes.backend(server(check=CheckKind.NONE), retries=2_000_000_000)
    assert foresee(stuck, trials=8).failed_s.mean > 0
