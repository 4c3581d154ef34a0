"""Cycles taken in one by one, and what they come to: the Totals of a report. Pure."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaosd.analysis.expected_requests import (
    LOST,
    Expected,
    ExpectedTotals,
    expected,
    fold,
    surprises,
)
from chaosd.analysis.observed import observed
from chaosd.analysis.residuals import Residuals, residuals
from chaosd.analysis.statistics import (
    Estimate,
    Quantiles,
    Share,
    error_bar,
    mean_part,
    quantiles,
    ratio,
    serial,
    share,
)
from chaosd.history.causes import CauseKind
from chaosd.history.cycles import PHASES, PHASES_OF_NODES, Cycle, CycleKind, CycleOutcome

MEASURED = ("recovery_s", "stable_recovery_s", "outage_gap_s", "outage_loss_s")
COUNTS = ("samples", "failed", "masked", "misrouted", "dropped")
BAD = ("failed", "masked", "misrouted")
# What may be cut off of what is held against predictions: it hides no more than their interval.
CUT_MAX, CUT_SHARE_MAX = 1, 0.05
# Among outcomes: recovered or censored, and no failover, for nothing moved.
APART = tuple(kind.value for kind in CycleKind if kind.is_still)
REQUESTS_NS_MAX = 2**62  # of a cycle; a directory may be damaged, or anybody's
POOR = "poor"  # in the place of an outcome
VALID = (
    CycleOutcome.RECOVERED,
    CycleOutcome.UNAFFECTED,
    CycleOutcome.CENSORED,
    CycleOutcome.CONTROL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Where the seconds went: in the `n` recoveries in which this phase is known."""

    n: int
    mean_s: float | None
    share: float | None  # of the seconds of all recoveries; `settle` comes after them and has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What was bad where nothing was taken away: false alarms, the floor of every other count."""

    cycles: int
    alarmed: int  # those in which any request was failed, masked, misrouted or not sent
    samples: int
    failed: int
    masked: int
    misrouted: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Cycles in which the app came back at its own address: a recovery with nothing to find."""

    cycles: int
    recovery_s: Quantiles
    wait_s: Quantiles  # how much of that went by after it listened again
    misrouted: int  # false alarms: there was nobody else to ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The cycles of a cell, of one of its faults, or of the whole run."""

    outcomes: dict[str, int]  # `poor`: those whose numbers can't be trusted, whatever they are
    eased: int  # of the skipped ones, those left out because the machine was late
    stopped: int  # of the invalid ones, those cut off because chaosd was stopped
    cut_off: int  # of those, the ones without a recovery: censored in the quantiles
    cut_off_s: float | None  # how long the longest of them had lasted
    poor: int  # valid cycles whose numbers can't be trusted: they are in no other number here
    undisturbed: int  # recoveries of 0 s, in runs of before there were unaffected cycles
    early: int  # recoveries by a retried request, before any fresh one got through
    early_max_s: float  # by how much, at most
    compared: int  # recoveries for which both outage estimators are known
    disagreeing: int  # of those, the ones whose estimators differ by more than their error
    disagreement_max_s: float | None  # by how much the first is the longer one, at most
    recovery_s: Quantiles
    stable_recovery_s: Quantiles
    outage_gap_s: Quantiles
    outage_loss_s: Quantiles
    control_s: Quantiles  # the recovery where nothing was taken away: the meter's own floor
    restart: Restart
    control: Control
    resolution_s: float | None  # by how much its quantiles may be too long; see `error_bar`
    outage_resolution_s: float | None  # by how much those of outages may be wrong, either way
    phases: dict[str, Phase]
    phases_unknown_share: float | None
    phases_error_s: float | None  # of the edge between phases that is known worst, in any recovery
    samples: int
    failed: int
    masked: int
    misrouted: int
    dropped: int
    failed_share: Share  # of the requests that were sent
    masked_share: Share
    misrouted_share: Share
    failed_s: Estimate  # seconds of requests that failed in a failover; 0 where it was unaffected
    misrouted_s: Estimate
    failed_cycles: Share  # failovers in which any request was
    misrouted_cycles: Share
    in_band: Share  # of the recoveries for which there is a prediction
    trouble_in_band: Share  # of the cycles in which nothing moves, and which have a prediction
    predicted_mean_s: float | None
    predicted_observed_mean_s: float | None  # the mean fresh recovery of the same cycles
    residual: Residuals
    expected: dict[str, ExpectedTotals]  # requests by kind, of the cycles that have predicted ones
    surprising: int  # cycles that lost more or fewer requests than predicted
    serial: float | None  # how much recoveries that follow each other are alike; None: by chance

    @property
    def failovers(self) -> int:
        return self.outcomes["recovered"] + self.outcomes["censored"]

    @property
    def valid(self) -> int:
        moved = sum(self.outcomes[outcome] for outcome in VALID)
        return moved + sum(self.outcomes.get(kind, 0) for kind in APART) + self.poor

    @property
    def good(self) -> int:
        """The valid cycles that numbers are made of."""
        return self.valid - self.poor

    @property
    def invalid(self) -> int:
        """By a mishap: to stop chaosd is none."""
        return self.outcomes["invalid"] - self.stopped


class Tally:
    """Cycles, taken in one by one. Memory: a few numbers a cycle.

    No recovery can be stable later than `stable_for_s` before the limit: what is not by then takes
    longer. A recovery is measured too long by half of `interval_s` on average, and by as much for
    each of `replicas` that take turns. With `moves_only` cycles in which nothing moves are counted,
    and enter no number of failovers.
    """

    def __init__(
        self,
        stable_for_s: float = 0.0,
        interval_s: float = 0.0,
        replicas: int = 1,
        *,
        moves_only: bool = False,
    ) -> None:
        self.outcomes = Counter({outcome.value: 0 for outcome in CycleOutcome} | {POOR: 0})
        self.counts, self.control_counts = Counter[str](), Counter[str]()
        self.values: dict[str, list[float]] = {name: [] for name in MEASURED}
        self.censored: dict[str, list[float]] = {name: [] for name in MEASURED}
        self.control, self.control_censored = list[float](), list[float]()
        self.restart, self.restart_censored = list[float](), list[float]()
        self.restart_wait: list[float] = []
        self.requests = {name: array("q") for name in ("sent", "bad", *BAD)}  # of each failover
        self.requests_ns = {name: array("q") for name in ("sent", *LOST)}  # at their interval
        self.phases: dict[str, list[float]] = {phase: [] for phase in PHASES_OF_NODES}
        self.phases_error_s: float | None = None
        self.known: list[tuple[float, float]] = []  # recovery, its error bar
        self.known_outages: list[tuple[float, float]] = []
        self.disagreement_max_s: float | None = None
        self.cut_off_s: list[float] = []
        self.early_max_s = 0.0
        self.predicted: list[tuple[float, float]] = []  # mean, recovery
        self.residuals: list[float] = []
        self.places: list[float] = []
        self.unresolved = 0  # predicted, and censored
        self.cut_predicted = 0  # predicted, and cut off before it had recovered
        # Cycles that have a prediction; True: those in which nothing moves.
        self.in_band, self.judged = Counter[bool](), Counter[bool]()
        self.surprising = 0
        self.expected: dict[str, list[Expected]] = {}
        self.follow: list[tuple[float, float]] = []  # recoveries of one cell and fault in a row
        self._before: dict[tuple[str, str], float] = {}
        self._moves_only = moves_only
        self._stable_for_s, self._interval_s = stable_for_s, interval_s
        self._late_s = replicas * interval_s / 2

    def add(self, cycle: Cycle) -> None:
        if cycle.outcome in VALID and cycle.doubt is not None:
            self.outcomes[POOR] += 1  # it says nothing, whether it looks good or bad
            return
        apart = self._moves_only and cycle.kind.is_still
        moved = cycle.outcome in (CycleOutcome.RECOVERED, CycleOutcome.CENSORED)
        self.outcomes[(cycle.kind if apart and moved else cycle.outcome).value] += 1
        if cycle.outcome == CycleOutcome.INVALID:
            self._add_invalid(cycle, apart=apart)
        if cycle.cause is not None and cycle.cause.kind is CauseKind.MACHINE_LATE:
            self.counts["eased"] += 1
        if cycle.outcome not in VALID:
            return
        if cycle.outcome == CycleOutcome.CONTROL:
            self._add_control(cycle)
            return
        if cycle.anomaly is not None:
            self.judged[apart] += 1
            self.in_band[apart] += not cycle.anomaly
        if apart:
            return
        for name in COUNTS:
            self.counts[name] += getattr(cycle, name)
        self.requests["sent"].append(cycle.samples - cycle.dropped)
        self.requests["bad"].append(cycle.failed + cycle.misrouted)
        for name in BAD:
            self.requests[name].append(getattr(cycle, name))
        interval_ns = round(1e9 * (cycle.interval_s or self._interval_s))
        for name, counts in self.requests_ns.items():
            counts.append(min(self.requests[name][-1] * interval_ns, REQUESTS_NS_MAX))
        if cycle.outcome == CycleOutcome.UNAFFECTED:
            return  # no recovery of 0 s: it is counted, and enters no quantile
        self._add_measured(cycle)
        self._add_recovery(cycle)
        for kind, one in expected(cycle).items():
            self.expected.setdefault(kind, []).append(one)
        self.surprising += bool(surprises(cycle))

    def _add_invalid(self, cycle: Cycle, *, apart: bool) -> None:
        if cycle.cause is None or cycle.cause.kind is not CauseKind.STOPPED:
            return
        self.counts["stopped"] += 1
        if not apart and (found := observed(cycle)) is not None:
            self.cut_off_s.append(found.seconds)
            self.cut_predicted += cycle.predicted is not None
            for name in ("recovery_s", "stable_recovery_s"):
                self.censored[name].append(found.seconds)
            for name in ("outage_gap_s", "outage_loss_s"):
                self.censored[name].append(cycle.outage_loss_s or 0.0)

    def _add_control(self, cycle: Cycle) -> None:
        if cycle.kind is CycleKind.RESTART:
            self._add_restart(cycle)
            return
        self.control_counts["cycles"] += 1
        if cycle.recovery_s is not None:
            self.control.append(cycle.recovery_s)
        else:
            self.control_censored.append(cycle.lasted_s)
        for name in COUNTS:
            self.control_counts[name] += getattr(cycle, name)
        bad = cycle.failed + cycle.masked + cycle.misrouted + cycle.dropped
        self.control_counts["alarmed"] += bad > 0

    def _add_restart(self, cycle: Cycle) -> None:
        self.control_counts["restarts"] += 1
        self.control_counts["restarts_misrouted"] += cycle.misrouted
        if cycle.recovery_s is None:
            self.restart_censored.append(cycle.lasted_s)
            return
        self.restart.append(cycle.recovery_s)
        if (replace_s := cycle.phases.get("replace_s")) is not None:
            self.restart_wait.append(cycle.recovery_s - replace_s)

    def _add_measured(self, cycle: Cycle) -> None:
        lasted_s, recovered = cycle.lasted_s, cycle.outcome == CycleOutcome.RECOVERED
        for name in MEASURED:
            value = getattr(cycle, name)
            if recovered:  # what is null here is unknown, but for what never became stable
                if value is not None:
                    self.values[name].append(value)
                elif name == "stable_recovery_s":
                    limit_s = lasted_s - self._stable_for_s
                    self.censored[name].append(max(limit_s, cycle.recovery_s or 0.0))
                elif name == "outage_gap_s":  # it had no end when nobody looked any more
                    self.censored[name].append(cycle.outage_loss_s or 0.0)
            elif name.startswith("outage"):  # so much of it had been seen
                self.censored[name].append(value or cycle.outage_loss_s or 0.0)
            else:
                self.censored[name].append(lasted_s)

    def _add_recovery(self, cycle: Cycle) -> None:
        self.unresolved += cycle.outcome == CycleOutcome.CENSORED and cycle.predicted is not None
        if cycle.outcome != CycleOutcome.RECOVERED or cycle.recovery_s is None:
            return
        self.counts["undisturbed"] += cycle.recovery_s == 0
        self.counts["early"] += cycle.early_s > 0
        self.early_max_s = max(self.early_max_s, cycle.early_s)
        before_s = self._before.get((cycle.cell, cycle.fault))
        if before_s is not None:
            self.follow.append((before_s, cycle.recovery_s))
        self._before[cycle.cell, cycle.fault] = cycle.recovery_s
        for phase, seconds in self.phases.items():
            part_s = cycle.phases.get(f"{phase}_s")
            if part_s is not None:
                seconds.append(part_s)
        if cycle.phases_error_s is not None:
            self.phases_error_s = max(cycle.phases_error_s, self.phases_error_s or 0.0)
        if cycle.predicted is not None:
            fresh_s = cycle.fresh_recovery_s
            seen_s = cycle.recovery_s if fresh_s is None else fresh_s
            self.predicted.append((cycle.predicted.mean_s, seen_s))
            if cycle.residual_s is not None:
                self.residuals.append(cycle.residual_s - self._late_s)
            if cycle.predicted_place is not None:
                self.places.append(cycle.predicted_place)
        if cycle.resolution_s is None:
            return
        self.known.append((cycle.recovery_s, cycle.resolution_s))
        gap_s, loss_s = cycle.outage_gap_s, cycle.outage_loss_s
        if gap_s is not None:
            self.known_outages.append((gap_s, cycle.resolution_s))
        if gap_s is not None and loss_s is not None:
            # What could not be sent is no loss, and no good answer either.
            difference_s = gap_s - loss_s - cycle.dropped * self._interval_s
            self.counts["compared"] += 1
            self.counts["disagreeing"] += difference_s > 2 * cycle.resolution_s
            self.disagreement_max_s = max(difference_s, self.disagreement_max_s or 0.0)

    def totals(self) -> Totals:
        recovered_s = sum(self.values["recovery_s"])
        phases = {
            phase: Phase(
                n=len(seconds),
                mean_s=_mean(seconds),
                share=sum(seconds) / recovered_s if recovered_s and phase != "settle" else None,
            )
            for phase, seconds in self.phases.items()
            if seconds or phase in PHASES
        }
        known = [phase.share for phase in phases.values() if phase.share is not None]
        means, recoveries = zip(*self.predicted, strict=True) if self.predicted else ((), ())
        # What was cut short is longer than the rest: without it, means would lie.
        cut_most = max(CUT_MAX, CUT_SHARE_MAX * len(self.residuals))
        told = not self.unresolved and self.cut_predicted <= cut_most
        counted: dict[str, Any] = {name: self.counts[name] for name in COUNTS}
        counted |= {f"{name}_share": self.share(name) for name in BAD}
        for name in LOST:
            counts = self.requests[name]
            counted[f"{name}_s"] = self.mean_s(name)
            counted[f"{name}_cycles"] = share(sum(map(bool, counts)), len(counts))
        counted |= {n: quantiles(self.values[n], self.censored[n]) for n in MEASURED}
        return Totals(
            outcomes=dict(self.outcomes),
            eased=self.counts["eased"],
            stopped=self.counts["stopped"],
            cut_off=len(self.cut_off_s),
            cut_off_s=max(self.cut_off_s, default=None),
            poor=self.outcomes[POOR],
            undisturbed=self.counts["undisturbed"],
            early=self.counts["early"],
            early_max_s=self.early_max_s,
            compared=self.counts["compared"],
            disagreeing=self.counts["disagreeing"],
            disagreement_max_s=self.disagreement_max_s,
            control_s=quantiles(self.control, self.control_censored),
            control=Control(
                **{name: self.control_counts[name] for name in ("cycles", "alarmed", *COUNTS)},
            ),
            restart=Restart(
                cycles=self.control_counts["restarts"],
                recovery_s=quantiles(self.restart, self.restart_censored),
                wait_s=quantiles(self.restart_wait),
                misrouted=self.control_counts["restarts_misrouted"],
            ),
            resolution_s=error_bar(self.known),
            outage_resolution_s=error_bar(self.known_outages, up=True),
            phases=phases,
            phases_unknown_share=max(0.0, 1 - sum(known)) if known else None,
            phases_error_s=self.phases_error_s,
            **counted,
            in_band=share(self.in_band[False], self.judged[False]),
            trouble_in_band=share(self.in_band[True], self.judged[True]),
            predicted_mean_s=_mean(means),
            predicted_observed_mean_s=_mean(recoveries),
            residual=residuals(self.residuals, self.places) if told else residuals([], []),
            expected=fold(self.expected),
            surprising=self.surprising,
            serial=serial(self.follow),
        )

    @property
    def failovers(self) -> int:
        return self.outcomes["recovered"] + self.outcomes["censored"]

    def recovery(self) -> Quantiles:
        return quantiles(self.values["recovery_s"], self.censored["recovery_s"])

    def share(self, name: str) -> Share:
        """What part of the requests of all failovers came to this."""
        return ratio(self.requests[name], self.requests["sent"])

    def mean_s(self, name: str) -> Estimate:
        """The mean of how many seconds of requests came to this in a failover.

        Unlike a share of the requests it does not depend on how long failovers were watched, but
        for those that were given up. If none came to it, the upper bound takes a failover to lose
        no more than what was sent in the longest one.
        """
        return mean_part(self.requests_ns[name], max(self.requests_ns["sent"], default=0), 1e-9)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
