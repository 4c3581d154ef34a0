"""Intervals that hold at every look: their promise, simulated; and their edges."""

from __future__ import annotations

import math
from random import Random

import budget
import pytest

from chaosd.analysis import sequences

LOOKS_MAX = budget.of(40, 80)  # of a mean, and 150 of a quantile: p95 has no bound below 90


def uniform(rng: Random) -> float:
    return 0.2 + rng.random()


def long_tailed(rng: Random) -> float:
    return rng.lognormvariate(0, 0.5)


def rarely_bad(rng: Random) -> float:
    return 0.3 + 0.2 * rng.random() + (2.0 if rng.random() < 0.1 else 0.0)


def few_values(rng: Random) -> float:
    return float(rng.choice([0.1, 0.1, 0.2, 0.3]))


DRAWS = [uniform, long_tailed, rarely_bad, few_values]


def truth(draw, p: float) -> float:
    if draw is long_tailed:
        normal = {0.5: 0.0, 0.95: 1.6448536269514722}[p]
        return math.exp(0.5 * normal)
    return {
        uniform: {0.5: 0.7, 0.95: 1.15},
        rarely_bad: {0.5: 0.3 + 0.2 * 0.5 / 0.9, 0.95: 2.4},
        few_values: {0.5: 0.1, 0.95: 0.3},
    }[draw][p]


MEANS = {uniform: 0.7, long_tailed: math.exp(0.125), rarely_bad: 0.6, few_values: 0.175}
# What no value is beyond, and of those without an end, hardly one is.
REACHES = {uniform: 1.2, long_tailed: 8.0, rarely_bad: 2.5, few_values: 0.3}


def ever_wrong(values: list[float], true: float, interval) -> bool:
    """Whether any look after any value is wrong: then somebody may have stopped there."""
    for n in range(2, len(values) + 1):
        found = interval(values[:n])
        too_high = found.low is not None and found.low > true + 1e-12
        if too_high or (found.high is not None and found.high < true - 1e-12):
            return True
    return False


def allowed(runs: int) -> float:
    """5 %; of few runs, three standard deviations more."""
    least = 500
    return 0.05 * runs + (0.0 if runs >= least else 3 * math.sqrt(0.05 * 0.95 * runs))


@pytest.mark.sized
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("p", [0.5, 0.95])
def test_a_quantile_is_right_at_every_look(draw, p) -> None:
    rng, runs = Random(1), budget.of(20, 500)
    wrong = sum(
        ever_wrong(
            [draw(rng) for _ in range(150)],
            truth(draw, p),
            lambda some: sequences.quantile(some, [], p),
        )
        for _ in range(runs)
    )
    assert wrong <= allowed(runs)


@pytest.mark.sized
@pytest.mark.parametrize("draw", DRAWS)
def test_a_mean_is_right_at_every_look(draw) -> None:
    rng, runs = Random(2), budget.of(10, 150)
    wrong = sum(
        ever_wrong(
            [draw(rng) for _ in range(LOOKS_MAX)],
            MEANS[draw],
            lambda some: sequences.mean(some, most=REACHES[draw]),
        )
        for _ in range(runs)
    )
    assert wrong <= allowed(runs)
