"""Quantiles, their intervals, and shares, against tables and against exact arithmetic."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random

import budget
import pytest
from hypothesis import given, settings, strategies

from chaosd.analysis.statistics import (
    QUANTILES,
    TAIL,
    Estimate,
    Share,
    error_bar,
    interval_ranks,
    mean_part,
    quantile_rank,
    quantiles,
    ratio,
    serial,
    share,
    student,
)

FEW = settings(derandomize=True, max_examples=budget.of(12, 200), deadline=None)
TIMES = strategies.floats(0, 100)
VALUES = strategies.lists(strategies.floats(0, 100), max_size=40)


def binomial(n: int, p: Fraction, up_to: int) -> Fraction:
    """P(B <= up_to), exactly."""
    return sum((math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(up_to + 1)), Fraction())


@pytest.mark.parametrize(
    ("n", "p", "ranks"),
    [
        # The sign-test intervals of any table of order statistics.
        (5, 0.5, (None, None)),
        (6, 0.5, (1, 6)),
        (8, 0.5, (1, 8)),
        (9, 0.5, (2, 8)),
        (10, 0.5, (2, 9)),
        (15, 0.5, (4, 12)),
        (20, 0.5, (6, 15)),
        (50, 0.5, (18, 33)),
        (100, 0.5, (40, 61)),
        # 0.95^72 is the first below 0.025: so many values an upper bound of p95 takes.
        (71, 0.95, (63, None)),
        (72, 0.95, (64, 72)),
        (100, 0.95, (90, 100)),
        (368, 0.99, (360, 368)),
        (1, 0.99, (1, None)),  # one value is below p99, with 99 %
    ],
)
def test_ranks_are_those_of_the_tables(n, p, ranks) -> None:
    assert interval_ranks(n, p) == ranks


@pytest.mark.sized
@pytest.mark.parametrize(
    "p", ["1/2", "19/20", *(pytest.param(p, marks=pytest.mark.slow) for p in ("9/10", "99/100"))]
)
def test_intervals_cover_95_percent_and_are_the_narrowest_such(p) -> None:
    exact, tail = Fraction(p), Fraction(TAIL)
    for n in range(1, 120, budget.of(3, 1)):
        low, high = interval_ranks(n, float(exact))
        # The value at rank r is above the quantile if fewer than r values are below it.
        if low is not None:
            assert binomial(n, exact, low - 1) <= tail < binomial(n, exact, low)
        else:
            assert binomial(n, exact, 0) > tail
        if high is not None:
            assert 1 - binomial(n, exact, high - 1) <= tail < 1 - binomial(n, exact, high - 2)
        else:
            assert 1 - binomial(n, exact, n - 1) > tail


@FEW
@given(VALUES, strategies.lists(strategies.floats(100, 200), max_size=10))
def test_quantiles_are_order_statistics_with_the_censored_beyond_all(values, censored) -> None:
    found = quantiles(values, censored)
    everything = sorted(values) + [math.inf] * len(censored)
    n = len(everything)
    assert (found.n, found.censored) == (n, len(censored))
    for name, p in QUANTILES.items():
        estimate = getattr(found, name)
        if not n:
            assert estimate == Estimate(None, None, None)
            continue
        value = math.inf if estimate.value is None else estimate.value
        # The smallest value that at least a part p does not exceed.
        assert sum(v <= value for v in everything) >= p * n - 1e-9
        assert sum(v < value for v in everything) < p * n
        assert estimate.low is None or estimate.low in [*values, *censored]
        assert estimate.low is None or estimate.low <= value
        assert estimate.high is None or estimate.high in values
        assert estimate.high is None or estimate.high >= value
        assert (estimate.beyond is None) == (estimate.value is not None)
        assert estimate.beyond is None or estimate.beyond in censored
    at_limit = any(c >= v for c in censored for v in [max(values, default=0)])
    assert found.max == (max(values) if values and not at_limit else None)
    assert found.max_beyond == (max(censored) if at_limit else None)


@FEW
@given(
    VALUES,
    strategies.lists(strategies.floats(0, 200), min_size=1, max_size=10),
    strategies.floats(0, 100),
)
def test_what_is_said_to_be_beyond_is_beyond_however_long_the_censored_took(
    values, censored, more
) -> None:
    """Had they been observed to the end, the quantile would have been no less."""
    censored = [c for c in censored if c >= min(values, default=0)]  # others say nothing
    found = quantiles(values, censored)
    observed = quantiles([*values, *(c + more for c in censored)])
    for name in QUANTILES:
        if (beyond := getattr(found, name).beyond) is not None:
            assert getattr(observed, name).value >= beyond
    if found.max_beyond is not None:
        assert observed.max >= found.max_beyond
    if found.mean.beyond is not None:
        assert observed.mean.value >= found.mean.beyond - 1e-9


def test_a_quantile_that_is_surely_beyond_has_a_lower_bound() -> None:
    """A fifth was given up after 30 s: p95, and its whole interval, are more than that."""
    found = quantiles([1.0] * 80, [30.0] * 20)
    assert found.p95 == Estimate(None, 30.0, None, beyond=30.0)
    assert found.p50 == Estimate(1.0, 1.0, 1.0)


def test_what_was_cut_short_before_anything_ended_says_nothing() -> None:
    values = [float(v) for v in range(10, 40)]
    found, plain = quantiles(values, [1.0, 9.9]), quantiles(values)
    assert (found.n, found.censored) == (32, 2)
    assert (found.p50, found.p95, found.mean) == (plain.p50, plain.p95, plain.mean)


def test_what_was_cut_short_in_the_middle_makes_the_quantiles_larger_and_wider() -> None:
    values = [float(v) for v in range(1, 101)]
    found, plain = quantiles(values, [50.5] * 40), quantiles(values)
    # Of 90 at risk at 51, forty of whom go on, 50 end: each counts for 1.8 of 140.
    assert plain.p50 == Estimate(50.0, 40.0, 61.0)
    assert found.p50.value == 62.0
    assert found.p50.low < 62.0 < found.p50.high
    assert found.p95.low < found.p95.value == 97.0
    assert (found.max, found.max_beyond) == (100.0, None)
    assert found.mean.value == pytest.approx(
        # Each of those cut short takes as long as the others that had come as far.
        (sum(values) + 40 * sum(values[50:]) / 50) / 140
    )


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (120, 1.980)],
)
def test_students_quantiles_are_those_of_the_tables(freedom, expected) -> None:
    assert student(freedom) == pytest.approx(expected, abs=5e-4)
    assert student(0) is None


def test_a_mean_has_students_interval() -> None:
    # Student's own sleep data: the difference of two drugs, mean 1.58, interval 0.70 to 2.46.
    differences = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    mean = quantiles(differences).mean
    assert mean.value == pytest.approx(1.58)
    assert (mean.low, mean.high) == (pytest.approx(0.70, abs=0.01), pytest.approx(2.46, abs=0.01))
    assert quantiles(differences, [5.0]).mean.value is None  # whose mean nobody knows
    few = quantiles([1.0, 2.0]).mean
    # None of durations is below zero.
    assert (few.low, few.high) == (0.0, pytest.approx(1.5 + 12.706 * 0.5, abs=1e-3))
    signed = quantiles([-1.0, 2.0]).mean
    assert signed.low == pytest.approx(0.5 - 12.706 * 1.5, abs=2e-3)
    assert quantiles([1.0]).mean == Estimate(1.0, None, None)


def test_requests_of_one_cycle_are_no_independent_witnesses() -> None:
    """All that failed failed in one cycle of ten: that says little of the next ten."""
    sizes = [100] * 10
    evenly, at_once = ratio([10] * 9 + [9], sizes), ratio([99] + [0] * 9, sizes)
    assert evenly.value == at_once.value == 0.099
    assert evenly.high - evenly.low < 0.01
    assert at_once.low < 0.02
    assert at_once.high > 0.5
    # Cochran's estimator of a ratio, by hand: 6 of 60, residuals 1 -1 1 -1 0.
    found = ratio([2, 0, 3, 1, 0], [10, 10, 20, 20, 0])
    spread = 2.7764 * math.sqrt(4 * 5 / 4) / 6
    assert found.low == pytest.approx(0.1 / math.exp(spread), rel=1e-3)
    assert found.high == pytest.approx(0.1 * math.exp(spread), rel=1e-3)


@pytest.mark.parametrize(
    ("n", "most"),
    [
        (2, 0.07),
        (20, 0.11),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((3, 0.07), (4, 0.11), (50, 0.1), (100, 0.07))
        ),
    ],
)
def test_how_often_a_share_of_requests_is_beyond_its_interval(n: int, most: float) -> None:
    """Outages with a long tail: docs/measuring.md says how far the upper bound is too low."""
    rng = Random(n)

    def lost(cycles: int) -> list[int]:
        return [round(100 * rng.lognormvariate(0, 1.2)) for _ in range(cycles)]

    def of_all(counts: list[int]) -> Share:
        return ratio(counts, [count + 100 for count in counts])

    true = of_all(lost(200_000)).value
    found = [of_all(lost(n)) for _ in range(1000)]
    assert sum(share.high < true for share in found) / 1000 < most
    assert sum(share.low > true for share in found) / 1000 < 0.04


def test_shares_of_nothing_bad() -> None:
    assert ratio([0] * 100, [400] * 100) == Share(
        count=0, n=40_000, value=0.0, low=0.0, high=1 - 0.025**0.01
    )
    # As many cycles as may have hidden, each as bad as the worst seen: 3.6 % of 99 %.
    found = ratio([99, *[1] * 99], [100] * 100)
    assert found.high >= (1 - 0.025**0.01) * 0.99
    few = ratio([99, *[98] * 4], [100, *[10_000] * 4])
    assert few.high == pytest.approx(0.99 * (1 - 0.025**0.2))
    assert ratio([1], [10]) == Share(count=1, n=10, value=0.1, low=None, high=None)
    assert ratio([], []) == Share(count=0, n=0, value=None, low=None, high=None)


def test_twenty_values() -> None:
    found = quantiles([float(v) for v in range(1, 21)])
    assert found.p50 == Estimate(10.0, 6.0, 15.0)
    assert found.p90 == Estimate(18.0, 15.0, None)
    assert found.p95 == Estimate(19.0, 17.0, None)
    assert found.p99 == Estimate(20.0, 19.0, None)
    assert found.max == 20.0


def test_rank_is_not_led_astray_by_binary_fractions() -> None:
    for p in ("1/2", "9/10", "19/20", "99/100"):
        exact = Fraction(p)
        for n in range(1, 3000):
            assert quantile_rank(n, float(exact)) == math.ceil(n * exact)


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        # Clopper and Pearson's table.
        (0, 10, 0.0, 0.30850),
        (1, 10, 0.00253, 0.44502),
        (5, 10, 0.18709, 0.81291),
        (10, 10, 0.69150, 1.0),
        (95, 100, 0.88717, 0.98357),
    ],
)
def test_shares_have_clopper_and_pearsons_interval(count, n, low, high) -> None:
    found = share(count, n)
    assert found.value == count / n
    assert (found.low, found.high) == (
        pytest.approx(low, abs=6e-6),
        pytest.approx(high, abs=6e-6),
    )


def test_one_value_that_is_known_badly_makes_no_other_quantile_worse() -> None:
    values = [(0.5 + place / 1000, 0.01) for place in range(1000)]
    assert error_bar(values) == pytest.approx(0.01)
    values[300] = (0.8, 0.7)  # a probe's pause of 0.7 s, once in a thousand cycles
    assert error_bar(values) == pytest.approx(0.01, abs=0.0011)
    values[-200:] = [(value, 0.7) for value, _ in values[-200:]]
    assert error_bar(values) > 0.15
    assert error_bar([(1.0, 0.3)]) == pytest.approx(0.3)
    assert error_bar([]) is None
    # The median's lower bound may be one of those that are known badly.
    low = [(1.0, 0.9)] * 45 + [(2.0, 0.0)] * 55
    assert error_bar(low) == pytest.approx(0.9)
    # A short one may be the longest, if it may be wrong that way.
    short = [(1.0 + n / 100, 0.01) for n in range(100)] + [(1.0, 2.0)] * 5
    assert error_bar(short) == pytest.approx(0.01)
    assert error_bar(short, up=True) > 1


@FEW
@given(strategies.lists(strategies.tuples(TIMES, TIMES), min_size=1), strategies.randoms())
def test_no_quantile_is_off_by_more_than_the_error_bar(values, random) -> None:
    bar = error_bar(values)
    true = quantiles([value - random.random() * error for value, error in values])
    seen = quantiles([value for value, _ in values])
    for name in ("p50", "p90", "p95", "p99"):
        off = getattr(seen, name).value - getattr(true, name).value
        assert -1e-9 <= off <= bar + 1e-9


def test_values_that_follow_each_other_and_are_alike_are_told() -> None:
    rng, chance = Random(6), 0
    for _ in range(1000):
        values = [rng.lognormvariate(0, 0.5) for _ in range(100)]
        chance += serial(list(pairwise(values))) is not None
    assert chance <= 20  # one in 200, and as many again for the shape
    # A first-order process of 0.6: what is left of the last value, and something new.
    found, value, values = [], 0.0, []
    for _ in range(20):
        values = [value := 0.6 * value + rng.gauss(0, 1) for _ in range(200)]
        found.append(serial(list(pairwise(values))))
    assert None not in found
    assert sum(found) / len(found) == pytest.approx(0.6, abs=0.06)
    assert serial(list(pairwise(values[:20]))) is None  # too few to tell
    assert serial([(1.0, 1.0)] * 50) is None


def test_a_share_of_nothing_is_unknown() -> None:
    assert share(0, 0) == Share(count=0, n=0, value=None, low=None, high=None)


@FEW
@given(strategies.integers(1, 60), strategies.data())
def test_a_shares_bounds_are_what_just_is_not_excluded(n, data) -> None:
    """The definition of Clopper and Pearson's interval, in exact arithmetic."""
    count = data.draw(strategies.integers(0, n))
    found = share(count, n)
    if count:
        tail = 1 - binomial(n, Fraction(found.low), count - 1)
        assert float(tail) == pytest.approx(TAIL, rel=1e-9)
    if count < n:
        tail = binomial(n, Fraction(found.high), count)
        assert float(tail) == pytest.approx(TAIL, rel=1e-9)


def test_scipy_is_not_imported_before_it_is_needed(tmp_path) -> None:
    """By no command that reports nothing, nor by the prober; by `until.precision` at its start."""
    program = """
import sys
from chaosd.analysis.precision import Precision
from chaosd.cli import main
import chaosd.calibration, chaosd.engine.run, chaosd.live.console, chaosd.live.prometheus
import chaosd.probes.worker, chaosd.report, chaosd.report.compare

assert main(["version"]) == 0
assert main(["check", sys.argv[1]]) == 0
assert not [name for name in sys.modules if name.partition(".")[0] == "scipy"]
Precision(0.1, {})
assert "scipy.special" in sys.modules
assert "scipy.stats" not in sys.modules  # four times as slow
"""
    config = Path(__file__).parents[2] / "configs" / "sim.yaml"
    command = [sys.executable, "-c", program, str(config)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_week_of_cycles_is_no_trouble() -> None:
    assert interval_ranks(120_000, 0.5) == (59_661, 60_340)
    assert interval_ranks(120_000, 0.99)[1] is not None


def test_the_mean_of_what_was_lost() -> None:
    assert mean_part([], 10) == Estimate(None, None, None)
    assert mean_part([3], 10) == Estimate(3.0, None, None)
    nothing = mean_part([0] * 20, 60)
    assert (nothing.value, nothing.low) == (0.0, 0.0)
    assert nothing.high == pytest.approx(60 * (1 - 0.025 ** (1 / 20)))
    found = mean_part([4, 6, 5, 5, 4, 6], 100)
    assert found.value == 5.0
    # Student's for 5 d.f. is 2.571; the standard error 0.365, symmetric in the logarithm.
    spread = math.exp(2.5706 * 0.3651 / 5)
    assert found.low == pytest.approx(5 / spread, rel=1e-3)
    assert found.high == pytest.approx(5 * spread, rel=1e-3)
    assert mean_part([4, 6, 5, 5, 4, 6], 10).low == found.low
