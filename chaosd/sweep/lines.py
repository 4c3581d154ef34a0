"""Lines to paste: which of an arm's lines another arm has not, each under its section's header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def differing(lines: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Those of `lines` that the same section of `others` has not, each after its section's header.

    A header is a line that is not indented.
    """
    theirs = set(_placed(others))
    found: list[str] = []
    last = ""
    for header, line in _placed(lines):
        if (header, line) in theirs or line == header:
            continue
        if header and header != last:
            found.append(header)
        last = header
        found.append(line)
    return tuple(found)


def _placed(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each line with the header of its section."""
    header = ""
    for place, line in enumerate(lines):
        following = lines[place + 1] if place + 1 < len(lines) else ""
        if not line.startswith(" ") and following.startswith(" "):
            header = line
        yield header, line
