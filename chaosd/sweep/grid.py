"""An objective of all arms by block: what is compared within a block, and drawn again by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaosd.sweep.measures import MEASURES, P
from chaosd.sweep.values import Objective, Results, SweepArm

Array = Any  # numpy's, which is imported where it is used


RESAMPLES = 400
SEED = 15  # the same results have the same answer


@dataclass(frozen=True, slots=True)
class Wins:
    """In how many of how many blocks an arm was worse than each other one, by fault."""

    counts: dict[str, tuple[Array, Array]]

    def of(self, place: int, fault: str | None) -> tuple[int, int]:
        """Against the arm at this place, under this fault, or under all of them."""
        faults = self.counts if fault is None else (fault,)
        return (
            sum(int(self.counts[each][0][place]) for each in faults),
            sum(int(self.counts[each][1][place]) for each in faults),
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """`values[fault][arm, block]`: infinite where it never ended, not a number where not seen."""

    values: dict[str, Array]

    def wins(self, place: int, margins: Sequence[float]) -> Wins:
        """How often the arm at `place` was worse than each other one, by more than its margin."""
        import numpy as np

        counts = {}
        for fault, values in self.values.items():
            both = ~np.isnan(values) & ~np.isnan(values[place])
            worse = values[place] > values + np.asarray(margins)[:, None]
            counts[fault] = (worse & both).sum(axis=1), both.sum(axis=1)
        return Wins(counts)


def grid(results: Results, arms: Sequence[SweepArm], objective: Objective) -> Grid:
    """Of the blocks that are not fresh; the arms in the order given."""
    import numpy as np

    places = {arm.key: place for place, arm in enumerate(arms)}
    blocks: dict[str, dict[int, int]] = {fault: {} for fault in results.faults}
    cells: dict[str, list[tuple[int, int, float]]] = {fault: [] for fault in results.faults}
    for seen in results.seen:
        if seen.fresh or seen.arm not in places or seen.fault not in blocks:
            continue
        column = blocks[seen.fault].setdefault(seen.block, len(blocks[seen.fault]))
        value = MEASURES[objective].of_seen(seen)
        if value is not None:
            cells[seen.fault].append((places[seen.arm], column, value))
    found = {}
    for fault, some in cells.items():
        found[fault] = np.full((len(arms), len(blocks[fault])), np.nan)
        for row, column, value in some:
            found[fault][row, column] = value
    return Grid(found)


def resampled(results: Results, arms: Sequence[SweepArm], times: int = RESAMPLES) -> Any:
    """Every objective of every arm, as seen and then `times` more with blocks drawn again.

    `[time, arm, objective]`; the first is what was seen. A number that never ended is infinite.
    Of an arm without any of the blocks that were drawn, it is what was seen.
    """
    import numpy as np

    rng = np.random.default_rng(SEED)
    grids = [grid(results, arms, objective).values for objective in results.objectives]
    found = np.empty((times + 1, len(arms), len(results.objectives)))
    for time in range(times + 1):
        drawn = {}
        for fault in results.faults:
            n = grids[0][fault].shape[1] if grids else 0
            drawn[fault] = rng.integers(0, n, n) if time and n else np.arange(n)
        for place, (objective, values) in enumerate(zip(results.objectives, grids, strict=True)):
            picked = [values[fault][:, drawn[fault]] for fault in results.faults]
            found[time, :, place] = _statistic(objective, picked)
    return np.where(np.isnan(found), found[:1], found)


def _statistic(objective: Objective, by_fault: Sequence[Array]) -> Array:
    """Of each arm: the mean or the quantile, of the worst fault or of all of them together."""
    import numpy as np

    if MEASURES[objective].pooled:
        by_fault = [np.concatenate(by_fault, axis=1)]
    each = []
    for values in by_fault:
        n = (~np.isnan(values)).sum(axis=1)
        if objective is Objective.RECOVERY_P95:
            ranks = np.maximum(np.ceil(n * P).astype(int) - 1, 0)
            ordered = np.sort(values, axis=1)  # what was not seen comes last
            none = np.full(len(values), np.nan)
            found = ordered[np.arange(len(values)), ranks] if values.shape[1] else none
        else:
            found = np.nansum(values, axis=1) / np.where(n, n, 1)
        each.append(np.where(n > 0, found, np.nan))
    return np.fmax.reduce(each)
