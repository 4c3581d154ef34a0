"""Which arms need no more cycles: those that are known well enough, or certainly dominated.

An arm is dominated if, against one same other arm, it is better in no objective by more than the
margin, and certainly worse in at least one.

- *Better in none* goes by what was measured and by the model, both. Where the model does not reach
  one of the two arms, or what was measured of the other one contradicts it, the always-valid bounds
  have to say so.
- *Certainly worse* is: by more than the margin in more than half of all blocks, under the fault
  that is worst for the other arm. The blocks are trials (the sign test), and the evidence holds at
  every look (`analysis/sequences.py`). Or all of the one's always-valid interval is beyond all of
  the other's.

With 95 % no arm of the sweep is ever called certainly worse and is not: the other 5 % are shared
evenly by the two tests and, within each, by all ordered pairs, objectives and faults, or by all
arms and objectives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from chaosd.analysis import sequences
from chaosd.sweep.grid import grid
from chaosd.sweep.measures import (
    BLOCKS_MIN,
    MEASURES,
    Measured,
    by_arm,
    foretold,
    measured,
)
from chaosd.sweep.values import Objective, Results, Seen, SweepArm


class StopKind(StrEnum):
    """Why an arm needs no more cycles."""

    PRECISE = "precise"
    DOMINATED = "dominated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why an arm is not measured any more; in words: `words.stopped`."""

    kind: StopKind
    cycles: int  # that had been made of it
    by: str | None = None  # the key of the arm that dominates it
    objective: Objective | None = None  # in which it is certainly worse
    fault: str | None = None  # under which; None where it has no part in it
    share: float | None = None  # ± this part of its value, at most, is each objective known


def look(results: Results, precision: float | None) -> dict[str, Stop]:
    """The arms to stop now, by key: none that has been stopped, and never the baseline.

    `precision` is the part of its value to which each objective is to be known, to either side;
    None if arms are not to be stopped for that.
    """
    seen = by_arm(results)
    arms = [arm for arm in results.arms if _has_enough(results, seen.get(arm.key, {}))]
    living = [arm for arm in arms if not arm.baseline and arm.key not in results.stopped]
    if not living:
        return {}
    race = _Race(results, arms, seen)
    found = {}
    for arm in living:
        stop = race.precise(arm, precision) if precision else None
        if stop is None:
            stop = race.dominated(arm)
        if stop is not None:
            found[arm.key] = stop
    return found


def _has_enough(results: Results, by_fault: Mapping[str, list[Seen]]) -> bool:
    return all(len(by_fault.get(fault, [])) >= BLOCKS_MIN for fault in results.faults)


class _Race:
    """All arms of which enough was seen, and how each compares with each other."""

    def __init__(
        self,
        results: Results,
        arms: list[SweepArm],
        seen: Mapping[str, Mapping[str, list[Seen]]],
    ) -> None:
        self.results, self.arms = results, arms
        self.places = {arm.key: place for place, arm in enumerate(arms)}
        self.cycles = {a.key: sum(map(len, seen[a.key].values())) for a in arms}
        # All arms of the sweep have their share, also those of which little was seen so far.
        of_bounds = max(1, len(results.arms) * len(results.objectives))
        of_pairs = of_bounds * max(1, len(results.arms) - 1) * len(results.faults)
        self.evidence = math.log(of_pairs / (sequences.ALPHA / 2))
        self.alpha = sequences.ALPHA / 2 / of_bounds
        self.shown = {
            (a.key, o): measured(o, seen[a.key]) for a in arms for o in results.objectives
        }
        self.seen = seen
        self._bounds: dict[tuple[str, Objective], Measured] = {}
        self.foretold = {
            (a.key, o): foretold(results, a, o) for a in arms for o in results.objectives
        }
        self.grids = {o: grid(results, arms, o) for o in results.objectives}

    def bounds(self, arm: SweepArm, objective: Objective) -> Measured:
        """As it is shown, with the interval that leaves the other arms their share of the error."""
        key = arm.key, objective
        if key not in self._bounds:
            self._bounds[key] = measured(objective, self.seen[arm.key], self.alpha)
        return self._bounds[key]

    def precise(self, arm: SweepArm, precision: float) -> Stop | None:
        """Whether each objective is known to `precision` of it.

        Of failed and misrouted requests: of the recovery, if that is longer. A few hundredths of a
        second of what hardly ever happens matter to nobody.
        """
        found = {o: self.shown[arm.key, o].estimate for o in self.results.objectives}
        recovery = found.get(Objective.RECOVERY_P95)
        for objective, each in found.items():
            if each.low is None or each.high is None or each.value is None:
                return None
            measure, value = MEASURES[objective], each.value
            if recovery is not None and measure.unit == "s":
                value = max(value, recovery.value or 0.0)
            if (each.high - each.low) / 2 > max(precision * value, measure.floor):
                return None
        return Stop(kind=StopKind.PRECISE, cycles=self.cycles[arm.key], share=precision)

    def dominated(self, arm: SweepArm) -> Stop | None:
        """By the first of the other arms, in their order, that does."""
        for objective, other, fault in self._certainly_worse(arm):
            if all(self._no_better(arm, other, each) for each in self.results.objectives):
                return Stop(
                    kind=StopKind.DOMINATED,
                    cycles=self.cycles[arm.key],
                    by=other.key,
                    objective=objective,
                    fault=fault,
                )
        return None

    def _certainly_worse(self, arm: SweepArm) -> Iterator[tuple[Objective, SweepArm, str | None]]:
        """In which objective than which other arm, and under which fault."""
        place = self.places[arm.key]
        for objective in self.results.objectives:
            wins = self.grids[objective].wins(place, self._margins(objective))
            for other in self.arms:
                if other.key == arm.key:
                    continue
                theirs = self.shown[other.key, objective]
                count, total = wins.of(self.places[other.key], theirs.fault)
                by_blocks = total and sequences.log_evidence(count, total, 0.5) >= self.evidence
                if by_blocks or self._is_beyond(arm, other, objective):
                    yield objective, other, theirs.fault

    def _margins(self, objective: Objective) -> list[float]:
        """Of each arm: by how much another one has to be worse than it."""
        values = (self.shown[arm.key, objective].value for arm in self.arms)
        measure = MEASURES[objective]
        return [math.inf if value is None else measure.margin(value) for value in values]

    def _no_better(self, arm: SweepArm, other: SweepArm, objective: Objective) -> bool:
        """That the arm is not better than the other by more than the margin."""
        measure = MEASURES[objective]
        ours, theirs = self.shown[arm.key, objective], self.shown[other.key, objective]
        if ours.value is None or theirs.value is None or not math.isfinite(theirs.value):
            return False
        margin = measure.margin(theirs.value)
        if ours.value < theirs.value - margin:
            return False
        said, of_other = self.foretold[arm.key, objective], self.foretold[other.key, objective]
        if said is not None and of_other is not None:
            room, least = measure.margin(of_other), theirs.estimate.low
            if said >= of_other - room and (least is None or least <= of_other + room):
                return True
        return self._is_beyond(arm, other, objective, -margin)

    def _is_beyond(
        self, arm: SweepArm, other: SweepArm, objective: Objective, by: float = 0.0
    ) -> bool:
        """Whether all of the one's interval is beyond all of the other's."""
        shown = self.shown[arm.key, objective], self.shown[other.key, objective]
        for ours, theirs in (shown, (self.bounds(arm, objective), self.bounds(other, objective))):
            low, high = ours.estimate.low, theirs.estimate.high
            if low is None or high is None or low <= high + by:
                return False  # the wider ones are not asked if these are not
        return True
