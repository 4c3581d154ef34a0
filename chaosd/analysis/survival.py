"""Kaplan and Meier's curve: what is known of a distribution of which some values were cut short.

A cycle that was given up has taken longer than that; how much longer, nobody knows. The curve
counts it among those at risk up to then, and not from then on. It is right if being given up has
nothing to do with how long it would have taken, as with a limit or with a daemon that is stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

Z = 1.959963984540054  # the standard normal distribution's 97.5 % quantile
_ROUNDING = 1e-9  # of a product of many factors


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From `time` on, up to the next step, the part `survival` of all takes longer.

    `low` and `high` are its pointwise 95 % interval; None where nobody is left, of whom nothing
    could be learned.
    """

    time: float
    at_risk: int
    events: int
    survival: float
    low: float | None
    high: float | None


def kaplan_meier(values: Iterable[float], censored: Iterable[float]) -> list[Step]:
    """The curve, a step for each distinct value. A value censored at an instant outlives it.

    Its variance is Greenwood's, and its interval that of log(-log S), which never leaves 0 to 1
    (Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 1980, chapter 1).
    """
    observed = sorted([*((value, 0) for value in values), *((value, 1) for value in censored)])
    at_risk, survival, greenwood = len(observed), 1.0, 0.0
    steps = []
    for (time, is_censored), group in groupby(observed):
        count = sum(1 for _ in group)
        if not is_censored:
            left = at_risk - count
            survival *= left / at_risk
            low = high = None
            if left:
                greenwood += count / (at_risk * left)
                spread = Z * math.sqrt(greenwood) / math.log(survival)
                low, high = (survival ** math.exp(sign * spread) for sign in (-1, 1))
            steps.append(
                Step(
                    time=time,
                    at_risk=at_risk,
                    events=count,
                    survival=survival,
                    low=low,
                    high=high,
                )
            )
        at_risk -= count
    return steps


def quantile(steps: Sequence[Step], p: float) -> tuple[float | None, float | None, float | None]:
    """The p-quantile and its 95 % interval: where the curve, and its band, come down to 1 - p.

    That is Brookmeyer and Crowley's interval (Biometrics 38, 1982, 29-41). None for what the curve,
    or the band's upper side, never comes down to; if its lower side never does, the quantile is
    beyond the last step.
    """
    rest = 1 - p + _ROUNDING

    def first(survivals: Iterable[float | None]) -> float | None:
        pairs = zip(steps, survivals, strict=True)
        return next((step.time for step, s in pairs if s is not None and s <= rest), None)

    # Where nobody is left, the band's lower side is down there too; its upper one is unknown.
    lows = (0.0 if step.low is None else step.low for step in steps)
    low = first(lows)
    if low is None and steps:
        low = steps[-1].time
    return first(step.survival for step in steps), low, first(step.high for step in steps)


def restricted_mean(steps: Sequence[Step], until: float) -> tuple[float, float | None]:
    """The mean of what each takes, or `until` if that is less, and its standard error.

    The area below the curve (Klein and Moeschberger, Survival Analysis, 2nd ed., 4.5.2); without
    anybody censored that is the mean, and its error the usual one.
    """
    times = [0.0, *(step.time for step in steps), until]
    heights = [1.0, *(step.survival for step in steps)]
    widths = [right - left for left, right in pairwise(times)]
    areas = [width * height for width, height in zip(widths, heights, strict=True)]
    whole = math.fsum(areas)
    events = sum(step.events for step in steps)
    if events < 2:  # noqa: PLR2004 - one value has no spread
        return whole, None
    variance, after = 0.0, whole
    for step, area in zip(steps, areas, strict=False):
        after -= area
        if left := step.at_risk - step.events:
            variance += after**2 * step.events / (step.at_risk * left)
    return whole, math.sqrt(variance * events / (events - 1))
