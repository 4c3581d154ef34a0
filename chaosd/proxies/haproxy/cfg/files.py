"""The user's files, in the order in which HAProxy's `-f` takes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from chaosd.proxies.haproxy.cfg.source import Place, Problem, Trouble
from chaosd.system.files import MB, read_bytes, size

BYTES_MAX = 2 * MB
_FILES_MAX = 1000
# What no haproxy.cfg has outside comments: an expression or a statement of a template language.
_TEMPLATE = re.compile(
    r"\{\{.*?\}\}|<%|\{%[-+]?\s*(?:if|elif|else|endif|for|endfor|set|include|macro|block|raw)\b|"
    r"%\{\s*~?\s*(?:if|else|endif|for|endfor)\b"
)


class SourceText(NamedTuple):
    """A file that was read."""

    path: Path
    text: str


def load(paths: Sequence[Path]) -> tuple[list[SourceText], list[Problem]]:
    """Read files, and of directories what HAProxy takes: `*.cfg`, sorted, no subdirectories."""
    found: list[SourceText] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            files = _in_directory(path) if path.is_dir() else [path]
        except OSError as error:
            problems.append(_unreadable(path, error.strerror or "unknown error"))
            continue
        if not files:
            what = "this directory has no *.cfg (give the path of your haproxy.cfg)"
            problems.append(Problem(Place(path, 0), Trouble.UNREADABLE, what))
        for file in files[:_FILES_MAX]:
            loaded = _load(file)
            if isinstance(loaded, Problem):
                problems.append(loaded)
            else:
                found.append(loaded)
    return found, problems


def _in_directory(directory: Path) -> list[Path]:
    """As `cfgfiles_expand_directories` of HAProxy's src/haproxy.c: `a.cfg.cfg` is not taken."""
    return [
        path
        for path in sorted(directory.iterdir(), key=lambda path: path.name.encode())
        if not path.name.startswith(".")
        and path.name.find(".cfg") == len(path.name) - len(".cfg")
        and path.is_file()
    ]


def _load(path: Path) -> SourceText | Problem:
    try:
        data = read_bytes(path, BYTES_MAX)
    except OSError as error:
        return _unreadable(path, error.strerror or "unknown error")
    return of_bytes(path, data)


def of_bytes(path: Path, data: bytes) -> SourceText | Problem:
    """The text of a file whose bytes are read already, or why it is no haproxy.cfg."""
    if len(data) > BYTES_MAX:
        return _unreadable(path, f"it has more than {size(BYTES_MAX)}")
    if b"\0" in data:
        return _unreadable(path, "not text")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _unreadable(path, f"not text: line {line} is not UTF-8")
    return _template(path, text) or SourceText(path, text)


def _template(path: Path, text: str) -> Problem | None:
    for number, line in enumerate(text.split("\n"), start=1):
        found = _TEMPLATE.search(line)
        if found and "#" not in line[: found.start()]:
            mark = found[0] if len(found[0]) <= 40 else f"{found[0][:38]} …"  # noqa: PLR2004
            what = f"a template: `{mark}` (give the file that is made of it)"
            return Problem(Place(path, number), Trouble.UNREADABLE, what, found.start() + 1)
    return None


def _unreadable(path: Path, why: str) -> Problem:
    what = f"can't be read: {why} (give the path of your haproxy.cfg)"
    return Problem(Place(path, 0), Trouble.UNREADABLE, what)
