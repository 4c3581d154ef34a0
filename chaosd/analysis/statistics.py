"""Quantiles and shares with their confidence intervals; no assumption about any shape.

All intervals have 95 %. A quantile's interval is made of order statistics (binomial, exact), so it
holds for any distribution; where there are too few values for a bound, that bound is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

TAIL = 0.025  # of the probability, outside of the interval at each side
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; None where it is unknown, or beyond what was observed."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """What is known of a distribution from `n` values, `censored` of them longer than the limit."""

    n: int
    censored: int
    p50: Estimate
    p90: Estimate
    p95: Estimate
    p99: Estimate
    max: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of how many, as a part of one, with its Clopper-Pearson interval."""

    count: int
    n: int
    value: float | None
    low: float | None
    high: float | None


def quantiles(values: Iterable[float], censored: int = 0) -> Quantiles:
    """The p-quantile is the smallest value that at least the part p of all does not exceed.

    Censored values count as larger than anything: the order of the others is as it would be had
    they been observed to the end, and a quantile that falls among them is None.
    """
    ordered = sorted(values)
    n = len(ordered) + censored

    def at(rank: int | None) -> float | None:
        return ordered[rank - 1] if rank is not None and rank <= len(ordered) else None

    def estimate(p: float) -> Estimate:
        if n == 0:
            return Estimate(None, None, None)
        low, high = interval_ranks(n, p)
        return Estimate(at(quantile_rank(n, p)), at(low), at(high))

    return Quantiles(
        n=n,
        censored=censored,
        **{name: estimate(p) for name, p in QUANTILES.items()},
        max=at(n) if n else None,
    )


def quantile_rank(n: int, p: float) -> int:
    """Which of n ordered values, counted from 1, is the p-quantile."""
    return max(1, math.ceil(n * p))


def interval_ranks(n: int, p: float) -> tuple[int | None, int | None]:
    """The ranks of the two values between which the p-quantile lies.

    Either is None if not even the smallest, or the largest, of n values is far enough out.
    """
    low = sum(1 for _ in _within_tail(_masses(n, p)))
    high = sum(1 for _ in _within_tail(_masses(n, 1 - p)))
    # The number of values below the quantile is binomial; so is that of values above it.
    return low or None, n + 1 - high if high else None


def _within_tail(masses: Iterator[float]) -> Iterator[float]:
    total = 0.0
    for mass in masses:
        total += mass
        if total > TAIL:
            return
        yield mass


def _masses(n: int, p: float) -> Iterator[float]:
    """The probabilities of 0, 1, 2, … successes in n trials."""
    log_p, log_q = math.log(p), math.log1p(-p)
    log_n = math.lgamma(n + 1)
    for k in range(n + 1):
        log_ways = log_n - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        yield math.exp(log_ways + k * log_p + (n - k) * log_q)


def share(count: int, n: int) -> Share:
    """A part of a whole."""
    if n == 0:
        return Share(count=0, n=0, value=None, low=None, high=None)
    return Share(
        count=count,
        n=n,
        value=count / n,
        low=0.0 if count == 0 else _root(lambda p: _at_least(count, n, p) - TAIL),
        high=1.0 if count == n else _root(lambda p: TAIL - _at_least(n - count, n, 1 - p)),
    )


def _at_least(count: int, n: int, p: float) -> float:
    return 1 - math.fsum(mass for mass, _ in zip(_masses(n, p), range(count), strict=False))


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function of 0 to 1 becomes positive, to a millionth."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if rising(middle) > 0:
            high = middle
        else:
            low = middle
    return (low + high) / 2
