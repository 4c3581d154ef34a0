"""Requests that depend on each other: `balance`, `maxconn`, `observe` and `slowstart`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from shapes import S, backend, resolver, server

from chaosd.plugins.simulation import Reply
from chaosd.plugins.timeline import Meets, RecordType
from chaosd.proxies.haproxy.model import choosing
from chaosd.proxies.haproxy.model.algorithm import BackendModel, Layout
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Balance,
    CheckKind,
    Happening,
    Observe,
    OnError,
    Outlook,
    Scenario,
    ServerLine,
    Unknown,
)
from chaosd.proxies.haproxy.model.crowd import Crowd
from chaosd.proxies.haproxy.model.outlook import MOVE, NODE_LOST, SceneTrials, outlook, run_trials
from chaosd.proxies.haproxy.model.requests import Requests
from chaosd.proxies.haproxy.model.scene import Scene
from chaosd.proxies.haproxy.model.users import PATIENT

VERSION = "3.0.11"
# Of `balance random(1)`, as 3,000 requests to four servers have found them.
RING = {"3.0.11": (0.273, 0.271, 0.232, 0.224), "3.2.26": (0.301, 0.180, 0.241, 0.277)}
GROWS = Scenario(happening=Happening.GROWS, published_s=2.0, listening_s=3.0, healthy_s=4.0)
# Nobody checks it: the new instance refuses at first, and answers badly then.
UNWELL = replace(MOVE, listening_s=4.0, healthy_s=9.0)
OBSERVE = Observe(answers=False, limit=4, on_error=OnError.FAIL_CHECK, fastinter_ns=None)


class World:
    """Addresses that answer, but for those of `bad`."""

    def __init__(self, **bad: Meets) -> None:
        self.bad = bad

    def connect(self, now_ns: int, ip: str) -> Meets:
        return self.bad.get(ip, Meets.LISTENING)

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        pass

    def ask(self, now_ns: int, record: RecordType) -> Reply:
        return Reply(("a",))


def model(found: Backend, world: World, ips: str, version: str = VERSION) -> BackendModel:
    """The backend's servers have these addresses, and no check comes soon."""
    made = BackendModel(
        Layout(found, version),
        world,
        Random(1),
        ask=lambda _resolver, _host: world.ask,
        start_ns=0,
        poll_at_ns=lambda _resolver: 1000 * S,
        check_at_ns=lambda _line, _after_ns: 1000 * S,
    )
    for each, ip in zip(made.servers, ips, strict=True):
        each.settle(ip)
    return made


def three(**values: Any) -> tuple[ServerLine, ...]:
    return tuple(server(name, name, dns=resolver(), **values) for name in "abc")


def asked(
    made: BackendModel, count: int, every_s: float = 0.02
) -> list[tuple[float, int, str | None]]:
    """What becomes of so many requests: when it ended, with which status, and who answered."""
    found: list[tuple[float, int, str | None]] = []
    for number in range(count):
        made.request(
            round(number * every_s * S), lambda at, status, ip: found.append((at / S, status, ip))
        )
    made.advance(round(count * every_s * S) + 90 * S)
    return found


def test_leastconn_spares_a_server_that_holds_a_request() -> None:
    found = backend(*three(), retries=0, balance=Balance.LEAST)
    who = asked(model(found, World(b=Meets.BLACKHOLE), "abc"), 100)
    assert Counter(status for _, status, _ in who) == {0: 99, 503: 1}
    turns = asked(model(replace(found, balance=Balance.TURNS), World(b=Meets.BLACKHOLE), "abc"), 99)
    assert Counter(status for _, status, _ in turns) == {0: 66, 503: 33}


def test_leastconn_takes_idle_servers_one_after_the_other() -> None:
    who = asked(model(backend(*three(), balance=Balance.LEAST), World(), "abc"), 6)
    assert "".join(str(ip) for _, _, ip in who) == "abcabc"


@pytest.mark.parametrize("version", RING)
def test_a_random_server_is_drawn_from_a_ring(version: str) -> None:
    four = (*three(), server("d", "d", dns=resolver()))
    one = backend(*four, balance=Balance.RANDOM, draws=1)
    who = Counter(ip for _, _, ip in asked(model(one, World(), "abcd", version), 4000))
    assert [who[ip] / 4000 for ip in "abcd"] == pytest.approx(RING[version], abs=0.025)


def test_of_two_drawn_servers_the_one_that_holds_fewer_is_taken() -> None:
    found = backend(*three(), retries=0, balance=Balance.RANDOM, draws=2)
    who = asked(model(found, World(b=Meets.BLACKHOLE), "abc"), 500)
    failed = sum(status == 503 for _, status, _ in who)
    assert 500 / 9 * 0.5 < failed < 500 / 9 * 1.8  # both draws have to be of it, while it holds any


def test_a_full_server_lets_others_wait() -> None:
    found = backend(*three(places=1)[:1], retries=0, connect=2, queue_ns=S)
    who = asked(model(found, World(a=Meets.BLACKHOLE), "a"), 3, every_s=0.5)
    # The first ends at 2 s; the second has given up by then; the third gets its place.
    assert [(round(at, 3), status) for at, status, _ in who] == [(1.5, 503), (2, 503), (4, 503)]


def test_others_take_what_a_full_server_cannot() -> None:
    found = backend(*three(places=2), retries=0)
    who = asked(model(found, World(a=Meets.BLACKHOLE), "abc"), 100)
    assert Counter(status for _, status, _ in who) == {0: 98, 503: 2}


def test_who_is_not_let_in_waits_without_end() -> None:
    found = backend(*three()[:1], retries=0, connect=2, places=1)
    who = asked(model(found, World(a=Meets.BLACKHOLE), "a"), 3, every_s=0.1)
    assert [round(at) for at, _, _ in who] == [2, 4, 6]


@pytest.mark.parametrize(
    ("how", "down_after"), [("fail-check", 12), ("sudden-death", 8), ("mark-down", 4)]
)
def test_failed_requests_take_a_server_down(how: str, down_after: int) -> None:
    observed = replace(OBSERVE, on_error=OnError(how))
    made = model(backend(*three(observe=observed)[:1], retries=0), World(a=Meets.REFUSE), "a")
    for number in range(1, down_after + 1):
        assert made.servers[0].usable
        made.request(number, lambda *_: None)
    assert not made.servers[0].usable


def test_a_good_answer_forgives_the_failures_before_it() -> None:
    world = World(a=Meets.REFUSE)
    observed = replace(OBSERVE, on_error=OnError.MARK_DOWN)
    made = model(backend(*three(observe=observed)[:1], retries=0), world, "a")
    for number in range(20):
        world.bad["a"] = Meets.LISTENING if number % 4 == 0 else Meets.REFUSE
        made.request(number, lambda *_: None)
    assert made.servers[0].usable


@pytest.mark.parametrize(("answers", "usable"), [(False, True), (True, False)])
def test_a_bad_answer_counts_only_with_layer7(answers: bool, usable: bool) -> None:
    observed = replace(OBSERVE, answers=answers, on_error=OnError.MARK_DOWN)
    made = model(backend(*three(observe=observed)[:1], retries=0), World(a=Meets.UNWELL), "a")
    for number in range(4):
        made.request(number, lambda *_: None)
    assert made.servers[0].usable is usable


def test_a_slow_start_is_a_small_share_at_first() -> None:
    found = backend(*three(slowstart_ns=10 * S)[:2])
    made = model(found, World(), "ab")
    made.servers[1].enter_maintenance(0, "")
    made.servers[1].move(0, "b")
    who = asked(made, 500)  # ten seconds
    shares = [sum(ip == "b" for _, _, ip in who[at : at + 100]) / 100 for at in (0, 200, 400)]
    assert shares[0] < 0.15 < shares[1] < 0.36 < shares[2] < 0.5


def told(found: Backend, scenario: Any = MOVE) -> Outlook:
    seen = outlook(found, VERSION, scenario, trials=8)
    assert isinstance(seen, Outlook)
    return seen


def test_leastconn_loses_fewer_requests_than_turns_and_finds_the_new_one_later() -> None:
    kept = resolver(obsolete=3)
    servers = tuple(server(name, name, dns=kept, check=CheckKind.NONE) for name in "ab")
    turns = told(backend(*servers, retries=1, connect=2), NODE_LOST)
    least = told(backend(*servers, retries=1, connect=2, balance=Balance.LEAST), NODE_LOST)
    assert least.failed_s.mean < turns.failed_s.mean / 4
    assert least.recovery_s.p95 > turns.recovery_s.p95


def test_observed_requests_take_a_lost_node_out_sooner() -> None:
    plain = told(backend(*three(inter=5)), NODE_LOST)
    seen = told(backend(*three(inter=5, observe=OBSERVE)), NODE_LOST)
    assert seen.failed_s.mean < plain.failed_s.mean * 0.8


@pytest.mark.parametrize("scenario", [MOVE, NODE_LOST])
def test_requests_one_by_one_come_to_the_same_as_by_their_shares(
    monkeypatch: pytest.MonkeyPatch, scenario: Scenario
) -> None:
    """Two descriptions of one backend: nobody is in the way of anybody."""
    dns = resolver(resolve=0.7, retry=0.4, rounds=2, nx=0.5)
    found = backend(
        server("a", "a", dns=dns, inter=0.6), server("b", "b", dns=dns), retries=1, connect=1
    )
    means = []
    for crowded in (False, True):
        monkeypatch.setattr(Backend, "is_crowded", crowded)
        trials = run_trials(found, VERSION, scenario, least=16, most=16)
        assert not isinstance(trials, Unknown)
        numbers = ("recovery_s", "stable_s", "failed_s", "masked_s")
        means.append([sum(getattr(trial, name) for trial in trials) / 16 for name in numbers])
    assert means[0] == pytest.approx(means[1], abs=0.06, rel=0.02)


def mixed(number: int) -> Backend:
    """One of many crowded backends: each balance, with and without what makes requests wait."""
    pick = Random(number).choice
    plain = number % 2 == 0  # what is far from each other is passed by then
    dns = resolver(resolve=pick([0.5, 1]), obsolete=pick([0, 3]), nx=pick([1, 30]))
    values = {
        "dns": dns,
        "inter": pick([1, 2]),
        "observe": pick([None, None, OBSERVE]),
        "places": pick([0, 0, 3, 20]),
        "slowstart_ns": pick([0, 0, 10 * S]),
        "check": pick([CheckKind.CONNECTS, CheckKind.ANSWERS, CheckKind.NONE]),
    }
    weights = [1] if plain else [1, 1, 1, 3]
    if plain:
        values |= {"observe": None, "places": 0, "slowstart_ns": 0}
    lines = [
        server(name, pick([name, "h", name]), weight=pick(weights), **values) for name in "abc"
    ]
    return backend(
        *lines[: pick([1, 2, 3, 3])],
        connect=pick([0.507, 0.991, None]),  # what waits is due between requests
        retries=pick([0, 1, 3]),
        redispatch_every=pick([0, -1, 1]),
        balance=pick([Balance.TURNS, Balance.FIRST] if plain else [*Balance]),
        places=pick([50, 1000]),
        queue_ns=pick([None, S // 2]),
    )


class Later(Scene):
    """The old instance goes on for a while."""

    GOES_NS = 2 * S + S // 3

    def meets(self, now_ns: int, ip: str) -> Meets:
        goes = ip == self.old and now_ns < self.GOES_NS
        return Meets.LISTENING if goes else super().meets(now_ns, ip)

    def place_edges(self) -> list[int]:
        return [*super().place_edges(), self.GOES_NS]


def walked(kind: type[Scene], found: Backend, version: str, scenario: Scenario) -> Any:
    """All that two trials come to, their requests that waited, and the steps that they took."""
    scene = kind(found, scenario, found.servers[0])
    trials = SceneTrials(scene, Layout(found, version), PATIENT)
    ran = [trials.run(number) for number in range(2)]
    waited = [
        sorted(each for each in one.walked.samples if each.done_ns > each.scheduled_ns)
        for one in ran
        if one.walked is not None
    ]
    said = [(one.history, one.queries) for one in ran]
    return said, trials.seen(ran, 90 * S), waited, trials.steps


def test_who_chooses_anew_is_taken_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = resolver(obsolete=3)
    lines = [server(name, name, dns=lost, check=CheckKind.NONE) for name in "abc"]
    found = backend(*lines, connect=0.507, redispatch_every=1, places=150)
    assert found.is_crowded
    together = walked(Scene, found, VERSION, NODE_LOST)
    monkeypatch.setattr(Crowd, "_room", lambda *_: 0)
    assert together == walked(Scene, found, VERSION, NODE_LOST)


@pytest.mark.parametrize("number", range(48))
def test_what_is_taken_together_comes_to_the_same_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    found, version = mixed(number), ("2.6.12", "3.2.26")[number % 3 % 2]
    scenario = (MOVE, NODE_LOST, GROWS, UNWELL)[number // 2 % 4]
    kind = (Scene, Later)[number % 5 % 2]
    monkeypatch.setattr(Backend, "is_crowded", True)
    together = walked(kind, found, version, scenario)
    monkeypatch.setattr(Crowd, "_room", lambda *_: 0)
    assert together == walked(kind, found, version, scenario)


def test_most_requests_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[int] = []
    begin = Requests.begin
    monkeypatch.setattr(
        Requests, "begin", lambda self, at, ended: (alone.append(at), begin(self, at, ended))
    )
    trials = run_trials(backend(*three(), places=1000), VERSION, MOVE, least=2, most=2)
    assert not isinstance(trials, Unknown)
    assert len(alone) < 2 * 50 * 3 < 2 * 50 * trials[0].horizon_s / 4


def test_the_rings_that_are_remembered_stay_small() -> None:
    """256 servers of weight 100, whose shares change with `slowstart`: it was 20 MB each."""
    keys, owners = choosing._ring(((1, 16), (2, 16)), hashed=True)
    of_a_node = keys.itemsize + owners.itemsize
    most = choosing._ring.cache_parameters()["maxsize"]
    assert 256 * 100 * choosing.NODES * of_a_node * most < 64 * 2**20
