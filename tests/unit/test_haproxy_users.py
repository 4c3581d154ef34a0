"""What users see, two descriptions: requests one by one, and what an outlook makes of a history."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from statistics import fmean
from typing import Any

import budget
import pytest
import shapes
from shapes import resolver, server

from chaosd.plugins.timeline import Meets
from chaosd.proxies.haproxy.model.algorithm import BackendModel, Layout
from chaosd.proxies.haproxy.model.backend import SLOW_S, Backend, Balance, CheckKind, Scenario
from chaosd.proxies.haproxy.model.outlook import (
    MOVE,
    NODE_LOST,
    SceneTrials,
    moves_at_first,
    run_trials,
)
from chaosd.proxies.haproxy.model.phases import phases_of
from chaosd.proxies.haproxy.model.scene import Scene, SceneWorld
from chaosd.proxies.haproxy.model.users import PATIENT

S = 1_000_000_000
TRIALS, RATE, HORIZON_S = budget.of(8, 40), 50, 16.0
VERSION = "3.2.26"


def one_by_one(backend: Backend, scenario: Scenario, number: int) -> tuple[float, float]:
    """The requests that failed, and those that were masked, in seconds' worth."""
    line = moves_at_first(backend)
    assert line is not None
    scene = Scene(backend, scenario, line)
    phases = phases_of(number)
    rng = Random(phases.seed)
    world = SceneWorld(scene, rng, count_until_ns=0)
    model = BackendModel(
        Layout(backend, VERSION),
        world,
        rng,
        ask=world.ask,
        start_ns=0,
        poll_at_ns=lambda asked: round(phases.poll * asked.timeout_resolve_ns),
        check_at_ns=lambda checked, after_ns: (
            (round(phases.check * checked.inter_ns) + after_ns) % checked.inter_ns
        ),
    )
    scene.settle(model)
    failed = masked = 0

    def begin(at_ns: int) -> None:
        def ended(end_ns: int, status: int, ip: str | None) -> None:
            nonlocal failed, masked
            good = status == 0 and ip is not None and scene.meets(end_ns, ip) is Meets.LISTENING
            failed += not good
            masked += good and end_ns - at_ns >= SLOW_S * S

        model.request(at_ns, ended)

    for place in range(round(HORIZON_S * RATE)):
        begin((2 * place + 1) * S // RATE // 2)
    while model.next_ns() < 4 * HORIZON_S * S:
        model.advance(model.next_ns())
    return failed / RATE, masked / RATE


DNS = resolver()
BOTH = (server("a", "a", dns=DNS, inter=1), server("b", "b", dns=DNS, inter=1))
UNCHECKED = tuple(replace(line, check=CheckKind.NONE) for line in BOTH)


REDISPATCH = (0, -1, 1, 2)
SCENES = [
    ((server(dns=DNS),), MOVE),
    ((server(dns=DNS, inter=0.5),), replace(MOVE, published_s=3.0, listening_s=4.2)),
    (BOTH, replace(MOVE, healthy_s=3.0)),
    (BOTH, replace(NODE_LOST, published_s=4.0, listening_s=4.0, healthy_s=4.0)),
    (UNCHECKED, replace(NODE_LOST, published_s=4.0, listening_s=4.0, healthy_s=4.0)),
    ((BOTH[0], replace(BOTH[1], backup=True)), NODE_LOST),
    ((server("app", slots=4, dns=resolver(obsolete=3), inter=1.5),), MOVE),
]


@pytest.mark.sized
@pytest.mark.parametrize(
    ("servers", "scenario", "redispatch"),
    [  # each time two of each scene; all of them together in make test-long
        pytest.param(*scene, redispatch, marks=() if (a - b) % 2 == 0 else pytest.mark.slow)
        for a, scene in enumerate(SCENES)
        for b, redispatch in enumerate(REDISPATCH)
    ],
)
def test_requests_one_by_one_fare_as_foreseen(
    servers: Any, scenario: Scenario, redispatch: int
) -> None:
    backend = shapes.backend(*servers, connect=1, redispatch_every=redispatch)
    found = run_trials(backend, VERSION, scenario, most=TRIALS, horizon_s=HORIZON_S)
    assert isinstance(found, list)
    single = [one_by_one(backend, scenario, number) for number in range(len(found))]
    for place, name in enumerate(("failed_s", "masked_s")):
        expected = fmean(getattr(trial, name) for trial in found)
        assert fmean(each[place] for each in single) == pytest.approx(expected, rel=0.05, abs=0.05)


@pytest.mark.parametrize("version", ["2.2.9", VERSION])  # the old one draws its clock's seconds
@pytest.mark.parametrize("balance", [Balance.TURNS, Balance.LEAST])
@pytest.mark.parametrize("servers", [BOTH, (server("app", slots=3, dns=resolver(obsolete=3)),)])
def test_a_trial_begins_as_if_no_other_had_been_before_it(
    servers: Any, balance: Balance, version: str
) -> None:
    backend = shapes.backend(*servers, balance=balance)
    line = moves_at_first(backend)
    assert line is not None

    def trials() -> SceneTrials:
        return SceneTrials(Scene(backend, NODE_LOST, line), Layout(backend, version), PATIENT)

    together = trials()
    ran = [together.run(number) for number in range(6)]
    assert len({tuple(each.history) for each in ran}) > 1
    assert ran == [trials().run(number) for number in range(6)]
