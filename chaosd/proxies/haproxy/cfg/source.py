"""What a haproxy.cfg is made of: words, statements and sections, each with its place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """A line of a file, counted from 1. Line 0 is the file as a whole."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else str(self.file)


class Word(NamedTuple):
    """One word as HAProxy has it after quotes, escapes and variables."""

    text: str
    start: int  # column of its first character, counted from 1
    end: int  # column after its last one
    raw: str  # as it stands in the file
    variables: frozenset[str] = frozenset()  # the environment that its text comes from
    unset: frozenset[str] = frozenset()  # variables in it that have no value


class Statement(NamedTuple):
    """One line that says something, without its comment and without a leading `no`."""

    place: Place
    words: tuple[Word, ...]  # at least one
    modifier: str = ""  # "", "no" or "default"

    @property
    def keyword(self) -> str:
        return self.words[0].text

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(word.text for word in self.words)

    @property
    def arguments(self) -> tuple[Word, ...]:
        """The words after the keyword, up to an empty one: there HAProxy stops reading."""
        found: list[Word] = []
        for word in self.words[1:]:
            if not word.text:
                break
            found.append(word)
        return tuple(found)

    def says(self, *texts: str) -> bool:
        """Whether it begins with these words and nothing negates it."""
        return not self.modifier and self.texts[: len(texts)] == texts


@dataclass(frozen=True)
class Section:
    """A section and its statements, in the file's order."""

    header: Statement
    statements: tuple[Statement, ...]

    @property
    def kind(self) -> str:
        """`backend`, `defaults`, `resolvers` and so on."""
        return self.header.keyword

    @property
    def name(self) -> str:
        """Its name, or nothing: `global` has none, and `defaults` may have none."""
        arguments = [word.text for word in self.header.arguments]
        return arguments[0] if arguments and arguments[0] != "from" else ""

    @property
    def parent(self) -> str | None:
        """The `defaults` section that it names after `from`."""
        words = [word.text for word in self.header.arguments]
        if words[:1] != ["from"] or self.kind != "defaults":
            words = words[1:]
        return words[1] if words[:1] == ["from"] and words[1:] else None


class Trouble(Enum):
    """What kind of problem it is."""

    UNREADABLE = "unreadable"  # the file can't be read, or is no haproxy.cfg
    REFUSED = "refused"  # HAProxy does not take it
    NO_NEWLINE = "no newline"  # it does not take a file without one at its end
    UNDECIDED = "undecided"  # whether a part of the file holds is not known here
    UNSET = "unset"  # a variable has no value here; it may have one where HAProxy runs


class Problem(NamedTuple):
    """Something that is wrong with the file, or not understood. Never an exception."""

    place: Place
    trouble: Trouble
    what: str
    column: int = 0  # 0: the whole line


class Note(NamedTuple):
    """What the file says to the person who starts HAProxy: `.notice`, `.warning`, `.diag`."""

    place: Place
    level: str
    text: str


@dataclass(frozen=True)
class Document:
    """All files as HAProxy reads them, conditions decided and variables expanded."""

    files: tuple[Path, ...]
    sections: tuple[Section, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[Note, ...] = ()

    @cached_property
    def _by_kinds(self) -> dict[tuple[str, ...], tuple[tuple[Section, Statement], ...]]:
        """What has been looked for: each of many backends asks for the same."""
        return {}

    def statements(self, *kinds: str) -> tuple[tuple[Section, Statement], ...]:
        """The statements of all sections of these kinds; of all sections if none is given."""
        if kinds not in self._by_kinds:
            self._by_kinds[kinds] = tuple(
                (section, statement)
                for section in self.sections
                if not kinds or section.kind in kinds
                for statement in section.statements
            )
        return self._by_kinds[kinds]
