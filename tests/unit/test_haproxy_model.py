"""The model of one HAProxy server against what was measured, and against the closed forms."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from statistics import fmean
from typing import Any

import budget
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosd.history.events import Prediction
from chaosd.plugins import timeline
from chaosd.plugins.simulation import Reply
from chaosd.plugins.timeline import Failure, Meets, RecordType, Timeline, Unreached
from chaosd.proxies.haproxy.config import Config, settings_of
from chaosd.proxies.haproxy.model import closed_forms
from chaosd.proxies.haproxy.model.algorithm import ProxyModel
from chaosd.proxies.haproxy.model.settings import Settings

S = 1_000_000_000
MS = 1_000_000
OLD, NEW = timeline.OLD, timeline.NEW


def config(**values: Any) -> Settings:
    return settings_of(Config.model_validate({"type": "haproxy"} | values))


def move(**values: Any) -> Timeline:
    plain: dict[str, Any] = {
        "published_s": 0.2,
        "listening_s": 0.2,
        "missing_s": None,
        "missing": "nxdomain",
        "old_ip": "refuse",
    }
    return timeline.move(**(plain | values))


class MoveWorld:
    """A world in which one move happens, T0 at `t0_ns`."""

    def __init__(self, move: Timeline, t0_ns: int, rtt_ns: int = 200_000) -> None:
        self.move, self.t0_ns = move, t0_ns
        self.rtt_ns = rtt_ns + round(move.names[0].took_s * S)
        self.queries: list[tuple[float, str]] = []
        self.log: list[tuple[float, str, dict[str, Any]]] = []

    def s(self, now_ns: int) -> float:
        return (now_ns - self.t0_ns) / S

    def resolve(self, now_ns: int, record: RecordType) -> Reply:
        self.queries.append((self.s(now_ns), record))
        return Reply(self.move.answer(self.s(now_ns), record), self.rtt_ns)

    def connect(self, now_ns: int, ip: str) -> Meets:
        return self.move.meets(self.s(now_ns), ip)

    @property
    def listening_s(self) -> float:
        return next(p.at_s for p in self.move.places_of(NEW) if p.meets == Meets.LISTENING)

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        self.log.append((self.s(at_ns), what, data))

    def whats(self) -> list[str]:
        return [what for at_s, what, _ in self.log if at_s >= 0]


def stand(
    settings: Settings,
    move: Timeline,
    seed: Any = 1,
    version: str = "3.0.11",
    t0_s: float | None = None,
) -> tuple[ProxyModel, MoveWorld]:
    """A model in steady state with even, independent phases of its polls and checks."""
    rng = Random(f"phases {seed}")
    inter, resolve = settings.inter_ns, settings.timeout_resolve_ns
    rise_ns = settings.rise * max(inter, settings.fastinter_ns)
    warm_ns = 3 * max(inter, resolve) + rise_ns
    t0_ns = warm_ns + 2010 * MS if t0_s is None else round(t0_s * S)
    world = MoveWorld(move, t0_ns)
    return (
        ProxyModel(
            settings,
            version,
            world,
            rng,
            start_ns=0,
            poll_at_ns=rng.randrange(resolve),
            check_at_ns=rng.randrange(inter),
        ),
        world,
    )


def recovered_s(model: ProxyModel, world: MoveWorld, limit_s: float = 300) -> float:
    """When a fresh request is first answered by the new instance, in seconds after T0."""
    looks = [world.t0_ns, world.t0_ns + max(0, round(world.listening_s * S))]
    while True:
        at_ns = min([model.next_ns(), *looks])
        looks = [look for look in looks if look > at_ns]
        model.advance(at_ns)
        arrived = any(server.usable and server.ip == NEW for server in model.servers)
        if at_ns >= world.t0_ns and arrived and world.connect(at_ns, NEW) == Meets.LISTENING:
            return world.s(at_ns)
        assert world.s(at_ns) < limit_s, "never recovered"


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


# --- requests -------------------------------------------------------------------------------------


def begun_at(settings: Settings, move: Timeline, start_s: float) -> tuple[float, int, str | None]:
    """How long a request lasts that begins then, its status if it is the proxy's, who answered."""
    world = MoveWorld(move, t0_ns=10 * S)
    model = ProxyModel(
        settings, "3.0.11", world, Random(1), start_ns=0, poll_at_ns=7 * MS, check_at_ns=9 * MS
    )
    at_ns = world.t0_ns + round(start_s * S)
    ended: list[tuple[int, int, str | None]] = []
    model.request(at_ns, lambda *end: ended.append(end))
    while not ended:
        model.advance(model.next_ns())
    end_ns, status, ip = ended[0]
    return (end_ns - at_ns) / S, status, ip


@pytest.mark.parametrize(
    ("redispatch", "took_s", "status", "ip"),
    [
        (False, 5.0, 503, None),  # every retry goes to the old IP
        (True, 5.0, 0, NEW),  # the last retry looks the address up again
        (1, 1.0, 0, NEW),  # the next retry does
        (2, 2.0, 0, NEW),
    ],
)
def test_retries_keep_the_old_address(
    redispatch: bool | int, took_s: float, status: int, ip: str | None
) -> None:
    """Measured on four builds: retries 5, a request begun before the switch."""
    settings = config(
        retries=5, redispatch=redispatch, server={"inter": "20s"}, timeouts={"connect": "1s"}
    )
    result = begun_at(settings, move(published_s=0.0, listening_s=0.0), 0.01)
    assert result[0] == pytest.approx(took_s, abs=0.01)
    assert result[1:] == (status, ip)


@pytest.mark.parametrize(
    ("old_ip", "took_s", "status"),
    [("refuse", 1.5, 503), ("blackhole", 2.0, 503), ("tarpit", 4.0, 504), ("imposter", 0.0, 0)],
)
def test_how_a_request_to_the_old_address_ends(old_ip: str, took_s: float, status: int) -> None:
    """N·δ where refused, (N + 1)·Tc where nothing comes back."""
    settings = config(
        retries=3, server={"inter": "20s"}, timeouts={"connect": "500ms", "server": "4s"}
    )
    result = begun_at(settings, move(published_s=100.0, old_ip=old_ip), 0.3)
    assert result[0] == pytest.approx(took_s, abs=0.001)
    assert result[1] == status


def test_a_server_that_is_down_answers_503_at_once_and_redispatch_finds_nothing() -> None:
    away = move(published_s=100.0, listening_s=100.0)
    down = config(server={"inter": "200ms", "fall": 1}, redispatch=1)
    assert begun_at(down, away, 0.5) == (0.0, 503, None)
    took_s, status, _ = begun_at(down, away, 0.001)
    assert status == 503
    assert took_s == pytest.approx(1.0, abs=0.01)


def test_a_request_whose_server_is_lost_is_redispatched_before_its_last_retry() -> None:
    away = move(published_s=100.0, listening_s=100.0)
    for redispatch, took_s in ((True, 2.0), (False, 3.0)):
        down = config(server={"inter": "200ms", "fall": 1}, retries=3, redispatch=redispatch)
        found_s, status, _ = begun_at(down, away, 0.001)
        assert (found_s, status) == (pytest.approx(took_s, abs=0.01), 503)


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


@settings(max_examples=budget.of(50, 400), derandomize=True, deadline=None)
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


# --- several servers ------------------------------------------------------------------------------


class NameWorld:
    """A name whose addresses a test sets, all of them serving."""

    def __init__(self, *ips: str) -> None:
        self.ips = ips
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.dead: set[str] = set()

    def resolve(self, now_ns: int, record: RecordType) -> Reply:
        return Reply(self.ips if record == "A" and self.ips else Failure.EMPTY, 200_000)

    def connect(self, now_ns: int, ip: str) -> Meets:
        return Meets.REFUSE if ip in self.dead else Meets.LISTENING

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        self.log.append((what, data))


def several(world: NameWorld, **values: Any) -> ProxyModel:
    model = ProxyModel(config(**values), "3.0.11", world, Random(1), start_ns=0, servers=3)
    model.advance(3 * S)
    return model


def test_servers_of_a_template_take_an_address_each_and_surplus_ones_none() -> None:
    model = several(NameWorld("a", "b"))
    assert [server.ip for server in model.servers] == ["a", "b", None]
    assert [server.usable for server in model.servers] == [True, True, False]
    assert [server.name for server in model.servers] == ["app/app1", "app/app2", "app/app3"]


def test_a_server_whose_address_is_gone_takes_the_new_one_and_the_others_keep_theirs() -> None:
    world = NameWorld("a", "b", "c")
    model = several(world)
    world.ips, world.log = ("c", "b"), []  # another order changes nothing
    model.advance(5 * S)
    assert world.log == [("maint", {"server": "app/app1", "reason": "No IP for server"})]
    world.ips, world.log = ("d", "c", "b"), []
    model.advance(7 * S)
    assert [server.ip for server in model.servers] == ["d", "b", "c"]
    assert [what for what, _ in world.log] == ["address_changed", "up", "ready"]


def test_redispatch_goes_to_another_server_at_once() -> None:
    world = NameWorld("a", "b", "c")
    model = several(world, redispatch=True, server={"inter": "60s"})
    world.dead = {"a"}
    took = []
    for _ in range(9):
        at_ns = model.next_ns() - 1
        model.request(at_ns, lambda end_ns, status, ip, at=at_ns: took.append((end_ns - at, ip)))
        model.advance(at_ns + 1000)
    assert {ip for _, ip in took} == {"b", "c"}
    assert len(took) == 9
    assert max(took_ns for took_ns, _ in took) == 0


@pytest.mark.parametrize(("version", "left"), [("2.4.20", "a"), ("2.6.12", None)])
def test_maintenance_forgets_what_the_answers_held(version: str, left: str | None) -> None:
    """Before 2.5 an address that is gone for good is given to a server that has none."""
    world = NameWorld("a", "b")
    settings = config(resolvers={"hold": {"obsolete": "60s", "other": "0s"}})
    model = ProxyModel(settings, version, world, Random(1), start_ns=0, servers=2)
    model.advance(3 * S)
    world.ips = ()
    model.advance(9 * S)
    assert [server.ip for server in model.servers] == [None, None]
    world.ips = ("c",)
    model.advance(11 * S)
    assert {server.ip for server in model.servers} == {"c", left}


@settings(max_examples=budget.of(50, 400), derandomize=True, deadline=None)
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
