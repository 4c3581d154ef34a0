"""Small parts of sentences that rules and formats share."""

from __future__ import annotations

from collections.abc import Sequence

_NAMES_MAX = 3


def listed(names: Sequence[str], most: int = _NAMES_MAX) -> str:
    """Names in a row: "a", "a and b", "a, b, c and 4 more"."""
    names = list(dict.fromkeys(names))
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    if len(names) > 1:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return names[0] if names else "none"


def quoted(names: Sequence[str], most: int = _NAMES_MAX) -> str:
    """The same as code."""
    return listed([f"`{name}`" for name in names], most)


def servers_of(names: Sequence[str]) -> str:
    """Servers by their names, for the middle of a sentence and for its beginning."""
    return f"{verb(names, 'server', 'servers')} {quoted(names)}"


def verb(names: Sequence[str], one: str, many: str) -> str:
    """The form that goes with so many names."""
    return one if len(dict.fromkeys(names)) == 1 else many


def count(number: int, one: str, many: str = "") -> str:
    """A number and its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def between(low: object, high: object) -> str:
    """A range of two times: "9 to 10 s"."""
    first, last = str(low), str(high)
    if first == last:
        return first
    number, _, unit = first.partition(" ")
    return f"{number} to {last}" if last.endswith(f" {unit}") else f"{first} to {last}"
