"""Stored JSON, taken as strictly as it was written: a run directory may be damaged, or anybody's.

A text becomes values without NaN and without depth; a value must be of the type that its class
declares, within bounds that no real run comes near.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import fields
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

WHOLE_MAX = 1 << 62  # nanoseconds: 146 years
REAL_MAX = 6e10  # seconds: 1,900 years, so that every instant is a date
SHOWN_MAX = 80

Fits = Callable[[Any], bool]


def parse(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for whatever chaosd does not write."""
    try:
        return _DECODER.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("nested too deep") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def shown(value: object) -> str:
    """A value as it may be quoted in a line: short, with everything odd in it escaped."""
    text = ascii(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def check(kind: type[Any], values: Mapping[str, Any]) -> None:
    """Raise ValueError for a value that is not of its field's type."""
    expected = of_class(cast("Hashable", kind))
    for name, value in values.items():
        if name in expected and not expected[name](value):
            raise ValueError(f"{name} can't be {shown(value)}")


@cache
def of_class(kind: Any) -> dict[str, Fits]:
    """What fits each field of a dataclass."""
    hints = get_type_hints(kind)
    return {field.name: fitting(field.name, hints[field.name]) for field in fields(kind)}


def fitting(name: str, hint: Any) -> Fits:
    """What fits this type; a time or a count of this name is not negative."""
    if hint is int:
        low = 0 if is_never_negative(name) else -WHOLE_MAX
        return lambda value: type(value) is int and low <= value <= WHOLE_MAX
    if hint is float:
        low_s = 0.0 if is_never_negative(name) else -REAL_MAX
        return lambda value: type(value) in (int, float) and low_s <= value <= REAL_MAX
    if hint is str:
        return is_text
    if hint is Any:
        return lambda _: True
    if hint is None or hint is NoneType:
        return lambda value: value is None
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        parts = [fitting(name, part) for part in arguments if part is not NoneType]
        optional = NoneType in arguments
        return lambda value: (value is None and optional) or any(part(value) for part in parts)
    if origin in (dict, Mapping):
        inner = fitting("", arguments[1])
        return lambda value: isinstance(value, dict) and all(map(inner, value.values()))
    if origin is tuple or origin is list:
        item = fitting("", arguments[0])
        return lambda value: isinstance(value, list | tuple) and all(map(item, value))
    if isinstance(hint, type) and (issubclass(hint, Enum) or hint is bool):
        return lambda value: isinstance(value, hint)
    return lambda value: value is None or isinstance(value, hint)


def is_never_negative(name: str) -> bool:
    """Whether a number of this name is an instant, a duration or a count."""
    return name not in ("", "residual_s", "clock_offset_ns", "began_s", "ended_s")


def is_text(value: Any) -> bool:
    """Whether this is text that can be written: half of a surrogate pair can't."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain(values: Iterable[Any], depth: int = 20) -> bool:
    """Whether these are values that can be written as JSON again, wherever they are shown."""
    for value in values:
        if isinstance(value, dict | list):
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            if depth == 0 or not is_plain(parts, depth - 1):
                return False
        elif isinstance(value, str):
            if not is_text(value):
                return False
        elif not (value is None or abs(value) <= 1e300):  # noqa: PLR2004 - what a float can be
            return False
    return True
