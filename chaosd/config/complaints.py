"""What pydantic finds wrong with a config, in the words of the person who wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import NoneType
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from chaosd.plugins.bases import KeyPath

Model = type[BaseModel]
# The model of a mapping where that depends on what the mapping says, as in a plugin's part.
Concrete = Callable[[Model, Any], Model]

_SHOULD_BE = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    **dict.fromkeys(("string_type", "path_type"), "should be text"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "should be a list"),
    **dict.fromkeys(("model_type", "dict_type"), "should be a mapping"),
    "greater_than": "should be more than {gt}",
    "greater_than_equal": "should be at least {ge}",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be at most {le}",
    "too_short": "should have {min_length} entry at least",
    "too_long": "should have {max_length} entries at most",
    "string_too_short": "should have at least {min_length} characters",
    "string_too_long": "should have at most {max_length} characters",
    "string_pattern_mismatch": "should match the pattern {pattern}",
    "value_error": "{error}",
}


class _Spot(NamedTuple):
    """A place in the config: its path, the model there, the model that has its last key."""

    path: KeyPath
    model: Model | None
    owner: Model | None


def complaints(
    error: ValidationError, model: Model, data: Any, concrete: Concrete
) -> list[tuple[KeyPath, str]]:
    """Where and what, once for each place. `data` is what was validated as `model`."""
    found: dict[KeyPath, list[str]] = {}
    for detail in error.errors(include_url=False):
        kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
        if kind == "too_short" and len(given) >= context["min_length"]:
            continue  # pydantic does not count the entries that it has complained about
        spot = _spot(detail["loc"], model, data, concrete)
        what = _words(kind, context, given, spot) or detail["msg"].removeprefix("Input ")
        found.setdefault(spot.path, []).append(what)
    # A value that may be one of several things has been tried, and refused, as each of them.
    return [(path, " or ".join(dict.fromkeys(whats))) for path, whats in found.items()]


def _spot(loc: KeyPath, model: Model, data: Any, concrete: Concrete) -> _Spot:
    """Follow pydantic's `loc` and leave out the names of a union's members in it."""
    path: list[str | int] = []
    here, owner, annotation = model, model, None  # type: Model | None, Model | None, Any
    for part in loc:
        field = _field(here, part)
        if field is not None:
            annotation = field.annotation
        elif isinstance(part, str) and not (isinstance(data, dict) and part in data):
            continue
        path.append(part)
        owner, data = here, _child(data, part)
        here = next((concrete(found, data) for found in _models(annotation)), None)
    return _Spot(tuple(path), here, owner)


def _field(model: Model | None, key: str | int) -> FieldInfo | None:
    """The field that has this key in a file."""
    fields = model.model_fields.items() if model else ()
    return next((field for name, field in fields if key == (field.alias or name)), None)


def _child(data: Any, part: str | int) -> Any:
    try:
        return data[part]
    except (LookupError, TypeError):  # a default that the file does not mention
        return None


def _models(annotation: Any) -> Iterator[Model]:
    """The models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _words(kind: str, context: Mapping[str, Any], given: Any, spot: _Spot) -> str | None:
    """What is wrong and what would be right, or None where pydantic's words must do."""
    last = spot.path[-1] if spot.path else ""
    field = _field(spot.owner, last)
    if kind == "extra_forbidden":
        fields = spot.owner.model_fields.items() if spot.owner else ()
        known = [field.alias or name for name, field in fields]
        return _unknown_key(str(last), given, sorted(known))
    if kind == "missing":
        meaning = f" ({field.description})" if field and field.description else ""
        return f"is missing{meaning}"
    if kind in {"literal_error", "enum"}:
        options = re.findall(r"'([^']*)'", context["expected"])
        return f"`{_short(given)}` is not one of {', '.join(options)}{_meant(str(given), options)}"
    if kind == "wrong":  # said by us already
        return str(context["what"])
    if kind not in _SHOULD_BE:
        return None
    words = _SHOULD_BE[kind].format_map(context)
    if kind == "string_type" and isinstance(given, int | float):
        words += " (put it in quotes)"
    elif kind == "int_type" and isinstance(given, str) and re.fullmatch("[0-9]{1,9}", given):
        words += " (without quotes)"
    elif kind == "string_too_short" and context["min_length"] == 1:
        words = "should not be empty"
    elif words == "should be a list" and last in {"faults", "probes", "with"}:
        words += f" of {'faults' if last == 'with' else last}, each with a `type`"
    elif kind == "model_type":
        words += _keys_hint(
            spot.model, given, can_be_null=NoneType in get_args(field.annotation if field else None)
        )
    return words


def _keys_hint(model: Model | None, given: Any, *, can_be_null: bool) -> str:
    keys = "any"
    if model:
        keys = ", ".join(field.alias or name for name, field in model.model_fields.items())
    if given is None:
        return f" and has nothing in it (leave it out for the defaults; keys: {keys})"
    return f" (keys: {keys})" + (", or null" if can_be_null else "")


def _unknown_key(key: str, given: Any, known: Sequence[str]) -> str:
    hint = _meant(key, known) or f" (known: {', '.join(known) or 'none'})"
    if given is None:  # as in {init_addr: last,none}
        hint += "; if it is part of a text with commas, that needs quotes"
    return f"unknown key `{_short(key)}`{hint}"


def _meant(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word[:100], known, n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"  # noqa: PLR2004
