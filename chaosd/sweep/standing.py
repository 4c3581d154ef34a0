"""Where every arm stands: each objective, measured and foretold, and whether it is on the front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from chaosd.analysis.front import front, membership
from chaosd.sweep.grid import resampled
from chaosd.sweep.measures import (
    BLOCKS_MIN,
    MARGIN_SHARE,
    MEASURES,
    Measured,
    by_arm,
    foretold,
    measured,
)
from chaosd.sweep.values import Objective, Results, SweepArm


class Basis(StrEnum):
    """What a number or a choice is made from."""

    FRESH = "fresh"  # the last blocks, which nobody has looked at before: it is promised
    MEASURED = "measured"
    FORETOLD = "foretold"  # by the model alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """An objective of an arm."""

    measured: Measured | None
    foretold: float | None

    def value(self, basis: Basis) -> float | None:
        """As measured or as foretold; infinite where it is beyond what was waited for."""
        if basis is Basis.FORETOLD:
            return self.foretold
        return None if self.measured is None else self.measured.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An arm among the others."""

    arm: SweepArm
    numbers: Mapping[Objective, Number]
    cycles: int  # that were seen of it, without the fresh ones
    is_measured: bool  # enough for a number of its own under each fault
    in_front: bool = False  # as measured; as foretold where nothing was measured
    in_foretold_front: bool = False
    membership: float | None = None  # the probability that it is on the front


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """All arms as they stand. `draws[time, arm, objective]` has those that are measured."""

    results: Results
    basis: Basis  # of the front
    standings: tuple[Standing, ...]
    draws: Any

    @property
    def ranked(self) -> list[Standing]:
        """Those that the front is made of, in the order of the arms."""
        if self.basis is Basis.MEASURED:
            return [standing for standing in self.standings if standing.is_measured]
        return [s for s in self.standings if _complete(s, self.results, Basis.FORETOLD)]

    @property
    def baseline(self) -> Standing | None:
        return next((s for s in self.standings if s.arm.baseline), None)


def board(results: Results) -> Board:
    """Where the arms of a sweep stand; fresh blocks have no part in it."""
    seen = by_arm(results)
    standings = []
    for arm in results.arms:
        by_fault = seen.get(arm.key, {})
        cycles = sum(map(len, by_fault.values()))
        numbers = {
            objective: Number(
                measured=measured(objective, by_fault) if cycles else None,
                foretold=foretold(results.foretold, arm.key, results.faults, objective),
            )
            for objective in results.objectives
        }
        enough = [len(by_fault.get(fault, ())) >= BLOCKS_MIN for fault in results.faults]
        standing = Standing(arm=arm, numbers=numbers, cycles=cycles, is_measured=False)
        complete = bool(cycles) and all(enough) and _complete(standing, results, Basis.MEASURED)
        standings.append(replace(standing, is_measured=complete))
    return _with_fronts(results, standings)


def _complete(standing: Standing, results: Results, basis: Basis) -> bool:
    values = (standing.numbers[objective].value(basis) for objective in results.objectives)
    return all(value is not None for value in values)


def _with_fronts(results: Results, standings: Sequence[Standing]) -> Board:
    floors = [MEASURES[objective].floor for objective in results.objectives]

    def front_of(some: Sequence[Standing], basis: Basis) -> set[str]:
        rows = [[s.numbers[o].value(basis) for o in results.objectives] for s in some]
        return {some[place].arm.key for place in front(rows, floors, MARGIN_SHARE)}

    there = [s for s in standings if s.is_measured]
    of_model = [s for s in standings if _complete(s, results, Basis.FORETOLD)]
    foretold_front = front_of(of_model, Basis.FORETOLD)
    draws, shares = None, dict[str, float]()
    if there:
        draws = resampled(results, [s.arm for s in there])
        found = membership(draws[1:], floors, MARGIN_SHARE)
        shares = {s.arm.key: share for s, share in zip(there, found, strict=True)}
    basis = Basis.MEASURED if there else Basis.FORETOLD
    chosen = front_of(there, Basis.MEASURED) if there else foretold_front
    return Board(
        results=results,
        basis=basis,
        standings=tuple(
            replace(
                each,
                in_front=each.arm.key in chosen,
                in_foretold_front=each.arm.key in foretold_front,
                membership=shares.get(each.arm.key),
            )
            for each in standings
        ),
        draws=draws,
    )


def finite(value: float | None) -> float:
    """For comparisons: what is not known is worst."""
    return math.inf if value is None else value
