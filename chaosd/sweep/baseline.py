"""What a design's `baseline` means where it is no mapping: an arm's name, or another config."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from chaosd.config.shape import Config
from chaosd.sweep import axes
from chaosd.sweep.axes import Combination
from chaosd.units import Duration

_OF_AN_ARM = ("proxy", "app", "dns")  # the parts of a config that an arm may set
_SHARED = ("runtime", "probes", "direct", "measure")
_NAMES_MAX = 4


def is_name(said: str) -> bool:
    """Whether this may be an arm's name; else it is a path."""
    return re.fullmatch(r"[a-z0-9-]+", said) is not None


def named(
    said: str, vary: Mapping[str, axes.Axis], combinations: Iterable[Combination]
) -> Combination | str:
    """The combination whose arm has this name; or what is wrong, and which there are."""
    known: dict[str, Combination] = {}
    for each in combinations:
        known.setdefault(axes.name_of(vary, {p: _as_shown(v) for p, v in each.items()}), each)
    if said in known:
        return known[said]
    near = get_close_matches(said, known, n=1)
    some = ", ".join([*known][:_NAMES_MAX])
    hint = f"did you mean {near[0]}?" if near else f"arms are called {some}, …"
    return f"no arm is called `{said}`, and there is no such file ({hint})"


def _as_shown(value: Any) -> Any:
    try:
        return str(Duration.parse(value)) if isinstance(value, str) else value
    except ValueError:
        return value


def values_of(base: Config, other: Config, *, is_own_file: bool) -> dict[str, Any]:
    """What another config says other than the base: each part of it that differs, as a whole.

    Of the user's own file for the proxy that is its part alone.
    """
    found = {}
    for part in ("proxy",) if is_own_file else _OF_AN_ARM:
        ours, theirs = getattr(base, part), getattr(other, part)
        if ours.model_dump(mode="json") != theirs.model_dump(mode="json"):
            found[part] = theirs.model_dump(mode="json", exclude_unset=True, by_alias=True)
    return found


def shared(base: Config, other: Config) -> Iterator[str]:
    """The parts that all arms share, and in which another config differs."""
    ours, theirs = base.model_dump(mode="json"), other.model_dump(mode="json")
    yield from (part for part in _SHARED if ours[part] != theirs[part])
