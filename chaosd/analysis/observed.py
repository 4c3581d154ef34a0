"""What one cycle says of how long recoveries take."""

from __future__ import annotations

from typing import NamedTuple

from chaosd.history.cycles import Cycle, CycleOutcome


class Observed(NamedTuple):
    """What is known of a recovery: so many seconds, or, if it was cut short, more than that."""

    seconds: float
    censored: bool


def observed(cycle: Cycle) -> Observed | None:
    """What a cycle says of how long recoveries take.

    None for control, invalid and skipped ones, and for poor ones, of which nothing is known.
    One that was cut off because chaosd was stopped is invalid, but if it had not recovered by then
    it takes longer than that: the longest are cut off most often.
    """
    if cycle.doubt is not None:
        return None
    if cycle.outcome == CycleOutcome.RECOVERED and cycle.recovery_s is not None:
        return Observed(cycle.recovery_s, censored=False)
    if cycle.outcome == CycleOutcome.CENSORED or cycle.cut_off:
        return Observed(cycle.lasted_s, censored=True)
    return None
