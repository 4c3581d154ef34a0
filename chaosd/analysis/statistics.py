"""Quantiles, means and shares with their confidence intervals; no assumption about any shape.

All intervals have 95 %. A quantile's interval is made of order statistics (binomial, exact), so it
holds for any distribution; where there are too few values for a bound, that bound is None. Only
where values were cut short amid the others is it one of Kaplan and Meier's curve (survival.py).

scipy is imported where it is used: that takes a third of a second, which nobody should wait for
who has no report to read, and least of all a run in the middle of a cycle.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from chaosd.analysis.survival import Step, kaplan_meier, quantile, restricted_mean

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
    least = 0.0 if observed[0] >= 0 else -math.inf  # a mean of durations is none below zero
    return Estimate(mean, max(least, mean - t * error), mean + t * error)


@lru_cache(maxsize=1024)
def student(freedom: int) -> float | None:
    """Student's 97.5 % quantile for so many degrees of freedom; None below one."""
    from scipy import special

    return float(special.stdtrit(freedom, 1 - TAIL)) if freedom > 0 else None


def quantile_rank(n: int, p: float) -> int:
    """Which of n ordered values, counted from 1, is the p-quantile."""
    return max(1, math.ceil(n * p))


@lru_cache(maxsize=1024)  # a report asks for the same few again and again
def interval_ranks(n: int, p: float) -> tuple[int | None, int | None]:
    """The ranks of the two values between which the p-quantile lies.

    Either is None if not even the smallest, or the largest, of n values is far enough out.
    """
    # The number of values below the quantile is binomial; so is that of values above it.
    low, high = _within_tail(n, p), _within_tail(n, 1 - p)
    return low or None, n + 1 - high if high else None


def _within_tail(n: int, p: float) -> int:
    """How many of the least numbers of successes in n trials are together no likelier than TAIL."""
    from scipy import special

    return bisect_right(range(n + 1), TAIL, key=lambda k: float(special.bdtr(k, n, p)))


@lru_cache(maxsize=1024)
def share(count: int, n: int) -> Share:
    """A part of a whole of independent members, with Clopper and Pearson's interval.

    Its bounds are quantiles of beta distributions (Johnson, Kotz and Kemp, Univariate Discrete
    Distributions, 2nd ed., 3.7.2).
    """
    if n == 0:
        return Share(count=0, n=0, value=None, low=None, high=None)
    from scipy import special

    others = n - count
    return Share(
        count=count,
        n=n,
        value=count / n,
        low=float(special.betaincinv(count, others + 1, TAIL)) if count else 0.0,
        high=float(special.betaincinv(count + 1, others, 1 - TAIL)) if others else 1.0,
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


def mean_part(parts: Sequence[int], whole: int, unit: float = 1.0) -> Estimate:
    """The mean of independent parts of which none can be above `whole`, times `unit`.

    The interval is that of `Clusters.share`. Unknown if `whole` is 0.
    """
    found = ratio(parts, [whole] * len(parts))
    numbers = (found.value, found.low, found.high)
    return Estimate(*(None if part is None else part * whole * unit for part in numbers))


def ratio(counts: Iterable[int], sizes: Iterable[int]) -> Share:
    """What part of clusters of these sizes was counted."""
    clusters = Clusters()
    for count, size in zip(counts, sizes, strict=True):
        clusters.add(count, size)
    return clusters.share()
