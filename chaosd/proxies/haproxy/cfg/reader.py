"""Files into sections: conditions decided, variables expanded, `setenv` and its like obeyed.

As `readcfgfile` (`parse_cfg` since 3.1) of HAProxy's src/cfgparse.c does it.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from chaosd.proxies.haproxy.cfg import lexer
from chaosd.proxies.haproxy.cfg.condition import BuildFacts, ConditionError, Truth, decide
from chaosd.proxies.haproxy.cfg.files import SourceText, load
from chaosd.proxies.haproxy.cfg.lexer import Variable
from chaosd.proxies.haproxy.cfg.source import (
    Document,
    Note,
    Place,
    Problem,
    Section,
    Statement,
    Trouble,
    Word,
)

_NESTED_MAX = 100
_HOMELESS_MIN = 3  # lines in no section: HAProxy has them before any header only
_NEGATABLE = frozenset(
    {
        *("option", "log", "busy-polling", "set-dumpable", "strict-limits"),
        *("insecure-fork-wanted", "numa-cpu-mapping"),
    }
)
# Where an address stands, by the words before it. HAProxy expands variables in it once more.
_ADDRESSES = {
    "bind": 1,
    "dgram-bind": 1,
    "log": 1,
    "nameserver": 2,
    "peer": 2,
    "server": 2,
    "server-template": 3,
    "source": 1,
    "stats": 2,  # socket
}
_ENVIRONMENT = ("setenv", "presetenv", "unsetenv", "resetenv")


def read_files(
    paths: Sequence[Path],
    *,
    environment: Mapping[str, str] | None = None,
    supplied: Collection[str] = (),
    build: BuildFacts | None = None,
    either: bool = False,
) -> Document:
    """Read what `haproxy -f PATH -f PATH …` would read, with this environment and build.

    `supplied` are variables that HAProxy will have when it starts, with values that are not
    known yet: the text of one is `${NAME}`, and `Word.variables` names it. With `either` all
    parts of a condition are read that may hold; without it none is of which it is not known.
    """
    sources, problems = load(paths)
    return read_texts(
        sources,
        problems,
        environment=environment,
        supplied=supplied,
        build=build,
        either=either,
    )


def read_texts(
    sources: Sequence[SourceText],
    problems: Sequence[Problem] = (),
    *,
    environment: Mapping[str, str] | None = None,
    supplied: Collection[str] = (),
    build: BuildFacts | None = None,
    either: bool = False,
) -> Document:
    """Read files that are loaded already, as `read_files` does; `problems` of loading go first."""
    reader = _Reader(build or BuildFacts(), environment or {}, supplied, either=either)
    reader.problems += problems
    for source in sources:
        reader.read(source)
    return Document(
        files=tuple(source.path for source in sources),
        sections=tuple(Section(header, tuple(lines)) for header, lines in reader.sections),
        problems=tuple(_or_no_config_at_all(reader)),
        notes=tuple(reader.notes),
    )


def _or_no_config_at_all(reader: _Reader) -> list[Problem]:
    """Its problems; where several lines stand in no section, that alone: it is another file."""
    count = len(reader.homeless)
    if count < _HOMELESS_MIN:
        return reader.problems
    what = (
        f"this is no haproxy.cfg, or it lacks a header such as `defaults`: {count} lines from here "
        "on stand in no section"
    )
    return [Problem(reader.homeless[0], Trouble.UNREADABLE, what)]


class _Branch(Enum):
    TAKEN = "taken"
    MAYBE = "maybe"  # it is read, and so is the next part
    DROPPED = "dropped"  # this part is not taken; a later one of the block may be
    DONE = "done"  # an earlier part was taken, or the whole block stands in one that is dropped


@dataclass
class _Block:
    """An `.if` up to its `.endif`."""

    branch: _Branch
    has_else: bool = False


@dataclass
class _Blocks:
    """The `.if` blocks around a line."""

    open: list[_Block] = field(default_factory=list)

    @property
    def is_dropped(self) -> bool:
        return bool(self.open) and self.open[-1].branch not in (_Branch.TAKEN, _Branch.MAYBE)


class _StopError(Exception):
    """HAProxy reads no further."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class _Reader:
    def __init__(
        self,
        build: BuildFacts,
        environment: Mapping[str, str],
        supplied: Collection[str],
        *,
        either: bool,
    ) -> None:
        self._unknown = _Branch.MAYBE if either else _Branch.DROPPED
        self.sections: list[tuple[Statement, list[Statement]]] = []
        self.problems: list[Problem] = []
        self.notes: list[Note] = []
        self.homeless: list[Place] = []  # lines that stand in no section
        self._build, self._dialect = build, build.dialect
        self._section_words = build.dialect.sections
        self._supplied = frozenset(supplied)
        self._variables = {
            name: Variable(text, frozenset({name})) for name, text in environment.items()
        } | {name: Variable(f"${{{name}}}", frozenset({name})) for name in supplied}
        self._stopped = False

    def read(self, source: SourceText) -> None:
        if self._stopped:
            return
        blocks, section, place = _Blocks(), "", Place(source.path, 1)
        lines = source.text.split("\n")
        has_newline = lines[-1] == ""
        try:
            for number, line in enumerate(lines[:-1] if has_newline else lines, start=1):
                place = Place(source.path, number)
                section = self._line(place, line, section, blocks)
            if blocks.open:
                raise _StopError("an .if has no .endif (add .endif)")  # noqa: TRY301
        except _StopError as stop:
            self._refuse(place, stop.what)
            self._stopped = True
            return
        if not has_newline and self._dialect.needs_last_newline:
            what = "the last line has no newline (end the file with one)"
            self.problems.append(Problem(place, Trouble.NO_NEWLINE, what))

    def _refuse(self, place: Place, what: str, column: int = 0) -> None:
        self.problems.append(Problem(place, Trouble.REFUSED, what, column))

    def _line(self, place: Place, line: str, section: str, blocks: _Blocks) -> str:
        """Read a line; returns the keyword of the section that the next one stands in."""
        if line.lstrip(lexer.BLANKS).startswith("["):  # the scope of another program's file
            return section
        words, fault = lexer.split(line, self._with_place(place, section), self._dialect)
        if fault is not None:
            self._refuse(place, fault.what, fault.column)
            return section
        if not words or not words[0].text:
            return section
        if words[0].text.startswith(".") and self._dialect.has_conditions:
            if self._condition(place, words, blocks) or blocks.is_dropped:
                return section
            self._message(place, words)
            return section
        if blocks.is_dropped:
            return section
        return self._statement(place, words, section)

    def _with_place(self, place: Place, section: str) -> Mapping[str, Variable]:
        if not self._dialect.has_word_lists:
            return self._variables
        header = self.sections[-1][0] if section else None
        name = header.texts[1] if header and len(header.texts) > 1 else section
        own = {".LINE": str(place.line), ".FILE": str(place.file), ".SECTION": name}
        here = {name: Variable(text, frozenset()) for name, text in own.items()}
        return ChainMap(self._variables, here)

    def _statement(self, place: Place, words: tuple[Word, ...], section: str) -> str:
        modifier = words[0].text if words[0].text in ("no", "default") else ""
        words = words[1:] if modifier and words[1:] else words
        at = _ADDRESSES.get(words[0].text, len(words))
        if at < len(words):
            address = lexer.expand_address(words[at], self._variables)
            words = (*words[:at], address, *words[at + 1 :])
        self._look_at_empty_words(place, words)
        statement = Statement(place, words, modifier)
        if modifier and statement.keyword not in _NEGATABLE:
            self._refuse(place, f"`{modifier}` does not go with `{statement.keyword}`")
            return section
        if statement.keyword in self._section_words:
            self.sections.append((statement, []))
            return statement.keyword
        if not section:
            self._refuse(place, f"`{statement.keyword}` stands in no section")
            self.homeless.append(place)
            return section
        self.sections[-1][1].append(statement)
        if section == "global" and statement.keyword in _ENVIRONMENT:
            self._set_environment(statement)
        return section

    def _look_at_empty_words(self, place: Place, words: tuple[Word, ...]) -> None:
        for number, word in enumerate(words, start=1):
            if word.unset:
                what = f"`{word.raw}` has no value here"
                self.problems.append(Problem(place, Trouble.UNSET, what, word.start))
                return
            if not word.text and self._dialect.refuses_empty_words:
                self._refuse(place, f"word {number} is empty", word.start)
                return

    def _set_environment(self, statement: Statement) -> None:
        keyword, arguments = statement.keyword, statement.arguments
        names = {word.text for word in arguments}
        if keyword in ("setenv", "presetenv"):
            if len(arguments) != 2:  # noqa: PLR2004 - a name and a value
                self._refuse(statement.place, f"`{keyword}` takes a name and a value")
            elif keyword == "setenv" or arguments[0].text not in self._variables:
                value = arguments[1]
                self._variables[arguments[0].text] = Variable(value.text, value.variables)
        elif keyword == "unsetenv":
            self._variables = {n: v for n, v in self._variables.items() if n not in names}
        else:
            self._variables = {n: v for n, v in self._variables.items() if n in names}

    # --- lines that begin with a dot ---

    def _condition(self, place: Place, words: tuple[Word, ...], blocks: _Blocks) -> bool:
        """Whether the line is `.if`, `.elif`, `.else` or `.endif`; it is obeyed then."""
        keyword, open_blocks = words[0].text, blocks.open
        if keyword not in (".if", ".elif", ".else", ".endif"):
            return False
        if keyword == ".if":
            if len(open_blocks) >= _NESTED_MAX - 1:
                raise _StopError("too many .if in each other")
            if blocks.is_dropped:
                open_blocks.append(_Block(_Branch.DONE))
            else:
                open_blocks.append(_Block(self._branch(place, words)))
            return True
        if not open_blocks:
            raise _StopError(f"{keyword} without .if")
        if keyword in (".else", ".endif") and len(words) > 1 and words[1].text:
            raise _StopError(f"{keyword} takes no argument")
        block = open_blocks[-1]
        if keyword == ".endif":
            open_blocks.pop()
            return True
        if block.has_else:
            raise _StopError(f"{keyword} after .else")
        block.has_else = keyword == ".else"
        if block.branch not in (_Branch.DROPPED, _Branch.MAYBE):
            block.branch = _Branch.DONE
        else:
            block.branch = _Branch.TAKEN if block.has_else else self._branch(place, words)
        return True

    def _branch(self, place: Place, words: tuple[Word, ...]) -> _Branch:
        text = " ".join(word.text for word in words[1:])
        is_open = any(word.variables & self._supplied for word in words)
        truth: Truth
        try:
            truth = decide(text, self._variables, self._build, is_open=is_open)
        except ConditionError as error:
            raise _StopError(str(error)) from None
        if truth is None:
            what = f"whether `{text}` holds is not known here; it is read as if it does not"
            self.problems.append(Problem(place, Trouble.UNDECIDED, what))
            return self._unknown
        return _Branch.TAKEN if truth else _Branch.DROPPED

    def _message(self, place: Place, words: tuple[Word, ...]) -> None:
        level, texts = words[0].text, [word.text for word in words[1:]]
        if level not in (".alert", ".warning", ".notice", ".diag"):
            self._refuse(place, f"unknown directive `{level}`")
            return
        if len(texts) > 1 and texts[1]:
            self._refuse(place, f"`{level}` takes one text (put it in quotes)")
            return
        text = texts[0] if texts else ""
        if level == ".alert":
            raise _StopError(f"the file stops HAProxy here: {text}")
        self.notes.append(Note(place, level[1:], text))
