"""Quantiles, means and shares with their confidence intervals; no assumption about any shape.

All intervals have 95 %. A quantile's interval is made of order statistics (binomial, exact), so it
holds for any distribution; where there are too few values for a bound, that bound is None. Only
where values were cut short amid the others is it one of Kaplan and Meier's curve (survival.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from chaosd.analysis.survival import Step, Z, kaplan_meier, quantile, restricted_mean

TAIL = 0.025  # of the probability, outside of the interval at each side
SERIAL_MIN, SERIAL_Z = 20, 2.576
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; None where it is unknown, or beyond what was observed.

    If the number is unknown because values were cut short, it is more than `beyond`.
    """

    value: float | None
    low: float | None
    high: float | None
    beyond: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """What is known of a distribution from `n` values, `censored` of them cut short."""

    n: int
    censored: int
    p50: Estimate
    p90: Estimate
    p95: Estimate
    p99: Estimate
    max: float | None  # None if one was cut short later than that
    max_beyond: float | None  # then it is more than this
    mean: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of how many, as a part of one, with its interval."""

    count: int
    n: int
    value: float | None
    low: float | None
    high: float | None


def quantiles(values: Iterable[float], censored: Iterable[float] = ()) -> Quantiles:
    """The p-quantile is the smallest value that at least the part p of all does not exceed.

    `censored` are those of which only this is known: that they are larger. One that is less than
    every value says nothing of them, by Kaplan and Meier's estimate or any other. Where all others
    are beyond every value, the order is known, and with it the exact intervals of its ranks.
    """
    ordered, cut = sorted(values), sorted(censored)
    telling = [value for value in cut if not ordered or value >= ordered[0]]
    steps = kaplan_meier(ordered, telling)
    known = not ordered or not telling or telling[0] >= ordered[-1]
    n = len(ordered) + len(telling)
    least = sorted([*ordered, *telling])  # had each cut one ended there and then

    def at(rank: int | None) -> float | None:
        return ordered[rank - 1] if rank is not None and rank <= len(ordered) else None

    def estimate(p: float) -> Estimate:
        if n == 0:
            return Estimate(None, None, None)
        rank, (low, high) = quantile_rank(n, p), interval_ranks(n, p)
        if known:
            found = at(rank), None if low is None else least[low - 1], at(high)
        else:
            found = quantile(steps, p)
        return Estimate(*found, beyond=least[rank - 1] if found[0] is None else None)

    is_max_known = bool(ordered) and not (cut and cut[-1] >= ordered[-1])
    return Quantiles(
        n=len(ordered) + len(cut),
        censored=len(cut),
        **{name: estimate(p) for name, p in QUANTILES.items()},
        max=ordered[-1] if is_max_known else None,
        max_beyond=cut[-1] if cut and not is_max_known else None,
        mean=_mean(steps, least),
    )


def error_bar(values: Sequence[tuple[float, float]], *, up: bool = False) -> float | None:
    """By how much any bound of a quantile would be less if each value were less by its bar.

    `values` are (value, its error bar); with `up`, also by how much more if each were more. Nobody
    knows more of a quantile than this; one value that is known badly makes no other worse, as the
    worst bar of all would have it. It is about the median, its lower bound, and all that is larger.
    None of nothing.
    """
    if not values:
        return None
    rank, _ = interval_ranks(len(values), min(QUANTILES.values()))
    ordered = sorted(value for value, _ in values)
    shifts = [0.0]
    for sign in (-1, 1) if up else (-1,):
        moved = sorted(value + sign * bar for value, bar in values)
        pairs = zip(ordered[(rank or 1) - 1 :], moved[(rank or 1) - 1 :], strict=True)
        shifts += [abs(a - b) for a, b in pairs]
    return max(shifts)


def serial(pairs: Sequence[tuple[float, float]]) -> float | None:
    """How much values that follow each other resemble each other: from -1 to 1, 0 if not at all.

    None if that may well be chance: if it is less than a resemblance which independent values have
    in one of 200 cases (r is normal with variance 1/n then), or if there are few pairs.
    """
    n = len(pairs)
    if n < SERIAL_MIN:
        return None
    both = [value for pair in pairs for value in pair]
    mean = math.fsum(both) / len(both)
    spread = math.fsum((value - mean) ** 2 for value in both) / 2
    if not spread:
        return None
    found = math.fsum((a - mean) * (b - mean) for a, b in pairs) / spread
    return found if found > SERIAL_Z / math.sqrt(n) else None


def _mean(steps: Sequence[Step], observed: Sequence[float]) -> Estimate:
    """The mean; if the largest is cut short, it is only known to be more than so far observed."""
    if not observed:
        return Estimate(None, None, None)
    mean, error = restricted_mean(steps, observed[-1])
    if not steps or steps[-1].survival:
        return Estimate(None, None, None, beyond=math.fsum(observed) / len(observed))
    t = student(len(observed) - 1)
    if error is None or t is None:
        return Estimate(mean, None, None)
    return Estimate(mean, mean - t * error, mean + t * error)


def student(freedom: int) -> float | None:
    """Student's 97.5 % quantile, to a hundredth; None below four degrees of freedom.

    The expansion is Abramowitz and Stegun's, Handbook of Mathematical Functions, 26.7.5.
    """
    if freedom < 4:  # noqa: PLR2004 - where the expansion, and the mean of so few, is no good
        return None
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / freedom + second / freedom**2 + third / freedom**3


def quantile_rank(n: int, p: float) -> int:
    """Which of n ordered values, counted from 1, is the p-quantile."""
    return max(1, math.ceil(n * p))


@lru_cache(maxsize=1024)  # a report asks for the same few again and again
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


@lru_cache(maxsize=1024)
def share(count: int, n: int) -> Share:
    """A part of a whole of independent members, with Clopper and Pearson's interval."""
    if n == 0:
        return Share(count=0, n=0, value=None, low=None, high=None)
    return Share(
        count=count,
        n=n,
        value=count / n,
        low=0.0 if count == 0 else _root(lambda p: _at_least(count, n, p) - TAIL),
        high=1.0 if count == n else _root(lambda p: TAIL - _at_least(n - count, n, 1 - p)),
    )


@dataclass(slots=True)
class Clusters:
    """A whole that comes in clusters: requests, of which a bad cycle spoils many at once.

    Sums are all that is kept of `n` clusters, of which each had a `size` and a `count` in it; they
    are whole numbers, so that the sums are exact.
    """

    n: int = 0
    count: int = 0
    size: int = 0
    count_squares: int = 0
    products: int = 0
    size_squares: int = 0
    worst: float = 0.0  # the largest part of a cluster

    def add(self, count: int, size: int) -> None:
        self.n += 1
        self.count += count
        self.size += size
        self.count_squares += count * count
        self.products += count * size
        self.size_squares += size * size
        self.worst = max(self.worst, count / size if size else 0.0)

    def include(self, other: Clusters) -> None:
        """Add another's clusters to these."""
        for name in ("n", "count", "size", "count_squares", "products", "size_squares"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.worst = max(self.worst, other.worst)

    def share(self) -> Share:
        """What part of the whole was counted.

        The cycles are what is independent, so the variance is that from cycle to cycle (Cochran,
        Sampling Techniques, 3rd ed., 2.11), and the interval symmetric in the logarithm, for it
        must not go below zero. If nothing was counted in n cycles, then with 97.5 % at most the
        part 1 - 0.025^(1/n) of all cycles has any, and no more than that part of all requests, if
        those cycles are as large as others. Nor can more cycles be excluded of which each is as bad
        as the worst that was seen: the bound is no less.
        """
        count, size, n = self.count, self.size, self.n
        value, low, high = count / size if size else None, None, None
        t = student(n - 1)
        unseen = 1 - TAIL ** (1 / n) if n else 1.0
        if value == 0:
            low, high = 0.0, unseen
        elif value is not None and t is not None:
            part = Fraction(count, size)
            squares = self.count_squares - 2 * part * self.products + part**2 * self.size_squares
            spread = math.exp(t * math.sqrt(squares * n / (n - 1)) / count)
            low, high = value / spread, min(1.0, max(value * spread, unseen * self.worst))
        return Share(count=count, n=size, value=value, low=low, high=high)


def ratio(counts: Iterable[int], sizes: Iterable[int]) -> Share:
    """What part of clusters of these sizes was counted."""
    clusters = Clusters()
    for count, size in zip(counts, sizes, strict=True):
        clusters.add(count, size)
    return clusters.share()


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
