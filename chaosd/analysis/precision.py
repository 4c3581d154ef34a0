"""When a run knows enough: the p95 of its recoveries, to within what was asked. Pure.

Whoever looks after each cycle, and stops when it looks good, stops too often when it only looks
good. So there are few looks, each after another twentieth of the cycles, and none before p95's
interval has an upper bound at all.
"""

from __future__ import annotations

import math

from chaosd.analysis.slo import cycles_needed
from chaosd.analysis.statistics import Estimate
from chaosd.analysis.tally import Tally
from chaosd.events import Cycle

CYCLES_MIN = cycles_needed("recovery_p95")
LOOKS_GROWTH = 1.05  # so many times the cycles of the look before


class Precision:
    """All cells' cycles, taken in as they finish, until their p95 is known well enough."""

    def __init__(self, wanted: float) -> None:
        self.wanted = wanted
        self._tally = Tally(stable_for_s=0.0)
        self._look_at = CYCLES_MIN

    def add(self, cycle: Cycle) -> Estimate | None:
        """Take in a cycle; p95 if it is known well enough now, to `wanted` of it to either side."""
        self._tally.add(cycle)
        if self._tally.failovers < self._look_at:
            return None
        self._look_at = math.ceil(self._look_at * LOOKS_GROWTH)
        p95 = self._tally.recovery().p95
        half = half_width(p95)
        return p95 if half is not None and half <= self.wanted else None


def half_width(found: Estimate) -> float | None:
    """How far an interval reaches to either side, in parts of the estimate; None if unknown."""
    if found.low is None or found.high is None or not found.value:
        return None
    return (found.high - found.low) / 2 / found.value
