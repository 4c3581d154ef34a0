"""Quantiles, their intervals, and shares, against tables and against exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies

from chaosd.analysis.statistics import (
    QUANTILES,
    TAIL,
    Estimate,
    Share,
    interval_ranks,
    quantile_rank,
    quantiles,
    share,
)

FEW = settings(derandomize=True, max_examples=200, deadline=None)
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


@pytest.mark.parametrize("p", ["1/2", "9/10", "19/20", "99/100"])
def test_intervals_cover_95_percent_and_are_the_narrowest_such(p) -> None:
    exact, tail = Fraction(p), Fraction(TAIL)
    for n in range(1, 120):
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
@given(VALUES, strategies.integers(0, 10))
def test_quantiles_are_order_statistics_with_the_censored_beyond_all(values, censored) -> None:
    found = quantiles(values, censored)
    everything = sorted(values) + [math.inf] * censored
    n = len(everything)
    assert (found.n, found.censored) == (n, censored)
    for name, p in QUANTILES.items():
        estimate = getattr(found, name)
        if not n:
            assert estimate == Estimate(None, None, None)
            continue
        value = math.inf if estimate.value is None else estimate.value
        # The smallest value that at least a part p does not exceed.
        assert sum(v <= value for v in everything) >= p * n - 1e-9
        assert sum(v < value for v in everything) < p * n
        for bound in (estimate.low, estimate.high):
            assert bound is None or bound in values
        assert estimate.low is None or estimate.low <= value
        assert estimate.high is None or estimate.high >= value
    assert found.max == (max(values) if values and not censored else None)


@FEW
@given(VALUES, strategies.integers(1, 10), strategies.floats(100, 200))
def test_censored_values_could_have_been_anything_beyond_the_limit(values, censored, value) -> None:
    """Had they been observed to the end, no known quantile would be another."""
    found, observed = quantiles(values, censored), quantiles(values + [value] * censored)
    for name in QUANTILES:
        known = getattr(found, name)
        for field in ("value", "low", "high"):
            if getattr(known, field) is not None:
                assert getattr(known, field) == getattr(getattr(observed, name), field)


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
        (0, 10, 0.0, 0.3085),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (10, 10, 0.6915, 1.0),
        (95, 100, 0.8872, 0.9836),
    ],
)
def test_shares_have_clopper_and_pearsons_interval(count, n, low, high) -> None:
    found = share(count, n)
    assert found.value == count / n
    assert (found.low, found.high) == (
        pytest.approx(low, abs=1e-4),
        pytest.approx(high, abs=1e-4),
    )


def test_a_share_of_nothing_is_unknown() -> None:
    assert share(0, 0) == Share(count=0, n=0, value=None, low=None, high=None)


def test_a_week_of_cycles_is_no_trouble() -> None:
    assert interval_ranks(120_000, 0.5) == (59_661, 60_340)
    assert interval_ranks(120_000, 0.99)[1] is not None
