"""Two runs held against each other: better, worse, the same, or not to be told. Pure.

Each run's numbers come with their own 95 % intervals, exact or Kaplan and Meier's, whatever the
shape and however many cycles were censored. The interval of a difference is made of the two by
Zou and Donner's method of variance estimates recovery (Statistics in Medicine 27, 2008, 1693-1702):
its lower limit is as far from the difference as the hypotenuse of the two distances that matter for
it, from B's number down to B's lower limit and from A's up to A's upper one. Nothing is drawn at
random, and a report.json is enough for a baseline.

Why not a permutation test or a bootstrap: docs/decisions/0007-statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any

from chaosd.analysis.statistics import Estimate, share
from chaosd.analysis.survival import Z

SAME, BETTER, WORSE, UNKNOWN = "same", "better", "worse", "unknown"
MARGIN, TOLERANCE = 0.20, 0.05  # of A's number
DECIDING = "recovery p95"  # it must be known to be the same; of the others no difference is shown
QUANTITIES = {DECIDING: "p95", "recovery p50": "p50", "recovery mean": "mean"}
# Of the requests of a failover, in seconds: a share of them would go by how long it was watched.
LOST = {"failed": "failed_s", "misrouted": "misrouted_s"}
# Of the failovers: what is never seen in one run can be no more than some part of the failovers,
# which says little of the requests.
SHARES = {
    "any failed": "failed_cycles",
    "any misrouted": "misrouted_cycles",
    "censored": "",
}
# The number that decides has its own 95 %; the others have that together (Bonferroni), so that to
# look at more of them does not find more differences where there are none.
OTHERS_WIDENED = (
    NormalDist().inv_cdf(1 - 0.025 / (len(QUANTITIES) - 1 + len(LOST) + len(SHARES))) / Z
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What is compared of a run."""

    name: str
    failovers: int
    numbers: dict[str, Estimate]
    resolution_s: float
    limit_s: float | None  # of a recovery; None if it is not known
    stable_for_s: float | None  # how long a failover is watched after its recovery
    doubts: tuple[str, ...]
    config: dict[str, Any]  # what it was made with, by path; empty if that is not known

    @classmethod
    def of(cls, report: Mapping[str, Any], part: Mapping[str, Any]) -> Side:
        """From a report as it is in report.json, and one of its parts: `total`, or a fault's."""
        outcomes = part["outcomes"]
        censored = share(outcomes["censored"], part["failovers"])
        settings = report["manifest"].get("settings", {})
        interval_s = _seconds(settings.get("interval_ns"))
        shares = {name: part.get(key) for name, key in SHARES.items() if key}
        return cls(
            name=report["run"],
            failovers=part["failovers"],
            numbers={
                **{name: _estimate(part["recovery_s"][key]) for name, key in QUANTITIES.items()},
                **{name: _lost(part, name, interval_s) for name in LOST},
                **{name: _estimate(found or {}) for name, found in shares.items()},
                "censored": Estimate(censored.value, censored.low, censored.high),
            },
            resolution_s=part["resolution_s"] or 0.0,
            limit_s=_seconds(settings.get("recovery_limit_ns")),
            stable_for_s=_seconds(settings.get("stable_for_ns")),
            doubts=tuple(report["doubts"]),
            config=report.get("config") or {},
        )


def _estimate(found: Mapping[str, Any]) -> Estimate:
    return Estimate(*(found.get(key) for key in ("value", "low", "high", "beyond")))


def _lost(part: Mapping[str, Any], name: str, interval_s: float | None) -> Estimate:
    """Seconds of such requests in a failover; by their share, in a report of an earlier chaosd.

    Then the interval is the share's, taken for as much as was sent in a failover in the mean.
    """
    if part.get(LOST[name]) is not None:
        return _estimate(part[LOST[name]])
    found, cycles = part.get(f"{name}_share") or {}, part.get(f"{name}_cycles") or {}
    sent, count = found.get("n"), cycles.get("n")
    if not interval_s or not sent or not count:
        return Estimate(None, None, None)
    numbers = (found[key] for key in ("value", "low", "high"))
    return Estimate(*(None if n is None else n * sent * interval_s / count for n in numbers))


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number of both runs; the difference is B's less A's, with its interval."""

    name: str
    unit: str  # `s`, or `share`
    a: Estimate
    b: Estimate
    difference: Estimate
    answer: str


class ReasonKind(StrEnum):
    """Why two runs compare as they do: a closed list."""

    DOUBT = "doubt"  # `side` says nothing: `detail` is the doubt as its report says it
    NUMBER = "number"  # `number` differs
    COARSE = "coarse"  # the probes tell `number` to `seconds` only
    MISSING = "missing"  # `side` has no `number`, as a very old report
    WIDE = "wide"  # `number` may differ by more than `share` of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason, with its values. Only report/ makes sentences of them."""

    kind: ReasonKind
    number: str | None = None
    side: str | None = None
    seconds: float | None = None
    share: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs' numbers, and what they come to; `reasons` say why."""

    a: Side
    b: Side
    margin: float
    tolerance: float
    rows: tuple[Row, ...]
    answer: str
    reasons: tuple[Reason, ...]
    changed: dict[str, tuple[Any, Any]] | None  # settings of A and of B that are not the same


def compare(
    a: Side, b: Side, *, margin: float = MARGIN, tolerance: float = TOLERANCE
) -> Comparison:
    """Hold B against A, the baseline.

    A number is better or worse if all of its difference's interval is on one side of zero; the
    same, if all of it is within `tolerance` of A's number or within the error bar, or, where it has
    zero in it, within `margin`. A meter that can't see a difference of `margin` can't say the same.
    The answer is worse if any number is; else better if any is; else the same if p95 is.
    """
    rows = tuple(_rows(a, b, margin, tolerance))
    answer, reasons = _answered(a, b, rows, margin)
    return Comparison(
        a=a,
        b=b,
        margin=margin,
        tolerance=tolerance,
        rows=rows,
        answer=answer,
        reasons=tuple(reasons),
        changed=_changed(a.config, b.config) if a.config and b.config else None,
    )


def _answered(a: Side, b: Side, rows: tuple[Row, ...], margin: float) -> tuple[str, list[Reason]]:
    doubts = [
        Reason(kind=ReasonKind.DOUBT, side=side.name, detail=doubt)
        for side in (a, b)
        for doubt in side.doubts
    ]
    if doubts:
        return UNKNOWN, doubts
    for answer in (WORSE, BETTER):
        names = [row.name for row in rows if row.answer == answer]
        if names:
            return answer, [Reason(kind=ReasonKind.NUMBER, number=name) for name in names]
    answer = next(row.answer for row in rows if row.name == DECIDING)
    if answer == UNKNOWN:
        return answer, [_why_unknown(a, b, margin)]
    lacking = [
        Reason(kind=ReasonKind.MISSING, side=side.name, number=name)
        for side, other in ((a, b), (b, a))
        for name in LOST
        if side.numbers[name].value is None and other.numbers[name].value is not None
    ]
    return (UNKNOWN if lacking else answer), lacking


def _why_unknown(a: Side, b: Side, margin: float) -> Reason:
    bar_s, whole_s = max(a.resolution_s, b.resolution_s), a.numbers[DECIDING].value
    if whole_s is not None and bar_s > margin * whole_s:
        return Reason(kind=ReasonKind.COARSE, number=DECIDING, seconds=bar_s)
    return Reason(kind=ReasonKind.WIDE, number=DECIDING, share=margin)


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """In the order in which they stand; None is one that is not set, or not there."""
    paths = dict.fromkeys([*a, *b])
    return {path: (a.get(path), b.get(path)) for path in paths if a.get(path) != b.get(path)}


def _rows(a: Side, b: Side, margin: float, tolerance: float) -> Iterator[Row]:
    bar_s = max(a.resolution_s, b.resolution_s)
    # A recovery is measured too long, by up to the error bar: the same in both if that is.
    bias_s = abs(a.resolution_s - b.resolution_s)
    for name in (*QUANTITIES, *LOST):
        one, other = a.numbers[name], b.numbers[name]
        found = _difference(one, other, bias_s, 1.0 if name == DECIDING else OTHERS_WIDENED)
        if name in LOST and not _alike_watched(a, b):
            found = Estimate(None, None, None)
        whole = one.value or 0.0
        answer = _answer(found, tolerance * whole, bar_s, margin * whole)
        yield Row(name=name, unit="s", a=one, b=other, difference=found, answer=answer)
    for name in SHARES:
        one, other = a.numbers[name], b.numbers[name]
        found = _within_one(_difference(one, other, 0.0, OTHERS_WIDENED))
        # They were given up at different times, or watched for longer.
        watched = (a.limit_s, b.limit_s) if name == "censored" else (a.stable_for_s, b.stable_for_s)
        if watched[0] != watched[1]:
            found = Estimate(None, None, None)
        answer = _answer(found, 0.0, 0.0, 0.0)
        yield Row(name=name, unit="share", a=one, b=other, difference=found, answer=answer)


def _alike_watched(a: Side, b: Side) -> bool:
    """Whether what a failover may lose is the same: relapses, and until it is given up."""
    given_up = any((side.numbers["censored"].value or 0.0) > 0 for side in (a, b))
    return a.stable_for_s == b.stable_for_s and (a.limit_s == b.limit_s or not given_up)


def _difference(a: Estimate, b: Estimate, bias: float, widened: float) -> Estimate:
    """B less A, `widened` times as wide; `bias` is how much of it may be the meter's doing."""
    if a.value is None or b.value is None:
        # What is beyond everything observed still differs if the two intervals are apart.
        low = None if a.high is None or b.low is None else b.low - a.high - bias
        high = None if a.low is None or b.high is None else b.high - a.low + bias
        return Estimate(None, low if (low or 0) > 0 else None, high if (high or 0) < 0 else None)
    value = b.value - a.value
    down = _hypotenuse(b.value, b.low, a.high, a.value)
    up = _hypotenuse(b.high, b.value, a.value, a.low)
    low = None if down is None else value - widened * down - bias
    high = None if up is None else value + widened * up + bias
    return Estimate(value, low, high)


def _within_one(found: Estimate) -> Estimate:
    """Two shares can't differ by more than all."""
    low = None if found.low is None else max(-1.0, found.low)
    high = None if found.high is None else min(1.0, found.high)
    return Estimate(found.value, low, high)


def _hypotenuse(*ends: float | None) -> float | None:
    first, second, third, fourth = ends
    if first is None or second is None or third is None or fourth is None:
        return None
    return math.hypot(first - second, third - fourth)


def _answer(found: Estimate, tolerance: float, bar: float, margin: float) -> str:
    def within(zone: float) -> bool:
        low, high = found.low, found.high
        return low is not None and high is not None and -zone <= low and high <= zone

    if within(max(tolerance, bar)):
        return SAME if bar <= margin else UNKNOWN
    if found.low is not None and found.low > 0:
        return WORSE
    if found.high is not None and found.high < 0:
        return BETTER
    return SAME if within(margin) and bar <= margin else UNKNOWN
