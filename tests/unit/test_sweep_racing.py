"""Which arms of a sweep are stopped: the promise, simulated; and the rules, one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import budget
import pytest
import sweeps
from sweeps import Truth

from chaosd.sweep import words
from chaosd.sweep.measures import MEASURES
from chaosd.sweep.racing import Stop, StopKind, look
from chaosd.sweep.values import Foretold, Objective, Results

BLOCKS = 40


def random_truths(rng: Random, count: int, rare: bool) -> list[Truth]:
    return [
        Truth(
            least_s=rng.choice([0.2, 0.3]),
            width_s=rng.choice([0.3, 0.6, 1.2]),
            queries_per_s=rng.choice([1.0, 1.0, 2.0]),
            rare=0.1 if rare and rng.random() < 0.5 else 0.0,
            rare_s=5.0,
        )
        for _ in range(count)
    ]


def true_values(truth: Truth) -> dict[Objective, float]:
    said = truth.foretold()
    return {objective: MEASURES[objective].of_foretold(said) for objective in sweeps.OBJECTIVES}


def is_as_good(one: Truth, other: Truth) -> bool:
    """In every objective no worse than the other by more than the margin."""
    ours, theirs = true_values(one), true_values(other)
    return all(ours[o] <= theirs[o] + MEASURES[o].margin(theirs[o]) for o in ours)


def stopped_in(found: Results, step: int) -> dict[str, Stop]:
    """All that are stopped, looking after every `step` blocks; what is stopped is seen no more."""
    stops: dict[str, Stop] = {}
    for block in range(5, BLOCKS + 1, step):
        so_far = tuple(
            s
            for s in found.seen
            if s.block <= block and (s.arm not in stops or s.block <= stops[s.arm].cycles)
        )
        stopped = dict.fromkeys(stops, "")
        stops |= look(replace(found, seen=so_far, stopped=stopped), precision=None)
    return stops


@pytest.mark.sized
@pytest.mark.parametrize(
    ("model", "off", "rare"),
    [
        pytest.param(True, 0.0, False, id="model", marks=pytest.mark.slow),
        pytest.param(True, 0.1, False, id="model-10%-off", marks=pytest.mark.slow),
        pytest.param(True, 0.0, True, id="rare-catastrophes"),  # the hardest with the model
        pytest.param(False, 0.0, True, id="rare-without-model", marks=pytest.mark.slow),
    ],
)
def test_hardly_any_sweep_loses_an_arm_that_nothing_replaces(model, off, rare) -> None:
    """A wrong elimination: no other arm is as good in every objective."""
    rng, runs = Random(4), budget.of(6, 100)
    wrong = right = 0
    for _ in range(runs):
        some = sweeps.arms(p=range(6))
        truths = dict(zip([a.key for a in some], random_truths(rng, 6, rare), strict=True))
        by_fault = {(key, "recreate"): truth for key, truth in truths.items()}
        found = sweeps.results(some, by_fault, rng, blocks=BLOCKS, model=model)
        if off:
            found = replace(found, foretold=_off(found.foretold, off, rng))
        stops = stopped_in(found, budget.of(7, 2))
        lost = [
            key
            for key in stops
            if not any(is_as_good(t, truths[key]) for k, t in truths.items() if k != key)
        ]
        wrong += bool(lost)
        right += len(stops) - len(lost)
    assert wrong <= 0.05 * runs
    if model:
        assert right >= runs  # it does stop arms: one of six at least, on average


def _off(said: Mapping[tuple[str, str], Foretold], off: float, rng: Random) -> dict:
    found = {}
    for key, each in said.items():
        scale = 1 + rng.uniform(-off, off)
        found[key] = replace(
            each,
            recovery_p50_s=each.recovery_p50_s * scale,
            recovery_p95_s=each.recovery_p95_s * scale,
            failed_s=each.failed_s * scale,
        )
    return found


def two(slow: Truth, fast: Truth, *, blocks: int = 30, **more) -> Results:
    """Three arms: the baseline, which is as slow as the second, and the fast one."""
    some = sweeps.arms(p=[1, 2, 3])
    truths = dict(zip([(a.key, "recreate") for a in some], [slow, slow, fast], strict=True))
    return sweeps.results(some, truths, Random(3), blocks=blocks, **more)


SLOW = Truth(least_s=1.0, width_s=0.5, queries_per_s=1.0)
FAST = Truth(least_s=0.2, width_s=0.3, queries_per_s=1.0)


def test_what_is_worse_in_every_block_is_stopped_but_never_the_baseline() -> None:
    found = two(SLOW, FAST)
    stops = look(found, precision=None)
    assert list(stops) == ["k01"]
    stop = stops["k01"]
    assert (stop.kind, stop.by, stop.cycles) == (StopKind.DOMINATED, "k02", 30)
    assert "arm-02" in words.stopped(stop, found)
    assert look(replace(found, stopped={"k01": "so"}), precision=None) == {}


def test_a_few_blocks_are_not_enough() -> None:
    assert look(two(SLOW, FAST, blocks=8), precision=None) == {}


def test_who_is_better_in_anything_goes_on() -> None:
    cheap = replace(SLOW, queries_per_s=0.5)
    assert look(two(cheap, FAST), precision=None) == {}


def test_the_model_has_to_agree_or_the_bounds_must_say_so() -> None:
    """A p95 of 30 cycles may hide what one of 15 does; 400 cycles of each would show it."""
    unknown = {"model": False, "objectives": (Objective.RECOVERY_P95, Objective.DNS_QUERIES)}
    assert look(two(SLOW, FAST, **unknown), precision=None) == {}
    assert list(look(two(SLOW, FAST, **unknown, blocks=400), precision=None)) == ["k01"]


def test_the_fresh_blocks_have_no_part_in_it() -> None:
    found = two(SLOW, FAST)
    fresh = tuple(replace(each, fresh=True) for each in found.seen)
    assert look(replace(found, seen=fresh), precision=None) == {}


def test_who_is_known_well_enough_is_stopped() -> None:
    even = Truth(least_s=1.0, width_s=0.1, queries_per_s=1.0)
    found = two(even, even, blocks=150)
    stops = look(found, precision=0.1)
    assert {stop.kind for stop in stops.values()} == {StopKind.PRECISE}
    assert set(stops) == {"k01", "k02"}
    assert look(two(even, even, blocks=60), precision=0.1) == {}  # p95 has no upper bound yet


def test_an_arm_that_never_recovers_is_dominated() -> None:
    never = Truth(least_s=100.0, width_s=1.0, queries_per_s=1.0)
    found = two(never, FAST)
    said = {
        k: replace(f, recovery_p95_s=math.inf) for k, f in found.foretold.items() if k[0] != "k02"
    }
    assert "k01" in look(replace(found, foretold={**found.foretold, **said}), precision=None)
