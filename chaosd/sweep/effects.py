"""What each setting does by itself, and which settings matter only beside which others.

The numbers of all arms are fitted by a sum of one term for each setting (least squares). The
effect of a level is the mean of all arms, had each of them this level. Noise is the spread of the
same fit over the block bootstrap (`grid.resampled`). A baseline that is none of the design's
combinations has no part in it: what is its alone meets one value of each other setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations
from statistics import NormalDist
from typing import Any

from chaosd.sweep.factors import Factor, factors, is_baseline_apart
from chaosd.sweep.measures import MEASURES
from chaosd.sweep.standing import Basis, Board
from chaosd.sweep.values import Objective

ERROR = 0.05  # of all that is said of effects together, and of all interactions together
INTERACTIONS_MAX = 12
ARMS_MIN = 4  # fewer have no interaction to speak of
LIMIT_S = 60.0  # for a recovery that never came, if nothing says how long was waited
Array = Any


class Direction(StrEnum):
    RISES = "rises"
    FALLS = "falls"
    MIXED = "mixed"  # or the levels have no order
    NONE = "none"  # nothing beyond noise and margin


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The objective at one level of a setting, all else as in all arms; with a 95 % interval."""

    label: str
    value: float
    low: float | None
    high: float | None
    foretold: float | None
    arms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one setting does to one objective."""

    paths: tuple[str, ...]
    name: str
    objective: Objective
    direction: Direction
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """How much a setting matters, by the level of another one: beyond noise.

    `least` and `most` are the differences that going from `before` to `after` makes where the other
    setting has the level `least_at` or `most_at`.
    """

    objective: Objective
    name: str
    before: str
    after: str
    other: str
    least_at: str
    least: float
    most_at: str
    most: float
    only: bool  # at the one level it makes none beyond noise and margin


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """`draws[time, arm, objective]`, finite; `foretold[arm, objective]` or None."""

    draws: Array
    foretold: Array | None
    factors: list[Factor]
    objectives: tuple[Objective, ...]


def effects(board: Board) -> tuple[tuple[Effect, ...], tuple[Interaction, ...]]:
    """Of all settings that vary among the arms that are measured, or foretold if none is."""
    data = _data(board)
    if data is None or not data.factors:
        return (), ()
    return tuple(_effects(data)), tuple(_interactions(data))


def _data(board: Board) -> _Data | None:
    import numpy as np

    objectives, ranked = board.results.objectives, board.ranked
    apart = is_baseline_apart(board.results.arms)
    places = [n for n, each in enumerate(ranked) if not (apart and each.arm.baseline)]
    some = [ranked[place] for place in places]
    if not some:
        return None
    rows = [[s.numbers[o].foretold for o in objectives] for s in some]
    foretold = None if any(v is None for row in rows for v in row) else np.array(rows, dtype=float)
    is_measured = board.basis is Basis.MEASURED
    draws = board.draws[:, places] if is_measured else np.array([rows], dtype=float)
    limit_s = max((seen.limit_s for seen in board.results.seen), default=LIMIT_S)
    return _Data(
        draws=np.where(np.isfinite(draws), draws, limit_s),
        foretold=foretold if is_measured else None,
        factors=factors([s.arm for s in some]),
        objectives=objectives,
    )


def _operator(some: Sequence[Factor], rows: Array) -> tuple[Array, list[slice]]:
    """Takes the arms' numbers to the effects of all levels; where each factor's levels are."""
    import numpy as np

    columns, places = [np.ones((len(rows), 1))], list[slice]()
    for factor in some:
        start = places[-1].stop if places else 0
        places.append(slice(start, start + len(factor.labels)))
        columns.append(np.eye(len(factor.labels))[np.asarray(factor.of_arm)[rows]])
    design = np.hstack(columns)
    fit = np.linalg.pinv(design.T @ design) @ design.T
    wanted = np.tile(design.mean(axis=0), (places[-1].stop, 1))
    for place in places:
        wanted[place, 1 + place.start : 1 + place.stop] = np.eye(place.stop - place.start)
    return wanted @ fit, places


def _effects(data: _Data) -> Iterator[Effect]:
    import numpy as np

    rows = np.arange(data.draws.shape[1])
    operator, places = _operator(data.factors, rows)
    z = _z(len(data.factors) * len(data.objectives))
    for column, objective in enumerate(data.objectives):
        fitted = data.draws[:, :, column] @ operator.T
        of_model = data.foretold if MEASURES[objective].alike else None
        said = None if of_model is None else operator @ of_model[:, column]
        for factor, place in zip(data.factors, places, strict=True):
            part = fitted[:, place]
            value, error = part[0], part[1:].std(axis=0) if len(part) > 1 else None
            counts = np.bincount(factor.of_arm, minlength=len(factor.labels))
            yield Effect(
                paths=factor.paths,
                name=factor.name,
                objective=objective,
                direction=_direction(factor, part, z, objective),
                levels=tuple(
                    Level(
                        label=name,
                        value=float(value[k]),
                        low=None if error is None else float(value[k] - _z(1) * error[k]),
                        high=None if error is None else float(value[k] + _z(1) * error[k]),
                        foretold=None if said is None else float(said[place][k]),
                        arms=int(counts[k]),
                    )
                    for k, name in enumerate(factor.labels)
                ),
            )


def _z(tests: int) -> float:
    """How many standard errors are beyond noise, for so many looks at once (Bonferroni)."""
    return NormalDist().inv_cdf(1 - ERROR / 2 / max(1, tests))


def _direction(factor: Factor, fitted: Array, z: float, objective: Objective) -> Direction:
    """`fitted[time, level]`: which way it goes, if anything is beyond noise and margin."""
    value = fitted[0]
    low, high = int(value.argmin()), int(value.argmax())
    margin = MEASURES[objective].margin(abs(float(value[low])))
    if not _is_beyond(fitted[:, high] - fitted[:, low], z, margin):
        return Direction.NONE
    steps = value[1:] - value[:-1]
    if factor.ordered and (steps >= -margin).all() and high > low:
        return Direction.RISES
    if factor.ordered and (steps <= margin).all() and high < low:
        return Direction.FALLS
    return Direction.MIXED


def _is_beyond(draws: Array, z: float, margin: float) -> bool:
    """Whether a difference, as seen and then as drawn again, is more than noise and margin."""
    noise = float(draws[1:].std()) if len(draws) > 1 else 0.0
    return abs(float(draws[0])) > max(margin, z * noise)


# --- interactions --------------------------------------------------------------------------------


def _interactions(data: _Data) -> list[Interaction]:
    """The strongest first, each pair of settings once per objective."""
    if data.draws.shape[1] < ARMS_MIN:
        return []
    tests = len(data.factors) * (len(data.factors) - 1) * len(data.objectives)
    found: dict[tuple[Objective, frozenset[str]], tuple[float, Interaction]] = {}
    for factor, other in permutations(data.factors, 2):
        for column, objective in enumerate(data.objectives):
            each = _interaction(data, factor, other, column, _z(tests))
            if each is None:
                continue
            strength, key = each[0], (objective, frozenset((factor.name, other.name)))
            if key not in found or (each[1].only, strength) > (found[key][1].only, found[key][0]):
                found[key] = each
    ordered = sorted(found.values(), key=lambda pair: -pair[0])
    return [interaction for _, interaction in ordered[:INTERACTIONS_MAX]]


def _interaction(
    data: _Data, factor: Factor, other: Factor, column: int, z: float
) -> tuple[float, Interaction] | None:
    """How the effect of `factor` differs between the levels of `other`, and how strongly."""
    import numpy as np

    low, high = 0, len(factor.labels) - 1
    rest = [each for each in data.factors if each is not other]
    contrasts: dict[int, Array] = {}
    for level in range(len(other.labels)):
        rows = np.flatnonzero(np.asarray(other.of_arm) == level)
        there = {factor.of_arm[row] for row in rows}
        if {low, high} <= there:
            operator, places = _operator(rest, rows)
            place = places[rest.index(factor)].start
            y = data.draws[:, rows, column]
            contrasts[level] = y @ (operator[place + high] - operator[place + low])
    if len(contrasts) < 2:  # noqa: PLR2004 - nothing to compare
        return None
    objective = data.objectives[column]
    by_size = sorted(contrasts, key=lambda level: abs(float(contrasts[level][0])))
    least, most = by_size[0], by_size[-1]
    typical = abs(float(np.median(data.draws[0, :, column])))
    margin = MEASURES[objective].margin(typical)
    difference = contrasts[most] - contrasts[least]
    if not _is_beyond(difference, z, margin):
        return None
    return abs(float(difference[0])) / margin, Interaction(
        objective=objective,
        name=factor.name,
        before=factor.labels[low],
        after=factor.labels[high],
        other=other.name,
        least_at=other.labels[least],
        least=float(contrasts[least][0]),
        most_at=other.labels[most],
        most=float(contrasts[most][0]),
        only=not _is_beyond(contrasts[least], z, margin),
    )
