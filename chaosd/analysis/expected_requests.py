"""What requests came to in a cycle, beside what the proxy's algorithm gives for them. Pure.

The report and a cycle's sentence use these very functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaosd.analysis.statistics import Share, share, student
from chaosd.history.cycles import Cycle, CycleOutcome

LOST = ("failed", "misrouted")
# What an observed count may differ from the predicted ones by, and no harm done: a request at each
# end of a stretch of bad ones, of which there are two at most as a rule, and the kernel's work.
_ENDS, _LATE_S = 2, 0.010


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Requests of one kind in one cycle: counts, the predicted ones as a mean and a band."""

    observed: int
    lower: float
    mean: float
    upper: float
    margin: float  # by so many an observed count may lie outside

    @property
    def is_inside(self) -> bool:
        return self.lower - self.margin <= self.observed <= self.upper + self.margin


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTotals:
    """The same over `n` cycles: means of a cycle, and how many lie in their bands."""

    n: int
    observed_mean: float | None
    predicted_mean: float | None
    # Of observed less predicted, the 95 % interval of its mean (Student's).
    difference_low: float | None
    difference_high: float | None
    inside: Share


def expected(cycle: Cycle) -> dict[str, Expected]:
    """By kind; empty where the cycle has no prediction of its requests."""
    predicted, interval_s = cycle.predicted, cycle.interval_s
    told = cycle.outcome in (CycleOutcome.RECOVERED, CycleOutcome.CENSORED)
    if predicted is None or not interval_s or cycle.resolution_s is None or not told:
        return {}
    spreads = {
        "failed": predicted.failed_s,
        "misrouted": predicted.misrouted_s,
        "masked": predicted.masked_s,
    }
    margin = (_ENDS * cycle.resolution_s + _LATE_S) / interval_s + cycle.dropped
    return {
        kind: Expected(
            observed=getattr(cycle, kind),
            lower=spread["lower"] / interval_s,
            mean=spread["mean"] / interval_s,
            upper=spread["upper"] / interval_s,
            margin=margin,
        )
        for kind, spread in spreads.items()
        if spread is not None and {"lower", "mean", "upper"} <= spread.keys()
    }


def surprises(cycle: Cycle) -> list[str]:
    """The kinds of lost requests of which there were more or fewer than predicted."""
    return [kind for kind, one in expected(cycle).items() if kind in LOST and not one.is_inside]


def fold(cycles: Mapping[str, Sequence[Expected]]) -> dict[str, ExpectedTotals]:
    """Over many cycles, by kind; a kind that no cycle has is left out."""
    return {kind: _fold(found) for kind, found in cycles.items() if found}


def _fold(found: Sequence[Expected]) -> ExpectedTotals:
    n = len(found)
    differences = [one.observed - one.mean for one in found]
    mean = math.fsum(differences) / n
    low = high = None
    if (t := student(n - 1)) is not None:
        variance = math.fsum((one - mean) ** 2 for one in differences) / (n - 1)
        half = t * math.sqrt(variance / n)
        low, high = mean - half, mean + half
    return ExpectedTotals(
        n=n,
        observed_mean=math.fsum(one.observed for one in found) / n,
        predicted_mean=math.fsum(one.mean for one in found) / n,
        difference_low=low,
        difference_high=high,
        inside=share(sum(one.is_inside for one in found), n),
    )
