"""When a run knows enough: the p95 of its recoveries, to within what was asked. Pure.

If you look after each cycle, and stop when it looks good, you stop too often when it only looks
good. So the interval that decides is one that holds at every look (`sequences.py`). It is wider
than that of a report, and has no upper bound below 90 recoveries.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chaosd.analysis import sequences
from chaosd.analysis.slo import cycles_needed
from chaosd.analysis.statistics import Estimate
from chaosd.analysis.tally import Tally
from chaosd.history.cycles import Cycle, CycleOutcome

CYCLES_MIN = sequences.P95_MIN
LOOKS_GROWTH = 1.01  # so many times the cycles of the look before: a look sorts all of them
P = 0.95


def cycles_wanted(goals: Mapping[str, Mapping[str, Any]]) -> dict[str | None, int]:
    """How many failovers objectives take at least: of all faults (None), and of each."""
    found: dict[str | None, int] = {None: CYCLES_MIN}
    for name, goal in goals.items():
        label = goal.get("fault")
        needed = max(round(goal["min_cycles"]), cycles_needed(name, goal["target"]))
        found[label] = max(needed, found.get(label, 0))
    return found


class ShortfallKind(StrEnum):
    """What is short when a precision was not reached."""

    FAILOVERS = "failovers"  # `count` more are needed
    NO_INTERVAL = "no_interval"  # p95 has no bound on one of its sides
    WIDE = "wide"  # p95 is known to ± `share` of it only


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Why a precision has not been reached."""

    kind: ShortfallKind
    count: int = 0
    share: float = 0.0


class Precision:
    """All cells' cycles, taken in as they finish, until their p95 is known well enough.

    And until there are as many failovers as the objectives `goals` take to be judged at all.
    """

    def __init__(self, wanted: float, goals: Mapping[str, Mapping[str, Any]]) -> None:
        # Now, and not at the first look: importing it takes long, and cycles are going on then.
        import scipy.special  # noqa: F401

        self.wanted = wanted
        self.reached = False
        self._tally = Tally(moves_only=True)
        self._missing = Counter(cycles_wanted(goals))
        self._least = self._look_at = self._missing.pop(None)

    def add(self, cycle: Cycle) -> Estimate | None:
        """Take in a cycle; p95 if it is known well enough now, to `wanted` of it to either side."""
        self._tally.add(cycle)
        has_recovery = cycle.outcome in (CycleOutcome.RECOVERED, CycleOutcome.CENSORED)
        self._missing[cycle.fault] -= has_recovery and cycle.doubt is None
        if self._tally.failovers < self._look_at or max(self._missing.values()) > 0:
            return None
        self._look_at = math.ceil(self._tally.failovers * LOOKS_GROWTH)
        p95 = self.p95()
        half = half_width(p95)
        self.reached = self.reached or (half is not None and half <= self.wanted)
        return p95 if self.reached else None

    def p95(self) -> Estimate:
        """As it is known by now, with the interval that holds at every look."""
        values, censored = self._tally.values["recovery_s"], self._tally.censored["recovery_s"]
        return sequences.quantile(values, censored, P)

    def shortfall(self) -> Shortfall:
        """Why it has not been reached."""
        half, missing = half_width(self.p95()), sum(max(0, n) for n in self._missing.values())
        missing = max(missing, self._least - self._tally.failovers)
        if missing > 0:
            return Shortfall(kind=ShortfallKind.FAILOVERS, count=missing)
        if half is None:
            return Shortfall(kind=ShortfallKind.NO_INTERVAL)
        return Shortfall(kind=ShortfallKind.WIDE, share=half)


def half_width(found: Estimate) -> float | None:
    """How far an interval reaches to either side, in parts of the estimate; None if unknown."""
    if found.low is None or found.high is None or not found.value:
        return None
    return (found.high - found.low) / 2 / found.value
