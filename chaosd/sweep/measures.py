"""What each objective is: the number of a cycle, of a prediction, and of all cycles of an arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from chaosd.analysis import sequences
from chaosd.analysis.statistics import Estimate
from chaosd.sweep.values import Foretold, Objective, Results, Seen

MARGIN_SHARE = 0.05  # by which two arms may differ and be as good as each other
BLOCKS_MIN = 5  # of an arm under each fault, below which nothing is said of it
P = 0.95  # of the recovery
REACH = 2.0  # times the largest that was seen: nothing is taken to be larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How an objective is read: by cycle (None: nobody counted), and as the model foretells it."""

    of_seen: Callable[[Seen], float | None]
    of_foretold: Callable[[Foretold], float]
    unit: str
    floor: float  # in `unit`: what differs by less is as good, however small both are
    decimals: int = 2
    pooled: bool = False  # the fault has no part in it: all are taken together
    alike: bool = True  # what is foretold is of the same time as what is seen, and is held to it

    def margin(self, value: float) -> float:
        """By how much another arm may differ from `value` and be as good."""
        return max(self.floor, MARGIN_SHARE * value) if math.isfinite(value) else math.inf


MEASURES: Mapping[Objective, Measure] = {
    Objective.RECOVERY_P95: Measure(
        of_seen=lambda seen: math.inf if seen.recovery_s is None else seen.recovery_s,
        of_foretold=lambda foretold: foretold.recovery_p95_s,
        unit="s",
        floor=0.02,
    ),
    Objective.FAILED: Measure(
        of_seen=lambda seen: seen.failed_s,
        of_foretold=lambda foretold: foretold.failed_s,
        unit="s",
        floor=0.02,
    ),
    Objective.MISROUTED: Measure(
        of_seen=lambda seen: seen.misrouted_s,
        of_foretold=lambda foretold: foretold.misrouted_s,
        unit="s",
        floor=0.02,
    ),
    Objective.DNS_QUERIES: Measure(
        of_seen=lambda seen: seen.rest_queries_per_s,
        of_foretold=lambda foretold: foretold.rest_queries_per_s,
        unit="/s",
        floor=0.05,
        pooled=True,
    ),
    Objective.DNS_TROUBLE: Measure(
        of_seen=lambda seen: seen.trouble_queries_per_s,
        of_foretold=lambda foretold: foretold.trouble_queries_per_s,
        unit="/s",
        floor=0.05,
        alike=False,  # until the name is as it will be, and not until the cycle ends
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """An objective of an arm, with its always-valid interval, under the worst fault."""

    estimate: Estimate
    n: int  # cycles that it is made of
    fault: str | None  # the worst; None where the fault has no part in it, or nothing was seen

    @property
    def value(self) -> float | None:
        """The number, infinite where it is beyond what was waited for."""
        if self.estimate.value is None and self.estimate.beyond is not None:
            return math.inf
        return self.estimate.value


def measured(
    objective: Objective,
    by_fault: Mapping[str, Sequence[Seen]],
    alpha: float | None = sequences.ALPHA,
) -> Measured:
    """The objective of one arm; of several faults the worst. Without `alpha` it has no interval.

    The largest of several is between the largest of their bounds, each of which has its share of
    `alpha`.
    """
    measure = MEASURES[objective]
    if measure.pooled:
        everything = [seen for some in by_fault.values() for seen in some]
        found, n = _estimate(objective, everything, alpha)
        return Measured(estimate=found, n=n, fault=None)
    each = {
        fault: _estimate(objective, some, None if alpha is None else alpha / len(by_fault))
        for fault, some in by_fault.items()
    }
    each = {fault: (found, n) for fault, (found, n) in each.items() if n}
    if not each:
        return Measured(estimate=Estimate(None, None, None), n=0, fault=None)
    parts = {fault: Measured(estimate=e, n=n, fault=fault) for fault, (e, n) in each.items()}
    worst = max(parts.values(), key=lambda part: math.inf if part.value is None else part.value)
    lows = [found.low for found, _ in each.values() if found.low is not None]
    highs = [found.high for found, _ in each.values()]
    known = [high for high in highs if high is not None]
    estimate = Estimate(
        worst.estimate.value,
        max(lows, default=None),
        max(known) if len(known) == len(by_fault) else None,
        beyond=worst.estimate.beyond,
    )
    return Measured(estimate=estimate, n=sum(n for _, n in each.values()), fault=worst.fault)


def _estimate(
    objective: Objective, some: Sequence[Seen], alpha: float | None
) -> tuple[Estimate, int]:
    if objective is Objective.RECOVERY_P95:
        return recovery(some, P, alpha or sequences.ALPHA), len(some)
    values = [value for seen in some if (value := MEASURES[objective].of_seen(seen)) is not None]
    if alpha is None and values:
        return Estimate(math.fsum(values) / len(values), None, None), len(values)
    return mean(objective, some, alpha or sequences.ALPHA), len(values)


def mean(objective: Objective, some: Sequence[Seen], alpha: float = sequences.ALPHA) -> Estimate:
    """The mean of an objective.

    Times are taken to be no longer than twice the longest recovery seen, and rates no farther from
    those seen than these are from each other.
    """
    values = [value for seen in some if (value := MEASURES[objective].of_seen(seen)) is not None]
    if not values:
        return Estimate(None, None, None)
    if MEASURES[objective].unit == "s":
        return sequences.mean(values, alpha, most=REACH * longest(objective, some))
    low, high = min(values), max(values)
    return sequences.mean(values, alpha, least=max(0.0, 2 * low - high), most=2 * high - low)


def difference(
    objective: Objective, values: Sequence[float], longest_s: float, alpha: float = sequences.ALPHA
) -> Estimate:
    """The mean of differences between two arms.

    They are taken to be no larger than twice the largest that was seen, nor than `longest_s`, the
    longest recovery of either arm.
    """
    reach = REACH * max(map(abs, values), default=0.0)
    if MEASURES[objective].unit == "s":
        reach = min(reach, longest_s) or longest_s
    return sequences.mean(values, alpha, least=-reach, most=reach)


def longest(objective: Objective, some: Iterable[Seen]) -> float:
    """The largest number seen; of what fails or is misrouted: what a recovery took, if longer."""
    read, is_time = MEASURES[objective].of_seen, MEASURES[objective].unit == "s"
    values = [value for seen in some if (value := read(seen)) is not None]
    lasted = [s.limit_s if s.recovery_s is None else s.recovery_s for s in some if is_time]
    return max((value for value in (*values, *lasted) if math.isfinite(value)), default=0.0)


def recovery(some: Sequence[Seen], p: float, alpha: float = sequences.ALPHA) -> Estimate:
    """A quantile of the recovery, s."""
    known = [seen.recovery_s for seen in some if seen.recovery_s is not None]
    censored = [seen.limit_s for seen in some if seen.recovery_s is None]
    return sequences.quantile(known, censored, p, alpha)


def foretold(
    every: Mapping[tuple[str, str], Foretold],
    key: str,
    faults: Sequence[str],
    objective: Objective,
) -> float | None:
    """What the model says of an arm, under the worst fault; None where it does not reach one."""
    found = [every.get((key, fault)) for fault in faults]
    values = [MEASURES[objective].of_foretold(each) for each in found if each is not None]
    return max(values) if values and len(values) == len(found) else None


def by_arm(results: Results, *, fresh: bool = False) -> dict[str, dict[str, list[Seen]]]:
    """What was seen of each arm under each fault, by block; the fresh blocks are kept apart."""
    found: dict[str, dict[str, list[Seen]]] = {}
    for seen in sorted(results.seen, key=lambda each: each.block):
        if seen.fresh is fresh:
            faults = found.setdefault(seen.arm, {fault: [] for fault in results.faults})
            faults.setdefault(seen.fault, []).append(seen)
    return found
