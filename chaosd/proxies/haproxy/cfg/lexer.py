"""One line into words, as `parse_line` of HAProxy's src/tools.c does it.

Quotes, escapes and variables follow sections 2.2 and 2.3 of HAProxy's configuration manual:
"" are weak quotes, '' strong ones, a variable is expanded inside weak quotes only (and in an
address wherever it stands), and a backslash at the end of a line does not continue it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.source import Word

BLANKS = " \t\n\v\f\r"
_WORDS_MAX = 64
_HEX = frozenset("0123456789abcdefABCDEF")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NAME = _LETTERS | frozenset("0123456789_")
_PLAIN = re.compile(r"[^ \t\n\v\f\r\"'\\$#]+")  # what is itself, in quotes and outside
_SPECIAL = re.compile(r"[\"'\\$#\r]")  # a line without any is nothing but plain words
_ADDRESS_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]*)\}?|([A-Za-z0-9_]*))")
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r"}


class Variable(NamedTuple):
    """A variable's value, and the environment that it comes from."""

    text: str
    origins: frozenset[str]


class Fault(NamedTuple):
    """What is wrong in a line, and at which column, counted from 1."""

    what: str
    column: int


class _FaultError(Exception):
    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.fault = Fault(what, at + 1)


def split(
    line: str, variables: Mapping[str, Variable], dialect: Dialect
) -> tuple[tuple[Word, ...], Fault | None]:
    """Split a line without its newline into words; no words and a Fault if it is broken.

    `variables` has the environment and HAProxy's own `.LINE`, `.FILE` and `.SECTION`.
    """
    try:
        if _SPECIAL.search(line) is None:
            return _plain(line), None
        return _Lexer(line, variables, dialect).run(), None
    except _FaultError as error:
        return (), error.fault


def _plain(line: str) -> tuple[Word, ...]:
    """As the lexer below, for most lines of a large file."""
    found = [
        Word(text := match[0], match.start() + 1, match.end() + 1, text)
        for match in _PLAIN.finditer(line)
    ]
    _refuse_many(found)
    return tuple(found)


def _refuse_many(words: Sequence[Word]) -> None:
    if len(words) > _WORDS_MAX:
        start = words[_WORDS_MAX].start - 1
        raise _FaultError(f"more than {_WORDS_MAX} words in a line", start)


def expand_address(word: Word, variables: Mapping[str, Variable]) -> Word:
    """Expand the variables of a word that is an address, whatever quotes it had.

    As `env_expand` of HAProxy's src/tools.c, which `str2sa_range` applies to every address.
    """
    origins, unset = set(word.variables), set(word.unset)

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2] or ""
        variable = variables.get(name)
        if variable is None or name.startswith("."):
            unset.add(name)
            return ""
        origins.update(variable.origins, {name})
        return variable.text

    text = _ADDRESS_VARIABLE.sub(value, word.text)
    return word._replace(text=text, variables=frozenset(origins), unset=frozenset(unset))


class _Lexer:
    def __init__(self, line: str, variables: Mapping[str, Variable], dialect: Dialect) -> None:
        self._line, self._variables, self._dialect = line, variables, dialect
        self._at = 0
        self._quote: tuple[str, int] | None = None  # which one, and where it opened
        self._quote_is_empty = False
        self._words: list[Word] = []
        self._text: list[str] | None = None  # of the word under way
        self._start = 0
        self._origins: set[str] = set()
        self._unset: set[str] = set()

    def run(self) -> tuple[Word, ...]:
        line = self._line
        while self._at < len(line):
            char, quote = line[self._at], self._quote[0] if self._quote else ""
            # A carriage return ends the line, unless it stands among blanks between two words.
            if char == "\r" or (char == "#" and not quote):
                break
            if char in "\"'" and quote in ("", char):
                self._turn_quote(char)
            elif char == "\\" and quote != "'":
                self._escape()
            elif char in BLANKS and not quote:
                self._end_word()
                self._skip_blanks()
            elif char == "$" and quote == '"':
                self._variable()
            else:
                plain = _PLAIN.match(line, self._at)
                self._emit(plain[0] if plain else char)
                self._at = plain.end() if plain else self._at + 1
        self._end_word()
        if self._quote:
            raise _FaultError(f"unmatched quote {self._quote[0]}", self._quote[1])
        _refuse_many(self._words)
        return tuple(self._words)

    # --- words ---

    def _begin_word(self) -> None:
        if self._text is None:
            # A word that begins with a quote begins where the quote is.
            self._text, self._start = [], self._quote[1] if self._quote else self._at

    def _emit(self, text: str) -> None:
        self._begin_word()
        assert self._text is not None  # noqa: S101 - it was begun
        self._text.append(text)
        self._quote_is_empty = False

    def _end_word(self) -> None:
        if self._text is None:
            return
        raw = self._line[self._start : self._at]
        self._words.append(
            Word(
                text="".join(self._text),
                start=self._start + 1,
                end=self._at + 1,
                raw=raw,
                variables=frozenset(self._origins),
                unset=frozenset(self._unset),
            )
        )
        self._text = None
        self._origins.clear()
        self._unset.clear()

    def _skip_blanks(self) -> None:
        while self._at < len(self._line) and self._line[self._at] in BLANKS:
            self._at += 1

    # --- quotes and escapes ---

    def _turn_quote(self, char: str) -> None:
        if self._quote:
            # Newer versions don't make a word of "${NAME[*]}" if it is empty.
            if not self._dialect.drops_empty_lists or self._quote_is_empty:
                self._begin_word()
            self._quote = None
        else:
            self._quote, self._quote_is_empty = (char, self._at), True
            if not self._dialect.drops_empty_lists:
                self._begin_word()
        self._at += 1

    def _escape(self) -> None:
        line, at = self._line, self._at
        following = line[at + 1 : at + 2]
        quoted = bool(self._quote)
        if following == "x":
            digits = line[at + 2 : at + 4]
            if len(digits) != len("FF") or not _HEX.issuperset(digits):
                raise _FaultError("\\x without two hexadecimal digits", at)
            self._emit(chr(int(digits, 16)))
            self._at += 4
        elif following in _CONTROLS and following:
            self._emit(_CONTROLS[following])
            self._at += 2
        elif following and (following in " \\#'\"" or (following == "$" and quoted)):
            self._emit(following)
            self._at += 2
        else:  # no escape sequence: the backslash is itself
            self._emit("\\")
            self._at += 1

    # --- variables, inside weak quotes ---

    def _variable(self) -> None:
        line, at = self._line, self._at + 1
        brace = at if line[at : at + 1] == "{" else None
        at += brace is not None
        name_at = at
        first = line[at : at + 1]
        if not (first and (first in _LETTERS or first in "_.")) or (
            first == "." and not self._dialect.has_word_lists
        ):
            raise _FaultError("a variable's name begins with a letter or _ (write \\$ for $)", at)
        at += first == "."
        while at < len(line) and line[at] in _NAME:
            at += 1
        name = line[name_at:at]
        variable = self._variables.get(name)
        if name.startswith(".") and variable is None:
            raise _FaultError(f"there is no variable {name}", name_at)
        is_list = False
        if line[at : at + 1] == "[" and brace is not None and self._dialect.has_word_lists:
            if line[at : at + 3] != "[*]":
                raise _FaultError("a list of words is written ${NAME[*]}", at)
            is_list, at = True, at + 3
        if brace is not None:
            if line[at : at + 1] == "-" and self._dialect.has_variable_defaults:
                end = line.find("}", at)
                if end < 0:
                    raise _FaultError("unmatched brace {", brace)
                if variable is None:
                    variable = Variable(line[at + 1 : end], frozenset())
                at = end
            if line[at : at + 1] != "}":
                raise _FaultError("unmatched brace {", brace)
            at += 1
        self._at = at
        if is_list and self._dialect.drops_empty_lists:
            self._quote_is_empty = False
        if variable is None:
            self._nothing(name, is_list=is_list)
        else:
            self._value(name, variable, is_list=is_list)

    def _value(self, name: str, variable: Variable, *, is_list: bool) -> None:
        for char in variable.text:
            if is_list and char in BLANKS:
                # The first blank ends a word, those after it have none to end.
                self._end_word()
                continue
            self._emit(char)
            self._origins |= variable.origins | ({name} if name in self._variables else set())

    def _nothing(self, name: str, *, is_list: bool) -> None:
        """A variable without a value."""
        if is_list and self._dialect.drops_empty_lists:
            return
        self._begin_word()
        self._unset.add(name)
        if self._dialect.joins_after_unset and self._line[self._at : self._at + 1] == '"':
            self._quote = None
            self._at += 1
            self._skip_blanks()
