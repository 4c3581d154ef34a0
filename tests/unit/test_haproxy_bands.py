"""The closed forms against the model: no simulated recovery leaves its predicted band."""

from __future__ import annotations

from random import Random
from statistics import fmean
from typing import Any

import budget
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving import NEW, OLD, MoveWorld, S, config, move, recovered_s, stand

from chaosd.history.events import Prediction
from chaosd.plugins.simulation import Reply
from chaosd.plugins.timeline import Failure, Meets, RecordType, Timeline, Unreached
from chaosd.proxies.haproxy.model import closed_forms
from chaosd.proxies.haproxy.model.algorithm import ProxyModel
from chaosd.proxies.haproxy.model.settings import Settings

# --- the closed forms -----------------------------------------------------------------------------


def check_band(settings: Settings, move: Timeline, seed: Any, version: str = "3.0.11") -> bool:
    band = closed_forms.recovery(settings, version, move)
    if not isinstance(band, Prediction):
        return False
    assert band.lower_s <= band.mean_s <= band.upper_s
    model, world = stand(settings, move, seed, version)
    found = recovered_s(model, world)
    assert band.lower_s - 1e-6 <= found <= band.upper_s + 1e-6, f"{found} not in {band}"
    return True


def milliseconds(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(lambda value: f"{value}ms")


SERVERS = st.fixed_dictionaries(
    {
        "check": st.sampled_from([True, True, True, False]),
        "inter": milliseconds(100, 3000),
        "fall": st.integers(1, 4),
        "rise": st.integers(1, 3),
        "resolve_prefer": st.sampled_from(["ipv4", "ipv6"]),
    },
    optional={
        "fastinter": milliseconds(50, 2000),
        "downinter": milliseconds(50, 2000),
        "init_state": st.sampled_from(["fully-up", "up", "down", "fully-down"]),
    },
)
RESOLVERS = st.fixed_dictionaries(
    {
        "timeout_resolve": milliseconds(100, 3000),
        "timeout_retry": milliseconds(50, 2000),
        "resolve_retries": st.integers(1, 4),
        "hold": st.fixed_dictionaries(
            {
                "valid": milliseconds(0, 4000),
                "obsolete": st.one_of(st.just("0s"), milliseconds(1, 6000)),
                **dict.fromkeys(("nx", "refused", "timeout", "other"), milliseconds(0, 8000)),
            }
        ),
    }
)
CONFIGS = st.builds(
    lambda server, resolvers, timeouts, http_check: config(
        server=server, resolvers=resolvers, timeouts=timeouts, http_check=http_check
    ),
    SERVERS,
    RESOLVERS,
    st.fixed_dictionaries(
        {
            "connect": milliseconds(100, 2000),
            "check": st.one_of(st.none(), milliseconds(100, 2000)),
        }
    ),
    st.sampled_from([None, "/healthz"]),
)
MOVES = st.builds(
    lambda missing_ms, gap_ms, listening_ms, **rest: move(
        missing_s=None if missing_ms is None else missing_ms / 1000,
        # The new IP may be published before T0, while the old instance still serves.
        published_s=(gap_ms - 2000 if missing_ms is None else missing_ms + gap_ms) / 1000,
        listening_s=listening_ms / 1000,
        **rest,
    ),
    missing_ms=st.one_of(st.none(), st.integers(0, 500)),
    gap_ms=st.integers(0, 12000),
    listening_ms=st.integers(0, 12000),
    old_ip=st.sampled_from(["refuse", "imposter", "blackhole", "tarpit"]),
    missing=st.sampled_from(["nxdomain", "servfail", "refused", "empty", "drop", "stale"]),
    took_s=st.sampled_from([0.0, 0.0, 0.03]),
)
VERSIONS = st.sampled_from(["2.2.9", "2.4.20", "2.6.12", "3.0.11", "3.2.26"])


@settings(max_examples=budget.of(20, 400), derandomize=True, deadline=None)
@given(CONFIGS, MOVES, VERSIONS, st.integers(0, 10**6))
def test_every_simulated_recovery_lies_in_the_predicted_band(
    config: Settings, move: Timeline, version: str, seed: int
) -> None:
    check_band(config, move, seed, version)


FAST_CHECKS = {"inter": "500ms", "fall": 2}
GAP = {"missing_s": 0.0}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "imposter": ({}, {"old_ip": "imposter"}),
    "obsolete": ({"resolvers": {"hold": {"obsolete": "2500ms"}}}, {"old_ip": "imposter"}),
    "down": ({"server": FAST_CHECKS}, {"published_s": 2.0, "listening_s": 0.0}),
    "maybe down": ({"server": FAST_CHECKS, "resolvers": {"timeout_resolve": "3s"}}, {}),
    "black hole": (
        {"server": {"inter": "1s", "fall": 2}},
        {"published_s": 2.0, "old_ip": "blackhole"},
    ),
    "late app": ({"server": {"inter": "500ms"}}, {"listening_s": 3.0}),
    "gap": (
        {"resolvers": {"timeout_retry": "300ms"}},
        GAP | {"published_s": 2.0, "old_ip": "imposter"},
    ),
    "silent gap": (
        {"resolvers": {"timeout_retry": "300ms"}},
        GAP | {"published_s": 3.0, "missing": "drop", "old_ip": "imposter"},
    ),
    "maintenance": (
        {"resolvers": {"timeout_retry": "300ms", "hold": {"nx": "1s"}}},
        GAP | {"published_s": 4.0},
    ),
    "maintenance, late app": (
        {"resolvers": {"timeout_retry": "300ms", "hold": {"nx": "1s"}}},
        GAP | {"published_s": 4.0, "listening_s": 6.5},
    ),
    "fully-down": (
        {"resolvers": {"hold": {"nx": "0s"}}, "server": {"init_state": "fully-down"}},
        GAP | {"published_s": 5.0},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_predicted_mean_is_the_mean(case: str) -> None:
    settings, happens = config(**CASES[case][0]), move(**CASES[case][1])
    band = closed_forms.recovery(settings, "3.2.26", happens)
    assert isinstance(band, Prediction)
    found = [
        recovered_s(*stand(settings, happens, f"{case} {seed}", "3.2.26")) for seed in range(300)
    ]
    # Three standard errors of an even spread are 5 % of its width.
    assert fmean(found) == pytest.approx(band.mean_s, abs=0.06 * (band.upper_s - band.lower_s))


@pytest.mark.parametrize("case", ["plain", "imposter", "obsolete", "down"])
def test_the_predicted_band_is_filled(case: str) -> None:
    settings, happens = config(**CASES[case][0]), move(**CASES[case][1])
    band = closed_forms.recovery(settings, "3.0.11", happens)
    assert isinstance(band, Prediction)
    found = [recovered_s(*stand(settings, happens, seed)) for seed in range(300)]
    edge = 0.08 * (band.upper_s - band.lower_s)
    assert min(found) < band.lower_s + edge
    assert max(found) > band.upper_s - edge


@pytest.mark.parametrize(
    ("settings", "happens", "lower_s", "upper_s"),
    [
        # Intervals that the reference gives, and measurements lay in.
        ({}, {}, 0.2, 1.2),
        ({"server": FAST_CHECKS}, {"published_s": 2.0, "listening_s": 0.0}, 2.5, 4.0),
        ({"resolvers": {"hold": {"obsolete": "3s"}}}, {"old_ip": "imposter"}, 2.2, 3.2),
        (
            {"resolvers": {"hold": {"obsolete": "2s"}, "timeout_resolve": "200ms"}},
            {"published_s": 0.0, "listening_s": 0.0, "old_ip": "imposter"},
            *(1.8, 2.0),
        ),
        ({}, {"listening_s": 1.5, "old_ip": "imposter"}, 1.5, 1.5),
        (
            {"resolvers": {"timeout_retry": "300ms"}},
            GAP | {"published_s": 2.0, "old_ip": "imposter"},
            *(2.0, 3.0),
        ),
        (
            {"resolvers": {"timeout_retry": "300ms"}},
            GAP | {"published_s": 3.0, "missing": "drop", "old_ip": "imposter"},
            *(3.0, 4.3),
        ),
        ({"server": {"check": False}}, {"old_ip": "blackhole"}, 0.2, 1.2),
    ],
)
def test_intervals_are_those_of_the_reference(
    settings: dict[str, Any], happens: dict[str, Any], lower_s: float, upper_s: float
) -> None:
    band = closed_forms.recovery(config(**settings), "3.0.11", move(**happens))
    assert isinstance(band, Prediction)
    assert band.lower_s == pytest.approx(lower_s, abs=0.001)
    assert band.upper_s == pytest.approx(upper_s, abs=0.025)


def test_a_vacant_ip_may_refuse_or_be_a_black_hole() -> None:
    settings = config(server={"inter": "1s", "fall": 2})
    late = {"published_s": 4.0, "listening_s": 4.0}
    vacant, refuse, hole = (
        closed_forms.recovery(settings, None, move(old_ip=old_ip, **late))
        for old_ip in ("vacant", "refuse", "blackhole")
    )
    assert isinstance(vacant, Prediction)
    assert isinstance(refuse, Prediction)
    assert isinstance(hole, Prediction)
    assert vacant.upper_s == max(refuse.upper_s, hole.upper_s)
    assert vacant.lower_s == min(refuse.lower_s, hole.lower_s)


@pytest.mark.parametrize(
    ("why", "settings", "version", "happens"),
    [
        (Unreached.NO_NEW_ADDRESS, {}, "3.0.11", {"published_s": None}),
        (Unreached.NOT_LISTENING, {}, "3.0.11", {"listening_s": None}),
        (Unreached.SLOW_NAMESERVER, {}, "3.0.11", {"took_s": 1.5}),
        (Unreached.OLD_VERSION, {}, "2.0.33", {}),
        (Unreached.UNKNOWN_WORDS, {"server": {"extra": "slowstart 10s"}}, "3.0.11", {}),
        (
            Unreached.OBSOLETE_IN_MAINTENANCE,
            {"resolvers": {"hold": {"obsolete": "12s", "nx": "0s"}}},
            "2.2.9",
            GAP | {"published_s": 9.0},
        ),
    ],
)
def test_where_the_model_does_not_reach_it_says_why(
    why: Unreached, settings: dict[str, Any], version: str, happens: dict[str, Any]
) -> None:
    assert closed_forms.recovery(config(**settings), version, move(**happens)) == why


@settings(max_examples=budget.of(20, 400), derandomize=True, deadline=None)
@given(
    *(CONFIGS, VERSIONS, st.sampled_from(["refuse", "imposter", "blackhole", "tarpit"])),
    *(st.integers(0, 6000), st.integers(0, 6000), st.integers(0, 10**6)),
)
def test_among_others_the_band_holds_too(
    config: Settings, version: str, old_ip: str, gap_ms: int, start_ms: int, seed: int
) -> None:
    """One of three moves; the name goes on answering with the other two."""
    happens = move(
        published_s=gap_ms / 1000, listening_s=start_ms / 1000, others=True, old_ip=old_ip
    )
    band = closed_forms.recovery(config, version, happens)
    if not isinstance(band, Prediction):
        return
    world = MoveWorld(happens, 20 * S)

    def resolve(now_ns: int, record: RecordType) -> Reply:
        at_s = world.s(now_ns)
        mine = (OLD,) if at_s < 0 else (NEW,) if at_s >= gap_ms / 1000 else ()
        return Reply((*mine, "b", "c") if record == "A" else Failure.EMPTY, 200_000)

    world.resolve = resolve  # type: ignore[method-assign]
    plain = world.connect
    world.connect = (  # type: ignore[method-assign]
        lambda now_ns, ip: Meets.LISTENING if ip in ("b", "c") else plain(now_ns, ip)
    )
    rng = Random(seed)
    model = ProxyModel(
        *(config, version, world, rng),
        start_ns=0,
        servers=3,
        poll_at_ns=rng.randrange(S),
        check_at_ns=rng.randrange(S),
    )
    found = recovered_s(model, world)
    assert band.lower_s - 1e-6 <= found <= band.upper_s + 1e-6, f"{found} not in {band}"


def test_old_versions_count_the_age_of_records_in_whole_seconds() -> None:
    """Finding 1: 2.2.9 keeps an address until its clock's second has changed, whatever the period.

    With a poll each 200 ms and no hold, that is up to a second, evenly; newer ones take a poll.
    """
    settings = config(resolvers={"timeout_resolve": "200ms"}, server={"check": False})
    here = move(published_s=0.0, listening_s=0.0)
    found = {
        version: [recovered_s(*stand(settings, here, seed, version)) for seed in range(60)]
        for version in ("2.2.9", "2.6.12")
    }
    assert max(found["2.6.12"]) < 0.21
    assert max(found["2.2.9"]) > 0.8
    assert min(found["2.2.9"]) < 0.3
    assert 0.4 < sum(found["2.2.9"]) / 60 < 0.75
    for version, recoveries in found.items():
        band = closed_forms.recovery(settings, version, here)
        assert band.lower_s - 1e-6 <= min(recoveries)
        assert max(recoveries) <= band.upper_s + 1e-6
