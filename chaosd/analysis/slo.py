"""Objectives held against what was measured: kept, broken, or not to be told. Pure.

An objective is judged by its number's 95 % interval, not by the number: it is kept if all of the
interval is on the right side of the target, and broken if none of it is. In between nobody knows,
and more cycles would tell. A number has to come from `min_cycles` cycles at least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from chaosd.analysis.statistics import QUANTILES, TAIL, Estimate, Share, share
from chaosd.analysis.tally import Totals

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"
# What a duration's objective is about, its error bar, and whether that reaches up, too: the first
# good answer is never taken to be too early, an outage is as often too short as too long.
DURATIONS = {
    "recovery": ("recovery_s", "resolution_s", False),
    "stable_recovery": ("stable_recovery_s", "resolution_s", False),
    "outage": ("outage_gap_s", "outage_resolution_s", True),
}
CYCLES = ("anomalies", "censored")  # shares of cycles
REQUESTS = {"failed": "failed_share", "masked": "masked_share", "misrouted": "misrouted_share"}


class WhyKind(StrEnum):
    """Why an objective is broken, or why that is unknown: a closed list."""

    ABOVE = "above"  # all of its interval is above the target
    BELOW = "below"
    SOME = "some"  # `count` of `total` where none should be
    TOO_FEW = "too-few"  # `count` cycles of `total` that are asked for
    BOUND_NEEDS = "bound-needs"  # its upper bound takes `total` cycles
    NO_BOUND = "no-bound"  # its upper bound is not known
    WITHIN_BAR = "within-bar"  # the target is within its error bar
    WITHIN_INTERVAL = "within-interval"
    NOTHING_COUNTED = "nothing-counted"
    FEW_CLUSTERS = "few-clusters"  # its interval takes two cycles
    NOTHING_BAD = "nothing-bad"  # seen, but it takes `total` cycles to say so of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why an objective is not kept, with its numbers."""

    kind: WhyKind
    count: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One objective: what was asked, what was found in `n` cycles, and what that comes to."""

    name: str
    unit: str  # `s`, or `share`: a part of one
    at_least: bool  # the target is a lower bound
    target: float
    value: float | None
    low: float | None
    high: float | None
    beyond: float | None  # where the value is unknown, it is more than this
    n: int
    min_cycles: int
    result: str
    why: Why | None = None  # of what is not ok
    seems: str | None = None  # what the result would be if the measurement were good


def judge(
    wanted: Mapping[str, Mapping[str, Any]],
    whole: Totals,
    faults: Mapping[str, Totals],
    availability: Share,
    *,
    poor: bool,
) -> Iterator[Objective]:
    """Each objective of `wanted`, its name → `target`, `min_cycles` and perhaps `fault`, in order.

    Nothing is kept or broken if the measurement is `poor`.
    """
    for name, goal in wanted.items():
        label = goal.get("fault")
        part = whole if label is None else faults[label]
        found = _found(name, part, availability, goal["target"], goal["min_cycles"])
        if poor:
            found = replace(found, result=UNKNOWN, seems=found.result)
        yield found


def verdict(doubts: Sequence[object], objectives: tuple[Objective, ...]) -> str:
    """A poor measurement can't even be trusted where it says fail; one broken objective is enough.

    Otherwise what is not known outranks what is ok.
    """
    results = {objective.result for objective in objectives}
    if not doubts and FAIL in results:
        return FAIL
    return UNKNOWN if doubts or UNKNOWN in results else OK


def cycles_needed(name: str, target: float = 0.0) -> int:
    """How many cycles it takes at least until an objective can be kept: until its bound is there.

    A quantile's does not depend on the target, a share of cycles' is within it from then on.
    """
    what = name.rpartition(": ")[2]
    if (p := QUANTILES.get(what.rpartition("_")[2])) is not None:
        return _excluded_by(1 - p)
    return _excluded_by(target) if what in CYCLES else 1


def _excluded_by(part: float) -> int:
    """How many cycles, of which none was so, exclude that more than this part of all are so."""
    return math.ceil(math.log(TAIL) / math.log1p(-part)) if 0 < part < 1 else 1


def _found(
    title: str, part: Totals, availability: Share, target: float, min_cycles: int
) -> Objective:
    name = title.rpartition(": ")[2]
    what, _, quantile = name.rpartition("_")
    if what in DURATIONS:
        field, bar, up = DURATIONS[what]
        quantiles, bar_s = getattr(part, field), getattr(part, bar) or 0.0
        estimate, n = getattr(quantiles, quantile), quantiles.n
        result, why = _duration(estimate, target, bar_s, bar_s if up else 0.0)
        if estimate.high is None and result == UNKNOWN and n < (needed := cycles_needed(name)):
            why = Why(kind=WhyKind.BOUND_NEEDS, total=needed)
        unit, at_least = "s", False
    else:
        counted, n = _counted(name, part, availability)
        estimate = Estimate(counted.value, counted.low, counted.high)
        unit, at_least = "share", name == "availability"
        result, why = _share(counted, target, at_least=at_least)
    surely = result == FAIL and unit == "share" and _is_nothing(target, at_least=at_least)
    if n < min_cycles and not surely:
        result, why = UNKNOWN, Why(kind=WhyKind.TOO_FEW, count=n, total=min_cycles)
    return Objective(
        name=title,
        unit=unit,
        at_least=at_least,
        target=target,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        beyond=estimate.beyond,
        n=n,
        min_cycles=min_cycles,
        result=result,
        why=why,
    )


def _counted(name: str, part: Totals, availability: Share) -> tuple[Share, int]:
    """A share, and of how many cycles it is."""
    if name == "availability":
        return availability, part.failovers
    if name == "censored":
        return share(part.outcomes["censored"], part.failovers), part.failovers
    if name == "anomalies":
        return share(part.in_band.n - part.in_band.count, part.in_band.n), part.in_band.n
    found: Share = getattr(part, REQUESTS[name])
    return found, part.failovers


def _duration(found: Estimate, target: float, down_s: float, up_s: float) -> tuple[str, Why | None]:
    if found.high is not None and found.high + up_s <= target:
        return OK, None
    if found.low is not None and found.low - down_s > target:
        return FAIL, Why(kind=WhyKind.ABOVE)
    if found.high is None:
        return UNKNOWN, Why(kind=WhyKind.NO_BOUND)
    if (found.low is not None and found.low > target) or found.high <= target:
        return UNKNOWN, Why(kind=WhyKind.WITHIN_BAR)
    return UNKNOWN, Why(kind=WhyKind.WITHIN_INTERVAL)


def _share(found: Share, target: float, *, at_least: bool) -> tuple[str, Why | None]:
    """Where nothing bad is allowed, to have seen nothing is good enough: no number of cycles is."""
    bad = found.n - found.count if at_least else found.count
    if not found.n:
        return UNKNOWN, Why(kind=WhyKind.NOTHING_COUNTED)
    if _is_nothing(target, at_least=at_least):
        if not bad:
            return OK, None
        return FAIL, Why(kind=WhyKind.SOME, count=bad, total=found.n)
    if found.low is None or found.high is None:
        return UNKNOWN, Why(kind=WhyKind.FEW_CLUSTERS)
    if found.low >= target if at_least else found.high <= target:
        return OK, None
    if found.high < target if at_least else found.low > target:
        return FAIL, Why(kind=WhyKind.BELOW if at_least else WhyKind.ABOVE)
    if not bad:
        needed = _excluded_by(1 - target if at_least else target)
        return UNKNOWN, Why(kind=WhyKind.NOTHING_BAD, total=needed)
    return UNKNOWN, Why(kind=WhyKind.WITHIN_INTERVAL)


def _is_nothing(target: float, *, at_least: bool) -> bool:
    """Whether nothing bad at all is allowed: one is too many, however few cycles there were."""
    return target == 1 if at_least else target == 0
