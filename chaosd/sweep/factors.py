"""What varies over the arms: factors, each with its levels in their natural order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaosd.sweep.values import SweepArm
from chaosd.units import Duration

LEVELS_MAX = 8  # of a number that varies: more are put into classes
CLASSES = 4


def same(one: Any, other: Any) -> bool:
    """Whether two settings are the same, as people write them; `false` is not 0."""
    return str(one) == str(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One setting that varies, or several that have the same value in every arm."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]  # of its levels, in order
    ordered: bool  # the levels are numbers, durations or versions
    of_arm: tuple[int, ...]  # the level of each arm, in the order of the arms

    @property
    def name(self) -> str:
        """The shortest name that says which setting it is."""
        return " = ".join(path.rpartition(".")[2] for path in self.paths)

    @property
    def is_version(self) -> bool:
        return any(path.rpartition(".")[2] == "version" for path in self.paths)


def factors(arms: Sequence[SweepArm]) -> list[Factor]:
    """Those that differ in any two of the arms."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in arms[0].values if arms else ():
        column = tuple(label(arm.values.get(path)) for arm in arms)
        if len(set(column)) > 1:
            found.setdefault(column, []).append(path)
    return [_factor(tuple(paths), column) for column, paths in found.items()]


def is_baseline_apart(arms: Sequence[SweepArm]) -> bool:
    """Whether the baseline is none of the design's combinations, as far as its values show it.

    It has a level that no other arm has, or differs between settings that are the same in all of
    them, or it has another arm's values (and differs in what does not vary). Where one setting
    varies alone, a level of its own is compared fairly.
    """
    own = next((arm for arm in arms if arm.baseline), None)
    others = [arm for arm in arms if not arm.baseline]
    if own is None or not others:
        return False
    mine = {path: label(value) for path, value in own.values.items()}
    theirs = [{path: label(arm.values.get(path)) for path in mine} for arm in others]
    if mine in theirs:
        return True
    if len(factors(arms)) == 1:
        return False
    if any(mine[path] not in {each[path] for each in theirs} for path in mine):
        return True
    return any(len({mine[path] for path in each.paths}) > 1 for each in factors(others))


def label(value: Any) -> str:
    """A value as people write it in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _factor(paths: tuple[str, ...], column: tuple[str, ...]) -> Factor:
    levels = sorted(set(column), key=_order)
    ordered = all(_number(level) is not None for level in levels)
    if ordered and len(levels) > LEVELS_MAX:
        classes = {level: place * CLASSES // len(levels) for place, level in enumerate(levels)}
        members = [[each for each in levels if classes[each] == k] for k in range(CLASSES)]
        labels = tuple(f"{some[0]} to {some[-1]}" for some in members)
        return Factor(
            paths=paths,
            labels=labels,
            ordered=True,
            of_arm=tuple(classes[value] for value in column),
        )
    places = {level: place for place, level in enumerate(levels)}
    return Factor(
        paths=paths,
        labels=tuple(levels),
        ordered=ordered,
        of_arm=tuple(places[value] for value in column),
    )


def _order(level: str) -> tuple[int, tuple[float, ...], str]:
    number = _number(level)
    return (1, (), level) if number is None else (0, number, level)


def _number(level: str) -> tuple[float, ...] | None:
    """A number, a duration in seconds, or the parts of a version; None if it is none of these."""
    if re.fullmatch(r"\d+(\.\d+)+", level):
        return tuple(map(float, level.split(".")))
    try:
        return (float(level.removesuffix("%")),)
    except ValueError:
        pass
    try:
        return (Duration.parse(level).s,)
    except ValueError:
        return None
