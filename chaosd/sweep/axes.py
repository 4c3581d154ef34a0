"""What varies: the values of an axis, and how axes are combined."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from random import Random
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from chaosd.plugins.bases import Part
from chaosd.units import Duration

VALUES_MAX = 1_000  # of one axis
COMBINATIONS_MAX = 20_000
_NAME_CHARS_MAX = 40
_DIGITS = 3  # of a value on a logarithmic scale

Values = Sequence[Any]


class Range(Part):
    """Evenly spread values from one to another, both included."""

    range: tuple[Any, Any] = Field(description="the first and the last value, of one kind")
    n: int | None = Field(None, ge=2, le=VALUES_MAX, description="how many values")
    step: Any = Field(None, description="how far apart, instead of `n`")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.n is None) == (self.step is None):
            raise ValueError("say `n` or `step`, one of them (such as n: 5)")
        first, last = _ends(self.range)
        if self.step is not None:
            step = _number(self.step)
            if isinstance(step, Duration) != isinstance(first, Duration) or step <= 0:
                raise ValueError("`step` should be more than 0, of the same kind as the range")
            if (last - first) / step > VALUES_MAX:
                raise ValueError(f"more than {VALUES_MAX} values (a longer step)")
        return self

    def values(self) -> Values:
        first, last = _ends(self.range)
        if self.n is None:
            step = _number(self.step)
            count = math.floor((last - first) / step + 1e-9)
            return _distinct(_like(first, first + place * step) for place in range(count + 1))
        return _distinct(self.at(place / (self.n - 1)) for place in range(self.n))

    def at(self, part: float) -> Any:
        """The value at a part of the way, 0 to 1."""
        first, last = _ends(self.range)
        return _like(first, first + (last - first) * part)


class Log(Part):
    """Values of which each is the same multiple of the one before."""

    log: tuple[Any, Any] = Field(description="the first and the last value, both more than 0")
    n: int = Field(ge=2, le=VALUES_MAX, description="how many values")

    @model_validator(mode="after")
    def _is_positive(self) -> Self:
        if _ends(self.log)[0] <= 0:
            raise ValueError("a logarithmic scale begins above 0")
        return self

    def values(self) -> Values:
        return _distinct(self.at(place / (self.n - 1)) for place in range(self.n))

    def at(self, part: float) -> Any:
        first, last = _ends(self.log)
        value = first * (last / first) ** part
        if 0 < part < 1:
            unit = 10.0 ** (math.floor(math.log10(value)) + 1 - _DIGITS)
            value = round(value / unit) * unit
        return _like(first, value)


class SameAs(Part):
    """Always the value of another path."""

    same_as: str = Field(description="the path that has the value")


Axis = Range | Log | SameAs | tuple[Any, ...]
_KINDS = ("log", "same_as")


def _kind(value: Any) -> str:
    if not isinstance(value, dict):
        return "list"
    return next((kind for kind in _KINDS if kind in value), "range")


def _not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("an empty list (name at least one value)")
    if len({json.dumps(value) for value in values}) < len(values):
        raise ValueError("a value is given twice")
    return values


AnyAxis = Annotated[
    Annotated[Range, Tag("range")]
    | Annotated[Log, Tag("log")]
    | Annotated[SameAs, Tag("same_as")]
    | Annotated[tuple[Any, ...], AfterValidator(_not_empty), Tag("list")],
    Discriminator(_kind),
]


def values_of(axis: Range | Log | tuple[Any, ...]) -> Values:
    return list(axis) if isinstance(axis, tuple) else axis.values()


def _number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return Duration.parse(value)


def _ends(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    """Both as numbers. Raises ValueError in words for the user."""
    first, last = _number(pair[0]), _number(pair[1])
    if isinstance(first, Duration) != isinstance(last, Duration):
        raise ValueError("both ends should be of one kind (such as [200ms, 3s])")
    if first >= last:
        raise ValueError("the first value should be less than the last one")
    if isinstance(first, float) != isinstance(last, float):  # 1 to 2.5 is no range of whole numbers
        return float(first), float(last)
    return first, last


def _like(first: Any, value: float) -> Any:
    """A value as a file has it: times in whole milliseconds, whole numbers as such."""
    if isinstance(first, Duration):
        whole = 1_000_000 if first % 1_000_000 == 0 else 1
        return str(Duration(max(whole if first else 0, round(value / whole) * whole)))
    return round(value) if isinstance(first, int) else round(value, 6)


def _distinct(values: Iterator[Any]) -> Values:
    return list(dict.fromkeys(values))


# --- how they are combined ---

Combination = Mapping[str, Any]


def all_of(axes: Mapping[str, Axis]) -> Iterator[Combination]:
    """The product of all axes, the last one changing first."""
    free = {path: values_of(axis) for path, axis in axes.items() if not isinstance(axis, SameAs)}
    for values in product(*free.values()):
        yield _tied(axes, dict(zip(free, values, strict=True)))


def one_at_a_time(axes: Mapping[str, Axis], base: Combination) -> Iterator[Combination]:
    """The base, and it with one axis at another value."""
    yield _tied(axes, base)
    for path, axis in axes.items():
        if isinstance(axis, SameAs):
            continue
        for value in values_of(axis):
            if value != base.get(path):
                yield _tied(axes, {**base, path: value})


def latin(axes: Mapping[str, Axis], count: int, rng: Random) -> Iterator[Combination]:
    """So many combinations of which every axis has each part of its range once.

    McKay, Beckman, Conover 1979: each axis is cut into as many strata as there are points, which
    are met in an order of its own; inside its stratum a point lies at random.
    """
    columns: dict[str, list[Any]] = {}
    for path, axis in axes.items():
        if isinstance(axis, SameAs):
            continue
        places = [(stratum + rng.random()) / count for stratum in range(count)]
        rng.shuffle(places)
        if isinstance(axis, tuple):
            columns[path] = [axis[int(place * len(axis))] for place in places]
        else:
            columns[path] = [axis.at(place) for place in places]
    for values in zip(*columns.values(), strict=True):
        yield _tied(axes, dict(zip(columns, values, strict=True)))


def _tied(axes: Mapping[str, Axis], free: Combination) -> Combination:
    """With the values of axes that follow others, all in the order of the axes."""
    return {
        path: free.get(axis.same_as if isinstance(axis, SameAs) else path)
        for path, axis in axes.items()
    }


def neighbours(axes: Mapping[str, Axis], one: Combination, other: Combination) -> bool:
    """Whether two combinations differ by one step of one axis."""
    differ = [
        path
        for path, axis in axes.items()
        if not isinstance(axis, SameAs) and one.get(path) != other.get(path)
    ]
    if len(differ) != 1:
        return False
    axis = axes[differ[0]]
    if isinstance(axis, SameAs):
        return False
    values = values_of(axis)
    here, there = one.get(differ[0]), other.get(differ[0])
    if here not in values or there not in values:
        return False
    return abs(values.index(here) - values.index(there)) == 1


def name_of(axes: Mapping[str, Axis], values: Combination) -> str:
    """A short name of what varies: its values, in the order of the axes."""
    free = [path for path, axis in axes.items() if not isinstance(axis, SameAs)]
    words = [_word(path, values[path]) for path in free]
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
    return slug[:_NAME_CHARS_MAX].strip("-") or "arm"


def _word(path: str, value: Any) -> str:
    if isinstance(value, bool):
        last = path.rpartition(".")[2].replace("_", "")
        return last if value else f"no{last}"
    return f"v{value}" if path.endswith("version") else str(value)
