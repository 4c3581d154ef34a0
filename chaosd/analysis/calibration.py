"""The meter against the truth: errors of its estimators where the outages are known.

Pure. The truth is what the backend said of itself, on the clock that everything is measured on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from chaosd.analysis.recovery import LATE_NS_MAX
from chaosd.analysis.statistics import student
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import AnyEvent, LinePrinted, only

# What a probe takes to come to the backend, and what a busy machine adds to it; the rest of the
# gap's error is where the outage falls between two probes.
SLACK_S = 0.002


class Outage(NamedTuple):
    """When nobody was answered, as the backend tells it."""

    away_ns: int
    back_ns: int
    manner: str

    @property
    def length_s(self) -> float:
        return (self.back_ns - self.away_ns) / 1e9


class Error(NamedTuple):
    """One outage and how wrong the meter was, in seconds; positive: it measured too much."""

    cycle: int
    outage: Outage
    gap_s: float
    loss_s: float
    recovery_s: float  # of the instant at which the recovery ended
    resolution_s: float | None  # the error bar that the cycle states itself
    poor: bool  # it says little of the meter: its probes were late or not sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What one estimator's errors come to, in seconds."""

    bias_s: float  # the mean error
    bias_error_s: float | None  # its 95 % interval is this much to either side; None of too few
    sd_s: float
    worst_s: float  # the largest error, without its sign

    @classmethod
    def of(cls, errors_s: list[float]) -> Accuracy:
        count = len(errors_s)
        mean = math.fsum(errors_s) / count
        variance = math.fsum((e - mean) ** 2 for e in errors_s) / max(1, count - 1)
        sd, t = math.sqrt(variance), student(count - 1)
        return cls(
            bias_s=mean,
            bias_error_s=None if t is None else t * sd / math.sqrt(count),
            sd_s=sd,
            worst_s=max(abs(e) for e in errors_s),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """All outages at one rate. Poor ones are counted, and judged nowhere: chaosd says so itself."""

    interval_s: float
    errors: tuple[Error, ...]
    unmeasured: int  # outages without a recovery, and cycles that were invalid

    @property
    def judged(self) -> list[Error]:
        return [error for error in self.errors if not error.poor]

    @property
    def limit_s(self) -> float:
        return self.interval_s + SLACK_S

    @property
    def ok(self) -> bool | None:
        """Whether the gap estimator's worst error is below the limit; None if too few tell."""
        judged = self.judged
        if not judged or 2 * len(judged) < len(self.errors) + self.unmeasured:
            return None
        return self.accuracy()["gap"].worst_s < self.limit_s

    def accuracy(self) -> dict[str, Accuracy]:
        """Of each estimator, by its name; needs an outage that is judged."""
        judged = self.judged
        return {
            "gap": Accuracy.of([error.gap_s for error in judged]),
            "loss": Accuracy.of([error.loss_s for error in judged]),
            "recovery": Accuracy.of([error.recovery_s for error in judged]),
        }


def outages(events: Iterable[AnyEvent]) -> dict[int, Outage]:
    """The known outages by cycle: what its command said as `away NS [MANNER]` and `back NS`.

    A cycle that has not one whole outage, in this order, has none.
    """
    said: dict[int, list[list[str]]] = {}
    for event in only(events, LinePrinted):
        words = event.what.text.split()
        if words[1:] and words[0] in ("away", "back") and words[1].isdecimal():
            said.setdefault(event.cycle, []).append(words)
    found = {}
    for cycle, lines in said.items():
        pairs = [(a, b) for a, b in pairwise(lines) if (a[0], b[0]) == ("away", "back")]
        if len(lines) == 2 and pairs:  # noqa: PLR2004
            away, back = pairs[0]
            found[cycle] = Outage(int(away[1]), int(back[1]), away[2] if away[2:] else "")
    return found


def compare(cycles: Iterable[Cycle], known: dict[int, Outage], *, interval_s: float) -> Calibration:
    """Hold what was measured in each cycle against what is known of it."""
    errors, unmeasured = [], 0
    for cycle in cycles:
        if cycle.outcome == CycleOutcome.SKIPPED:
            continue
        outage = known.get(cycle.cycle)
        gap_s, loss_s, recovery_s = cycle.outage_gap_s, cycle.outage_loss_s, cycle.recovery_s
        if outage is None or gap_s is None or loss_s is None or recovery_s is None:
            unmeasured += 1
            continue
        errors.append(
            Error(
                cycle=cycle.cycle,
                outage=outage,
                gap_s=gap_s - outage.length_s,
                loss_s=loss_s - outage.length_s,
                recovery_s=(cycle.t0_ns - outage.back_ns) / 1e9 + recovery_s,
                resolution_s=cycle.resolution_s,
                poor=_is_poor(cycle) or _is_late(cycle, interval_s),
            )
        )
    return Calibration(interval_s=interval_s, errors=tuple(errors), unmeasured=unmeasured)


def _is_poor(cycle: Cycle) -> bool:
    return cycle.cause is not None or cycle.doubt is not None


def _is_late(cycle: Cycle, interval_s: float) -> bool:
    """A cycle whose error bar knows of late probes may be good; the meter's best is shown here."""
    lag_s = cycle.lag_p99_s or 0.0
    return lag_s > max(interval_s, LATE_NS_MAX / 1e9)
