"""Intervals that hold at every look: confidence sequences. Pure.

If you look after each cycle, and stop when the interval is narrow enough, an interval that holds
at one look only is wrong too often. These hold at all looks together: with 95 % none of them is
wrong, ever. That is Ville's inequality: a non-negative martingale that begins at 1 reaches 1/alpha
with probability alpha at most (Ville 1939; Ramdas, Grünwald, Vovk and Shafer, Statistical Science
38(4), 2023).

A quantile's needs no assumption about the distribution; what was never seen to end counts as
longer than all. A mean's is exact for a normal distribution, and an approximation for others, to
which a correction is made for what is too rare to have been seen.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from chaosd.analysis.statistics import Estimate, quantile_rank

ALPHA = 0.05  # of the probability that the interval is ever wrong
PRIOR = 0.5  # both parameters of the beta distribution over which alternatives are mixed
MEAN_MIN = 5  # values, below which nothing is said of a mean
P95_MIN = 90  # values, below which p95 has no upper bound


@lru_cache(maxsize=100_000)
def log_evidence(successes: int, n: int, p: float) -> float:
    """The logarithm of the evidence that more than the part `p` of trials are successes.

    If `p` or less of them are, whatever the order, the evidence is a supermartingale: it ever
    reaches 1/alpha with probability alpha at most. It is the likelihood of the trials, averaged
    over parts beyond `p` by a beta distribution, divided by their likelihood at `p` (Robbins,
    Annals of Mathematical Statistics 41(5), 1970, 1397-1409; one-sided as in Howard, Ramdas,
    McAuliffe and Sekhon, Annals of Statistics 49(2), 2021, 1055-1080).
    """
    from scipy import special

    a, b = successes + PRIOR, n - successes + PRIOR
    beyond = float(special.betaincc(a, b, p))
    if not beyond:
        return -math.inf
    before = float(special.betaln(PRIOR, PRIOR) + math.log(special.betaincc(PRIOR, PRIOR, p)))
    mixed = float(special.betaln(a, b)) + math.log(beyond) - before
    return mixed - successes * math.log(p) - (n - successes) * math.log1p(-p)


@lru_cache(maxsize=10_000)
def successes_needed(n: int, p: float, alpha: float) -> int | None:
    """The least of `n` trials to succeed for evidence of 1/alpha; None if not even all would do."""
    wanted = -math.log(alpha)
    found = bisect_left(range(n + 1), wanted, key=lambda k: log_evidence(k, n, p))
    return found if found <= n else None


def ranks(n: int, p: float, alpha: float = ALPHA) -> tuple[int | None, int | None]:
    """The ranks, from 1, of the two of `n` values between which the p-quantile lies at every look.

    How many values are below a quantile is a count of trials (Howard and Ramdas, Sequential
    estimation of quantiles, Bernoulli 28(3), 2022, 1704-1728). None where no value is far enough
    out: the upper rank of p95 takes 90 values.
    """
    upper = successes_needed(n, p, alpha / 2)
    beyond = successes_needed(n, 1 - p, alpha / 2)
    return None if beyond is None else n - beyond + 1, upper


def quantile(
    values: Sequence[float], censored: Sequence[float], p: float, alpha: float = ALPHA
) -> Estimate:
    """The p-quantile with its always-valid interval.

    `censored` are those of which only this is known: that they are larger. The lower bound takes
    each to have ended there and then, the upper one to have no end.
    """
    known, least = sorted(values), sorted([*values, *censored])
    n = len(least)
    if not n:
        return Estimate(None, None, None)

    def at(rank: int | None) -> float | None:
        return known[rank - 1] if rank is not None and rank <= len(known) else None

    rank, (low, high) = quantile_rank(n, p), ranks(n, p, alpha)
    value = at(rank)
    if value is not None and min(censored, default=math.inf) < value:
        value = None  # what was cut short before may belong before it, or behind
    return Estimate(
        value,
        None if low is None else least[low - 1],
        at(high),
        beyond=least[rank - 1] if value is None else None,
    )


def mean(values: Sequence[float], alpha: float = ALPHA, *, worst: float | None = None) -> Estimate:
    """The mean with its always-valid interval; no bounds below five values.

    Student's t against a mixture of effect sizes, normal with variance 1 (the scale-invariant
    martingale of Lai, Annals of Statistics 4(2), 1976; Hendriksen, de Heide and Grünwald, Bayesian
    Analysis 16(3), 2021, show that it may be looked at as often as one likes). With `worst`, values
    are never negative, and one may be so large: the upper bound is no less than what values of this
    size would add that are too rare to have been seen.
    """
    n = len(values)
    if not n:
        return Estimate(None, None, None)
    value = math.fsum(values) / n
    if n < MEAN_MIN or not math.isfinite(value):
        return Estimate(value if math.isfinite(value) else None, None, None)
    spread = math.fsum((each - value) ** 2 for each in values) / (n - 1)
    t = student(n, alpha)
    if t is None:
        return Estimate(value, None, None)
    half = t * math.sqrt(spread / n)
    low, high = value - half, value + half
    if worst is not None:
        low, high = max(0.0, low), max(high, unseen(n, alpha) * max(worst, *values))
    return Estimate(value, low, high)


def student(n: int, alpha: float = ALPHA) -> float | None:
    """How many standard errors the mean of `n` values is ever away; None if there is no limit."""
    freedom, ratio = n - 1, 1 / (n + 1)
    reach = (1 / (alpha * math.sqrt(ratio))) ** (2 / n)
    if freedom < 1 or ratio * reach >= 1:
        return None
    return math.sqrt(freedom * (reach - 1) / (1 - ratio * reach))


def unseen(n: int, alpha: float = ALPHA) -> float:
    """The largest part of all values of which it may be that none is among `n`, at every look.

    Robbins' mixture, as in `log_evidence`, of all parts from 0 to 1.
    """
    log_beta = math.lgamma(0.5) + math.lgamma(n + 0.5) - math.lgamma(n + 1)
    return -math.expm1((math.log(alpha / math.pi) + log_beta) / n)
