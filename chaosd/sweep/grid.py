"""An objective of all arms by block: what is compared within a block, and drawn again by block."""

from __future__ import annotations

import math
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

    def may_tell(self, evidence: float) -> Array:
        """Of each other arm, whether its blocks can have so much evidence under any of them.

        `n` blocks have `n` log 2 at most, and none where half of them or less were worse.
        """
        import numpy as np

        every = [*self.counts.values(), tuple(map(sum, zip(*self.counts.values(), strict=True)))]
        found = [(2 * worse > n) & (n * math.log(2) >= evidence) for worse, n in every]
        return np.logical_or.reduce(found)


@dataclass(frozen=True, slots=True)
class Grid:
    """`values[fault][arm, block]`: infinite where it never ended, not a number where not seen."""

    values: dict[str, Array]

    def wins(self, place: int, margins: Array) -> Wins:
        """How often the arm at `place` was worse than each other one, by more than its margin."""
        import numpy as np

        counts = {}
        for fault, every in self.values.items():
            values = every[:, ~np.isnan(every[place])]  # an arm is in few of all blocks
            both = ~np.isnan(values)
            worse = values[place] > values + margins[:, None]
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
    drawn = {fault: [np.ones(values.shape[1])] for fault, values in grids[0].items()}
    for _ in range(times):
        for some in drawn.values():
            n = len(some[0])
            some.append(np.bincount(rng.integers(0, n, n), minlength=n) if n else some[0])
    counts = {fault: np.array(some, dtype=float) for fault, some in drawn.items()}
    found = np.empty((times + 1, len(arms), len(results.objectives)))
    for place, (objective, values) in enumerate(zip(results.objectives, grids, strict=True)):
        for row in range(len(arms)):
            parts = [_drawn(each[row], counts[fault]) for fault, each in values.items()]
            found[:, row, place] = _statistic(objective, parts)
    return np.where(np.isnan(found), found[:1], found)


def _drawn(values: Array, counts: Array) -> tuple[Array, Array]:
    """What was seen of one arm, in order, and how often each time has it: `[time, value]`."""
    import numpy as np

    there = np.flatnonzero(~np.isnan(values))
    ordered = there[np.argsort(values[there], kind="stable")]
    return values[ordered], counts[:, ordered]


def _statistic(objective: Objective, by_fault: Sequence[tuple[Array, Array]]) -> Array:
    """Each time: the mean or the quantile, of the worst fault or of all of them together."""
    import numpy as np

    if MEASURES[objective].pooled:
        values, counts = zip(*by_fault, strict=True)
        by_fault = [(np.concatenate(values), np.concatenate(counts, axis=1))]
    each = []
    for values, counts in by_fault:
        n = counts.sum(axis=1)
        if not len(values):
            found = np.full(len(n), np.nan)
        elif objective is Objective.RECOVERY_P95:
            ranks = np.maximum(np.ceil(n * P), 1)
            found = values[np.argmax(counts.cumsum(axis=1) >= ranks[:, None], axis=1)]
        else:  # what never ended counts where it was drawn
            parts = np.zeros(counts.shape)
            np.multiply(counts, values, out=parts, where=counts > 0)
            found = parts.sum(axis=1) / np.where(n, n, 1)
        each.append(np.where(n > 0, found, np.nan))
    return np.fmax.reduce(each)
