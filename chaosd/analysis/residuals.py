"""How far a prediction is from what was observed: residuals, and whether its distribution holds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from chaosd.analysis.statistics import student
from chaosd.history.cycles import Prediction

PLACES_MIN = 8  # fewer say nothing of a distribution
BAR_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """Observed less predicted mean, in seconds, over `n` recoveries.

    `low_s` and `high_s` are the 95 % interval of the mean (Student's). `uniform_p` is how likely
    recoveries of the predicted distribution would be spread at least as unevenly over it
    (Kolmogorov-Smirnov).
    """

    n: int
    mean_s: float | None
    low_s: float | None
    high_s: float | None
    uniform_p: float | None


def against(
    predicted: Prediction | None, recovery_s: float | None, resolution_s: float | None
) -> tuple[float | None, float | None]:
    """A recovery's residual, and its place in the predicted distribution; None where unknown."""
    if predicted is None or recovery_s is None or resolution_s is None:
        return None, None
    # To the nanosecond, as everything that is measured.
    residual_s = round(recovery_s - predicted.mean_s, 9)
    share = place(predicted, recovery_s, resolution_s)
    return residual_s, None if share is None else round(share, 6)


def place(predicted: Prediction, recovery_s: float, resolution_s: float) -> float | None:
    """Which part of the predicted distribution is shorter than this recovery: uniform if all holds.

    A recovery is never measured too short, and too long by as much as its error bar: the truth is
    anywhere in there, so the place is averaged over it. That matters where a distribution has lumps
    (a proxy that has switched before the app listens recovers when that listens). None without a
    distribution.
    """
    if predicted.quantiles_s is None:
        return None
    step_s = resolution_s / BAR_STEPS
    places = (
        share_below(predicted, recovery_s - (step + 0.5) * step_s) for step in range(BAR_STEPS)
    )
    return math.fsum(places) / BAR_STEPS


def share_below(predicted: Prediction, value_s: float) -> float:
    """The predicted distribution: straight lines between the quantiles that are known."""
    known = [(predicted.lower_s, 0.0)]
    known += [(at_s, int(name[1:]) / 100) for name, at_s in (predicted.quantiles_s or {}).items()]
    known.append((predicted.upper_s, 1.0))
    if value_s < known[0][0]:
        return 0.0
    for (low_s, low), (high_s, high) in itertools.pairwise(known):
        if value_s < high_s:
            return low + (high - low) * (value_s - low_s) / (high_s - low_s)
    return 1.0


def residuals(values_s: Sequence[float], places: Sequence[float]) -> Residuals:
    """Fold the residuals and places of many recoveries."""
    n = len(values_s)
    mean_s = math.fsum(values_s) / n if n else None
    low_s = high_s = None
    if mean_s is not None and (t := student(n - 1)) is not None:
        variance = math.fsum((value - mean_s) ** 2 for value in values_s) / (n - 1)
        half_s = t * math.sqrt(variance / n)
        low_s, high_s = mean_s - half_s, mean_s + half_s
    return Residuals(
        n=n, mean_s=mean_s, low_s=low_s, high_s=high_s, uniform_p=uniform_p(sorted(places))
    )


def uniform_p(ordered: Sequence[float]) -> float | None:
    """Kolmogorov and Smirnov's test of sorted values against the uniform distribution of 0 to 1.

    The asymptotic distribution with Stephens' correction for few values (Journal of the Royal
    Statistical Society B 32, 1970, 115-122): within 0.025 of the exact p from 8 values on. None for
    fewer.
    """
    n = len(ordered)
    if n < PLACES_MIN:
        return None
    from scipy import special

    most = max(max((k + 1) / n - value, value - k / n) for k, value in enumerate(ordered))
    return float(special.kolmogorov(most * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))))
