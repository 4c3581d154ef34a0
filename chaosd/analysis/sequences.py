"""Intervals that hold at every look: confidence sequences. Pure.

If you look after each cycle, and stop when the interval is narrow enough, an interval that holds
at one look only is wrong too often. These hold at all looks together: with 95 % none of them is
wrong, ever. That is Ville's inequality: a non-negative martingale that begins at 1 reaches 1/alpha
with probability alpha at most (Ville 1939; Ramdas, Grünwald, Vovk and Shafer, Statistical Science
38(4), 2023).

None needs an assumption about the distribution, but one: a mean takes a bound of what is possible.
What was never seen to end counts as longer than all in a quantile.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from chaosd.analysis.statistics import Estimate, quantile_rank

ALPHA = 0.05  # of the probability that the interval is ever wrong
PRIOR = 0.5  # both parameters of the beta distribution over which alternatives are mixed
BETS = 12  # gamblers
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


def mean(
    values: Sequence[float], alpha: float = ALPHA, *, least: float = 0.0, most: float
) -> Estimate:
    """The mean with its always-valid interval, of values that are all within `least` and `most`.

    Such bounds there must be: whatever was seen, the mean of all that is still to come may be
    anything, if one value in a thousand may be anything. A gambler bets on each value against a
    mean of m; if he gets too rich, the mean is another (Waudby-Smith and Ramdas, Estimating means
    of bounded random variables by betting, Journal of the Royal Statistical Society B 86(1), 2024,
    1-27). His capital is the mean of that of several gamblers, who always bet the same part.
    """
    import numpy as np

    if not len(values):
        return Estimate(None, None, None)
    some = np.clip(np.asarray(values, dtype=float), least, most)
    low = least + _at_least(some - least, alpha / 2)
    high = most - _at_least(most - some, alpha / 2)
    return Estimate(float(some.mean()), low, high)


def _at_least(values: Any, alpha: float) -> float:
    """What the mean of values that are not negative is more than, to one part in 5,000."""
    import numpy as np

    bets = (np.arange(BETS) + 0.5)[:, None] / BETS
    low, high = 0.0, float(values.mean())
    for _ in range(3):  # capital falls with m: the place where it falls below 1/alpha
        steps = np.linspace(low, high, 18)
        odds = values / np.maximum(steps[1:-1, None, None], np.finfo(float).tiny) - 1
        logs = np.log1p(bets * odds).sum(axis=2)
        most = logs.max(axis=1)
        capital = most + np.log(np.exp(logs - most[:, None]).mean(axis=1))
        rich = int((capital >= -math.log(alpha)).sum())
        low, high = float(steps[rich]), float(steps[rich + 1])
    return low
