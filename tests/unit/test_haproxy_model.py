"""The model of one HAProxy server against what was measured, and against the closed forms."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
from moving import MS, NEW, OLD, MoveWorld, S, config, move, recovered_s, stand

from chaosd.plugins.simulation import Reply
from chaosd.plugins.timeline import Failure, Timeline
from chaosd.proxies.haproxy.model.algorithm import ProxyModel

# --- against measurements on the real builds (reference, parts 0 to 2) ----------------------------


def polls_after(move: Timeline, **resolvers: Any) -> tuple[list[float], list[tuple[float, str]]]:
    """Query times of the preferred type, and the log, with the last good answer at -0.01 s."""
    settings = config(
        resolvers=resolvers | {"timeout_resolve": "500ms"},
        server={"check": False},
    )
    world = MoveWorld(move, t0_ns=S)
    model = ProxyModel(settings, "2.6.12", world, Random(1), start_ns=0, poll_at_ns=990 * MS)
    model.advance(5 * S)
    asked = [at for at, qtype in world.queries if qtype == "A" and at > 0]
    return asked, [(at, what) for at, what, _ in world.log if at > 0]


def test_poll_period_is_timeout_resolve() -> None:
    asked, _ = polls_after(move(published_s=100.0))
    gaps = [after - before for before, after in pairwise(asked)]
    assert all(0.5 < gap < 0.5025 for gap in gaps)


@pytest.mark.parametrize(
    ("missing", "polls", "maintenance_s"),
    [
        ("nxdomain", [0.49, 0.79, 1.09, 1.59, 1.89, 2.19], 2.20),
        ("drop", [0.49, 0.79, 1.09, 1.89, 2.19, 2.49], 2.80),
    ],
)
def test_errors_poll_and_end_in_maintenance_as_measured(
    missing: str, polls: list[float], maintenance_s: float
) -> None:
    """T_res .5, Tr .3, R 3, hold 2 s, last valid at -0.01: measured alike on four builds."""
    asked, log = polls_after(
        move(missing_s=0.0, missing=missing, published_s=100.0),
        timeout_retry="300ms",
        resolve_retries=3,
        hold={"nx": "2s", "timeout": "2s"},
    )
    assert asked[:6] == pytest.approx(polls, abs=0.02)
    assert [what for _, what in log] == ["maint"]
    assert log[0][0] == pytest.approx(maintenance_s, abs=0.02)


def test_an_error_answer_asks_for_the_other_family_but_silence_does_not() -> None:
    settings = config(server={"check": False, "resolve_prefer": "ipv6"})
    world = MoveWorld(move(published_s=100.0), t0_ns=0)
    world.resolve = lambda now_ns, record: (  # type: ignore[method-assign]
        world.queries.append((world.s(now_ns), record))
        or Reply(Failure.SILENCE if record == "AAAA" else (OLD,))
    )
    ProxyModel(settings, "2.6.12", world, Random(1), start_ns=0).advance(20 * S)
    assert {qtype for _, qtype in world.queries} == {"AAAA"}  # dropped for ever, A never asked

    model, healthy = stand(settings, move(published_s=100.0))
    model.advance(healthy.t0_ns)
    assert [qtype for _, qtype in healthy.queries[:4]] == ["AAAA", "A"] * 2
    assert model.servers[0].usable


def test_hold_obsolete_delays_a_move() -> None:
    """Measured: Ho 2 s, P .2: 1.85-1.89, and never above 2.0."""
    settings = config(
        resolvers={"timeout_resolve": "200ms", "hold": {"obsolete": "2s"}}, server={"check": False}
    )
    for seed in range(40):
        model, world = stand(settings, move(published_s=0.0, listening_s=0.0), seed)
        assert 1.8 <= recovered_s(model, world) <= 2.03


@pytest.mark.parametrize(
    ("version", "early"), [("2.2.9", False), ("2.6.6", False), ("2.6.7", True)]
)
def test_a_failed_check_asks_again_from_2_6_7_on(version: str, early: bool) -> None:
    """Measured with T_res 20 s, hold valid 1 s, inter 500 ms: at 0.47-0.50 s, or not at all."""
    settings = config(
        resolvers={"timeout_resolve": "20s", "hold": {"valid": "1s"}},
        server={"inter": "500ms", "fall": 10},
    )
    for seed in range(20):
        model, world = stand(settings, move(published_s=0.0, listening_s=0.0), seed, version, 35.0)
        poll_age_s = 0.0
        model.advance(world.t0_ns)
        poll_age_s = -world.queries[-1][0]
        if not 2.0 < poll_age_s < 19.0:
            continue
        assert (recovered_s(model, world) < 0.52) == early


def test_after_an_error_a_failed_check_asks_at_once_whatever_hold_valid_says() -> None:
    settings = config(
        resolvers={
            "timeout_resolve": "20s",
            "resolve_retries": 1,
            "hold": {"valid": "60s", "nx": "60s"},
        },
        server={"inter": "200ms", "fall": 9},
    )
    world = MoveWorld(move(published_s=100.0, listening_s=100.0, missing_s=0.0), t0_ns=S)
    model = ProxyModel(
        settings, "3.0.11", world, Random(1), start_ns=0, poll_at_ns=1500 * MS, check_at_ns=100 * MS
    )
    model.settle(0, [OLD])
    model.advance(3 * S)
    asked = [at_s for at_s, qtype in world.queries if qtype == "A" and at_s > 0]
    assert asked[0] == pytest.approx(0.5, abs=0.01)  # the poll, which finds no name
    assert [later - asked[0] for later in asked[1:4]] == pytest.approx([0.0, 0.2, 0.4], abs=0.02)


def test_an_answer_may_come_late_as_long_as_its_resolution_goes_on() -> None:
    """Three rounds of 300 ms: 700 ms are taken, 1 s are not."""
    settings = config(
        resolvers={"timeout_retry": "300ms", "resolve_retries": 3}, server={"check": False}
    )
    for took_ms, ip in ((700, NEW), (1000, None)):
        world = MoveWorld(move(published_s=0.0), t0_ns=0, rtt_ns=took_ms * MS)
        model = ProxyModel(settings, "3.0.11", world, Random(1), start_ns=0)
        model.advance(2 * S)
        assert model.servers[0].ip == ip


def test_leaving_maintenance_is_up_at_once_and_one_failure_from_down() -> None:
    settings = config(
        resolvers={"timeout_resolve": "300ms", "resolve_retries": 1, "hold": {"nx": "0s"}},
        server={"inter": "500ms"},
    )
    late = move(missing_s=0.0, published_s=2.0, listening_s=60.0)
    model, world = stand(settings, late)
    model.advance(world.t0_ns + 10 * S)
    assert world.whats()[-5:] == ["maint", "address_changed", "up", "ready", "down"]
    at = {what: at_s for at_s, what, _ in world.log}
    assert at["down"] - at["up"] <= 0.502


@pytest.mark.parametrize(
    ("state", "version", "lower_s", "upper_s"),
    [
        (None, "3.2.26", 0.0, 0.303),
        ("fully-down", "3.0.11", 0.0, 0.303),  # no such setting yet
        ("down", "3.2.26", 0.0, 0.303 + 0.502),
        ("fully-down", "3.2.26", 0.5, 0.303 + 2 * 0.502),
    ],
)
def test_init_state_decides_how_maintenance_ends(
    state: str | None, version: str, lower_s: float, upper_s: float
) -> None:
    settings = config(
        resolvers={"timeout_resolve": "300ms", "resolve_retries": 1, "hold": {"nx": "0s"}},
        server={"inter": "500ms", "init_state": state},
    )
    for seed in range(20):
        model, world = stand(
            settings, move(missing_s=0.0, published_s=2.0, listening_s=1.0), seed, version
        )
        assert 2.0 + lower_s <= recovered_s(model, world) <= 2.0 + upper_s


def test_an_old_release_keeps_the_address_in_maintenance() -> None:
    gap = move(missing_s=0.0, published_s=100.0)
    settings = config(resolvers={"hold": {"nx": "0s"}, "resolve_retries": 1})
    for version, ip in (("2.2.9", OLD), ("2.6.12", None)):
        model, world = stand(settings, gap, version=version)
        model.advance(world.t0_ns + 10 * S)
        assert model.servers[0].maintenance
        assert model.servers[0].ip == ip
