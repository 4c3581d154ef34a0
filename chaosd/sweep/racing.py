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

On several hosts only what is compared within blocks counts: no intervals of two arms are held
against each other, as each arm may have had its cycles elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chaosd.analysis import sequences
from chaosd.analysis.statistics import Estimate
from chaosd.sweep.grid import grid
from chaosd.sweep.hosts import are_several
from chaosd.sweep.measures import (
    BLOCKS_MIN,
    MEASURES,
    by_arm,
    foretold,
    measured,
)
from chaosd.sweep.values import Objective, Results, Seen, SweepArm

P95 = Objective.RECOVERY_P95


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
        self.results, self.arms, self.seen = results, arms, seen
        self.places = {arm.key: place for place, arm in enumerate(arms)}
        self.cycles = {a.key: sum(map(len, seen[a.key].values())) for a in arms}
        # All arms of the sweep have their share, also those of which little was seen so far.
        of_bounds = max(1, len(results.arms) * len(results.objectives))
        of_pairs = of_bounds * max(1, len(results.arms) - 1) * len(results.faults)
        self.evidence = math.log(of_pairs / (sequences.ALPHA / 2))
        self.alpha = sequences.ALPHA / 2 / of_bounds
        every = [(arm, objective) for arm in arms for objective in results.objectives]
        self.values = {(a.key, o): measured(o, seen[a.key], None) for a, o in every}
        self.foretold = {
            (a.key, o): foretold(results.foretold, a.key, results.faults, o)
            if MEASURES[o].alike
            else None
            for a, o in every
        }
        self.grids = {o: grid(results, arms, o) for o in results.objectives}
        self.on_several_hosts = are_several(results)
        self._intervals: dict[tuple[str, Objective, float], Estimate] = {}
        self._known_numbers: dict[Objective, Any] = {}
        self._known_margins: dict[Objective, Any] = {}

    def interval(
        self, arm: SweepArm, objective: Objective, alpha: float = sequences.ALPHA
    ) -> Estimate:
        """Made when it is asked for: most never are."""
        key = arm.key, objective, alpha
        if key not in self._intervals:
            self._intervals[key] = measured(objective, self.seen[arm.key], alpha).estimate
        return self._intervals[key]

    def precise(self, arm: SweepArm, precision: float) -> Stop | None:
        """Whether each objective is known to `precision` of it.

        Of failed and misrouted requests: of the recovery, if that is longer. A few hundredths of a
        second of what hardly ever happens matter to nobody.
        """
        recovery = 0.0
        for objective in sorted(self.results.objectives, key=lambda o: o is not P95):  # p95 first
            found, measure = self.interval(arm, objective), MEASURES[objective]
            if found.low is None or found.high is None or found.value is None:
                return None
            if objective is P95:
                recovery = found.value
            value = max(found.value, recovery) if measure.unit == "s" else found.value
            if (found.high - found.low) / 2 > max(precision * value, measure.floor):
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
        import numpy as np

        place = self.places[arm.key]
        for objective in self.results.objectives:
            wins = self.grids[objective].wins(place, self._margins(objective))
            may_be = wins.may_tell(self.evidence) | self._may_be_beyond(arm, objective)
            may_be[place] = False
            for other in (self.arms[each] for each in np.flatnonzero(may_be)):
                fault = self.values[other.key, objective].fault
                count, total = wins.of(self.places[other.key], fault)
                by_blocks = total and sequences.log_evidence(count, total, 0.5) >= self.evidence
                if by_blocks or self._is_beyond(arm, other, objective):
                    yield objective, other, fault

    def _may_be_beyond(self, arm: SweepArm, objective: Objective) -> Any:
        """Of each other arm, whether this one's interval may be beyond its: it is, of its value."""
        import numpy as np

        numbers = self._numbers(objective)
        low = None if self.on_several_hosts else self.interval(arm, objective).low
        if low is None:
            return np.zeros(len(numbers), dtype=bool)
        return numbers < low

    def _numbers(self, objective: Objective) -> Any:
        """Of all arms; what is not known is not beaten."""
        import numpy as np

        if objective not in self._known_numbers:
            values = (self.values[arm.key, objective].value for arm in self.arms)
            self._known_numbers[objective] = np.array(
                [math.inf if value is None else value for value in values]
            )
        return self._known_numbers[objective]

    def _margins(self, objective: Objective) -> Any:
        """Of each arm: by how much another one has to be worse than it."""
        import numpy as np

        if objective not in self._known_margins:
            margin = MEASURES[objective].margin
            self._known_margins[objective] = np.array(
                [margin(value) for value in self._numbers(objective)]
            )
        return self._known_margins[objective]

    def _no_better(self, arm: SweepArm, other: SweepArm, objective: Objective) -> bool:
        """That the arm is not better than the other by more than the margin."""
        measure = MEASURES[objective]
        ours, theirs = (self.values[each.key, objective].value for each in (arm, other))
        if ours is None or theirs is None or not math.isfinite(theirs):
            return False
        margin = measure.margin(theirs)
        if ours < theirs - margin:
            return False
        said, of_other = self.foretold[arm.key, objective], self.foretold[other.key, objective]
        if said is not None and of_other is not None:
            room = measure.margin(of_other)
            if said >= of_other - room and not self._contradicts(other, objective, of_other + room):
                return True
        return self._is_beyond(arm, other, objective, -margin)

    def _contradicts(self, arm: SweepArm, objective: Objective, most: float) -> bool:
        """Whether the arm is surely worse than the model says."""
        value = self.values[arm.key, objective].value
        if value is None or value <= most:
            return False
        low = self.interval(arm, objective).low
        return low is not None and low > most

    def _is_beyond(
        self, arm: SweepArm, other: SweepArm, objective: Objective, by: float = 0.0
    ) -> bool:
        """Whether all of the one's interval is beyond all of the other's."""
        if self.on_several_hosts:
            return False
        ours, theirs = (self.values[each.key, objective].value for each in (arm, other))
        if ours is None or theirs is None or ours <= theirs + by:
            return False
        for alpha in (sequences.ALPHA, self.alpha):  # if narrow ones are not, wider ones aren't
            low = self.interval(arm, objective, alpha).low
            high = self.interval(other, objective, alpha).high
            if low is None or high is None or low <= high + by:
                return False
        return True
