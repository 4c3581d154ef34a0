"""What became of requests by when they were sent, beside T0: the probes of all cycles, folded."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from chaosd.analysis.samples import KINDS, kinds, measuring
from chaosd.analysis.statistics import quantile_rank
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import StreamOpened

BEFORE_S = 0.5
ROWS_MAX, COLUMNS = 60, 120
SHOWN_SHARE = 0.98  # of the recoveries are shown as a whole
NO_ROW = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """`counts[row][column]` has a number of requests for each of samples.KINDS.

    A row is one failover, or several that follow each other, by T0. Columns are equally long, from
    `from_s` to `to_s` after T0.
    """

    from_s: float
    to_s: float
    cycles: int
    counts: Any  # an array of rows x columns x kinds


class HeatFold:
    """Blocks of stored records, folded into a Heat. `identities` are the app's, of each cell."""

    def __init__(
        self,
        cycles: Sequence[Cycle],
        streams: Iterable[StreamOpened],
        identities: Mapping[str, Container[str]],
        slow_after_ns: int,
    ) -> None:
        kinds_shown = (CycleOutcome.RECOVERED, CycleOutcome.CENSORED)
        shown = sorted((c for c in cycles if c.outcome in kinds_shown), key=attrgetter("t0_ns"))
        self._identities = identities
        self._slow_after_us = slow_after_ns / 1000
        self._to_s = _longest_s(shown)
        self._rows = min(ROWS_MAX, len(shown))
        self._cycles = shown
        self._streams = measuring(streams)
        self._counts = np.zeros((self._rows * COLUMNS * len(KINDS),), np.int64)
        # Other cycles have no row, but what was sent in them belongs to no failover before them.
        rows = {id(cycle): row for row, cycle in enumerate(shown)}
        self._by_cell: dict[str, tuple[Any, Any]] = {}
        for cell in self._streams:
            made = [c for c in cycles if c.cell == cell and c.outcome != CycleOutcome.SKIPPED]
            mine = sorted((c.t0_ns, rows.get(id(c), NO_ROW)) for c in made)
            t0s, places = zip(*mine, strict=True) if mine else ((), ())
            self._by_cell[cell] = np.array(t0s, np.int64), np.array(places, np.int64)

    def add(self, records: Any, names: Sequence[str]) -> None:
        """Records of `stream scheduled_ns took_us outcome who`, sorted by stream."""
        for cell, stream in self._streams.items():
            t0s, rows = self._by_cell[cell]
            first, last = np.searchsorted(records["stream"], [stream, stream + 1])
            mine = records[first:last]
            if not len(mine) or not len(t0s):
                continue
            # What was sent up to BEFORE_S before a T0 belongs to that one.
            at_ns = mine["scheduled_ns"] + round(BEFORE_S * 1e9)
            place = np.searchsorted(t0s, at_ns, side="right") - 1
            since_s = (at_ns - t0s[np.maximum(place, 0)]) / 1e9
            width_s = (self._to_s + BEFORE_S) / COLUMNS
            column = (since_s / width_s).astype(np.int64)
            inside = (place >= 0) & (column < COLUMNS) & (rows[place] != NO_ROW)
            row = rows[place[inside]] * self._rows // len(self._cycles)
            known = self._identities.get(cell, ())
            kind = kinds(mine[inside], names, known, self._slow_after_us)
            flat = (row * COLUMNS + column[inside]) * len(KINDS) + kind
            self._counts += np.bincount(flat, minlength=len(self._counts))

    def heat(self) -> Heat:
        return Heat(
            from_s=-BEFORE_S,
            to_s=self._to_s,
            cycles=len(self._cycles),
            counts=self._counts.reshape((self._rows, COLUMNS, len(KINDS))),
        )


def _longest_s(cycles: Sequence[Cycle]) -> float:
    """How far to look: nearly all recoveries, and a little of the time after them."""
    ends = sorted(c.took_at_least_s for c in cycles)
    if not ends:
        return 1.0
    return max(0.5, 1.25 * ends[quantile_rank(len(ends), SHOWN_SHARE) - 1])
