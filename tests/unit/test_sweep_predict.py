"""What the model says of arms: quickly, the same as when each is asked alone, and the front."""

from __future__ import annotations

import json
from random import Random

import budget
import pytest
from test_sweep_design import RESOLVE, RETRY, loaded

from chaosd.dns.presets import PRESETS
from chaosd.faults.dns import Dns
from chaosd.plugins.dns_trouble import disturbed
from chaosd.plugins.fault import Circumstances
from chaosd.plugins.timeline import Clients, Failure, Foretold, Timeline, Unreached, move
from chaosd.proxies.haproxy import HAProxy, config, foretold
from chaosd.proxies.haproxy.model import outlook as model
from chaosd.proxies.haproxy.model.algorithm import backend_of
from chaosd.proxies.haproxy.model.backend import Happening, Scenario
from chaosd.sweep import arms, foresight, predict
from chaosd.sweep.predict import Predictions
from chaosd.sweep.values import Objective

CLIENTS = Clients(patience_s=2.0, slow_after_s=0.25)
MINE = (Objective.RECOVERY_P95, Objective.DNS_QUERIES)


@pytest.fixture(autouse=True)
def few_trials(monkeypatch) -> None:
    monkeypatch.setattr(model, "STEPS_MAX", budget.of(300, 2_500))


def proxy_of(**keys) -> HAProxy:
    text = json.dumps({"type": "haproxy", **keys})
    return HAProxy(config.Config.model_validate_json(text))


def trouble(nameservers: int = 1, **said) -> Timeline | Unreached:
    """What a DNS fault does, as it says itself."""
    fault = Dns(Dns.Config.model_validate_json(json.dumps({"every": "9s", **said})))
    known = {"app_start_s": 0.1, "missing": "nxdomain", "others": 0, "answer_s": 0.0}
    known |= {"stop_s": 0.0, "publish_s": 0.0, "reach_s": None, "nameservers": nameservers}
    return fault.foretell(Circumstances(**known))


def any_proxy(rng: Random) -> HAProxy:
    resolve, retry, other = (f"{rng.choice((200, 700, 2000))}ms" for _ in range(3))
    return proxy_of(
        resolvers={
            "timeout_resolve": resolve,
            "timeout_retry": retry,
            "hold": {"other": other, "timeout": other, "nx": other},
        },
        server={"inter": rng.choice(("500ms", "2s")), "check": rng.random() < 0.8},
        redispatch=rng.choice((False, True, 1)),
        retries=rng.choice((0, 3)),
    )


# --- what is looked at once ---


@pytest.mark.sized
def test_what_is_taken_as_alike_is_foretold_alike() -> None:
    """Settings and versions that are left out of the look change nothing in what is found."""
    rng = Random("alike")
    taken_away = 0
    for _ in range(budget.of(12, 200)):
        proxy = any_proxy(rng)
        version = rng.choice(("2.6.12", "2.8.25", "3.0.11", "3.4.1"))
        said = rng.choice(("servfail", "drop", "nxdomain"))
        answer = Failure(said)
        found = proxy.foretell(trouble(answer=said, window="3s"), CLIENTS, version=version)
        assert isinstance(found, Foretold)
        backend = backend_of(config.settings_of(proxy.config), servers=1)
        scenario = Scenario(happening=Happening.DNS_TROUBLE, published_s=3.0, missing=answer)
        alone = model.outlook(backend, version, scenario, clients=CLIENTS)
        assert found.failed_s == alone.failed_s.mean
        assert found.recovery_p95_s == alone.recovery_s.p95
        assert found.trouble_queries_per_s == alone.queries_in_trouble_per_s
        taken_away += found.failed_s > 0
    assert taken_away


@pytest.mark.parametrize(
    ("version", "like"),
    [("2.6.12", "2.6.7"), ("3.4.1", "2.6.7"), (None, "2.6.7"), ("2.6.1", "2.6.1")],
)
def test_versions_are_alike_if_the_model_knows_no_difference(version, like) -> None:
    plain = backend_of(config.settings_of(proxy_of().config), servers=1)
    assert foretold._oldest_alike(plain, version) == like


def test_a_state_on_leaving_maintenance_counts_where_it_is_known() -> None:
    stated = proxy_of(server={"init_state": "down"})
    backend = backend_of(config.settings_of(stated.config), servers=1)
    assert foretold._oldest_alike(backend, "3.4.1") == "3.1"
    assert foretold._oldest_alike(backend, "3.0.11") == "2.6.7"


# --- what a fault is to the model ---


def moved(old_ip: str):
    return move(published_s=0.3, listening_s=0.3, missing_s=0.0, missing="nxdomain", old_ip=old_ip)


def test_what_is_at_the_old_address_decides_what_users_see() -> None:
    proxy = proxy_of(server={"check": False})
    seen = {ip: proxy.foretell(moved(ip), CLIENTS, version=None) for ip in ("refuse", "imposter")}
    assert seen["refuse"].failed_s > 0.3
    assert seen["refuse"].misrouted_s == 0
    assert seen["imposter"].misrouted_s > 0.3
    assert seen["imposter"].failed_s < seen["refuse"].failed_s
    assert proxy.foretell(moved("tarpit"), CLIENTS, version=None) is Unreached.OTHER_TIMELINE


def test_a_move_with_dns_trouble_beside_it_is_over_when_both_are() -> None:
    rules = PRESETS["servfail"].rules
    alone = moved("refuse")
    both = disturbed(alone, rules, begins_s=-0.5, ends_s=4.0)
    for proxy in (proxy_of(), proxy_of(spare_slots=0, resolvers={"timeout_resolve": "500ms"})):
        quick, slow = (proxy.foretell(each, CLIENTS, version="3.0.11") for each in (alone, both))
        assert isinstance(slow, Foretold)
        assert quick.recovery_p95_s < 2
        assert 3.9 < slow.recovery_p50_s < slow.recovery_p95_s < 9.5
        assert slow.failed_s > quick.failed_s + 2
        assert slow.rest_queries_per_s == quick.rest_queries_per_s
        assert slow.trouble_queries_per_s > slow.rest_queries_per_s  # it asks again in between
    by_chance = disturbed(alone, PRESETS["jitter"].rules, begins_s=-0.5, ends_s=4.0)
    found = proxy_of().foretell(by_chance, CLIENTS, version="3.0.11")
    assert found is Unreached.OTHER_ANSWERS


@pytest.mark.parametrize(
    ("said", "is_"),
    [
        ({"answer": "servfail"}, (Failure.SERVFAIL, None)),
        ({"answer": "servfail", "nameservers": 2}, (Failure.SERVFAIL, None)),
        ({"answer": "drop", "qtype": "AAAA"}, (Failure.SILENCE, "AAAA")),
        ({"preset": "refused"}, (Failure.REFUSED, None)),
        ({"preset": "empty"}, (Failure.EMPTY, None)),
        ({"preset": "servfail-aaaa"}, (Failure.SERVFAIL, "AAAA")),
        ({"preset": "formerr"}, (Failure.ERROR, None)),
        ({"delay": "300ms"}, None),
        ({"answer": "servfail", "delay": "300ms"}, None),
        ({"answer": "servfail", "nameserver": 1, "nameservers": 2}, None),
        ({"preset": "flap"}, None),
    ],
)
def test_dns_faults_that_the_model_knows(said, is_) -> None:
    happening = trouble(**said)
    found = happening
    if isinstance(happening, Timeline):
        backend = backend_of(config.settings_of(proxy_of().config), servers=1)
        found = foretold._scenario(backend, happening, 0)
    if is_ is None:
        assert found is Unreached.OTHER_ANSWERS
        return
    assert (found.happening, found.published_s) == (Happening.DNS_TROUBLE, 5.0)
    assert (found.missing, found.family) == is_


# --- many arms ---


def predicted(tmp_path, vary, **keys):
    found = loaded(tmp_path, vary=vary, **keys)
    maker = arms.Maker(found, arms.Base(found), arms.Programs(found, needed=False))
    wanted = arms.combinations(found, maker.base, 1)
    return found, *predict.predict(maker, wanted, "sim", lambda _done, _wanted: None)


@pytest.mark.slow
def test_processes_say_what_one_would_say(tmp_path, monkeypatch) -> None:
    vary = {RESOLVE: {"log": ["200ms", "2s"], "n": 4}, "proxy.redispatch": [False, 1]}
    _, alone, one = predicted(tmp_path, vary)
    monkeypatch.setattr(predict, "ALONE_MAX", 2)
    monkeypatch.setattr(predict, "CHUNK", 3)
    monkeypatch.setattr(model, "STEPS_MAX", 2_500)  # as the processes have it
    _, many, several = predicted(tmp_path, vary)
    assert [arm.sweep for arm in many] == [arm.sweep for arm in alone]
    assert several.foretold.keys() == one.foretold.keys()
    rest = [{k: f.rest_queries_per_s for k, f in each.foretold.items()} for each in (one, several)]
    assert rest[0] == rest[1]


def test_an_arm_that_the_model_does_not_reach_says_why(tmp_path) -> None:
    vary = {"proxy.server.extra": ["", "agent-check agent-port 99"]}
    _, found, predictions = predicted(tmp_path, vary)
    (why,) = predictions.unforetold.values()
    assert why.startswith("recreate: ")
    assert len(found) == 2
    assert len(predictions.foretold) == 1
    _, _, predictions = predicted(tmp_path, vary, faults=["flap"])
    assert "flap: the model does not know what the proxy makes of these answers" in {
        *predictions.unforetold.values()
    }


def known(*points: tuple[float, float]) -> Predictions:
    rest = {"recovery_p50_s": 0.0, "failed_s": 0.0, "misrouted_s": 0.0}
    rest["trouble_queries_per_s"] = 0.0
    found = {
        (str(number), "f"): Foretold(recovery_p95_s=p95, rest_queries_per_s=dns, **rest)
        for number, (p95, dns) in enumerate(points)
    }
    return Predictions(foretold=found, unforetold={})


def test_the_front_is_what_no_other_is_better_than() -> None:
    found = known((1.0, 5.0), (2.0, 1.0), (2.0, 2.0), (1.0, 5.001), (3.0, 1.0), (0.5, 9.0))
    assert predict.front([*"012345"], found, ["f"], MINE) == ["5", "0", "1"]


def test_the_worst_fault_counts() -> None:
    one, other = known((1.0, 5.0)), known((4.0, 2.0))
    both = Predictions(
        foretold={**one.foretold, ("0", "g"): other.foretold["0", "f"]}, unforetold={}
    )
    assert [both.worst("0", ["f", "g"], each) for each in MINE] == [4.0, 5.0]
    assert both.worst("0", ["f", "h"], MINE[0]) is None


def test_the_front_its_neighbours_and_the_unknown_are_measured(tmp_path) -> None:
    retries = [f"{n}00ms" for n in range(1, 9)]
    resolves = [*retries, "900ms", "1.1s"]
    extra = "proxy.server.extra"
    vary = {RESOLVE: resolves, RETRY: retries, extra: ["", "agent-check agent-port 99"]}
    found = loaded(tmp_path, vary=vary, minimize=[str(each) for each in MINE])
    maker = arms.Maker(found, arms.Base(found), arms.Programs(found, needed=False))
    wanted = arms.combinations(found, maker.base, 1)
    every = arms.distinct([maker.baseline(), *map(maker.arm, wanted)])
    foretold = {}
    for arm in every:
        values = arm.sweep.values
        if not values[extra] and not arm.sweep.baseline:
            # The shorter both are, the sooner; the shorter the one, the more questions.
            steps = resolves.index(values[RESOLVE]), retries.index(values[RETRY])
            rest = {"recovery_p50_s": 0.0, "failed_s": 0.0, "misrouted_s": 0.0}
            foretold[arm.key, "recreate"] = Foretold(
                recovery_p95_s=1.0 + sum(steps),
                rest_queries_per_s=10.0 - steps[0],
                trouble_queries_per_s=0.0,
                **rest,
            )
    unknown = {arm.key: "why" for arm in every if (arm.key, "recreate") not in foretold}
    predictions = Predictions(foretold=foretold, unforetold=unknown)
    front = predict.front([arm.key for arm in every], predictions, ["recreate"], MINE)
    assert len(front) == 10
    chosen = foresight.chosen(found, every, predictions, ["recreate"], most=32)
    assert len(chosen) == 32
    assert chosen[0].sweep.baseline
    keys = [arm.key for arm in chosen]
    assert {*front} <= {*keys}
    beside = [arm for arm in chosen[1:] if arm.key not in {*front, *unknown}]
    assert len(beside) >= 10
    assert {arm.sweep.values[RETRY] for arm in beside} == {"200ms"}
    said = foresight.lines(found, every, predictions, ["recreate"], most=3)
    assert said[:3] == [
        "predicted: 80 of 161 arms under recreate",
        "  not predicted: why",
        "predicted front: 10 arms that no other arm replaces",
    ]
    assert said[-1] == "  and 7 more"


def test_lines_to_paste_are_those_of_the_settings(tmp_path) -> None:
    vary = {RESOLVE: ["200ms"], "proxy.redispatch": [1], "proxy.server.inter": ["500ms"]}
    found, every, _ = predicted(tmp_path, vary)
    assert [foresight.pasted(found, arm) for arm in every] == [
        (
            "resolvers chaosd  # your resolvers section",
            "    timeout resolve 1s",
            "backend app  # your backend",
            "    no option redispatch",
            "    # server app …: inter 2s",
        ),
        (
            "resolvers chaosd  # your resolvers section",
            "    timeout resolve 200ms",
            "backend app  # your backend",
            "    option redispatch 1",
            "    # server app …: inter 500ms",
        ),
    ]
