"""What stands after `.if` and `.elif`, as HAProxy's src/cfgcond.c decides it.

A condition can be unknown: whether a build has a feature is known only of a build at hand.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from chaosd.proxies.haproxy.cfg.dialect import Dialect

_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+)")
_PREDICATE = re.compile(r"[^ (]*")
_VERSION = re.compile(r"(\d+(?:\.\d+){0,3})(?:-(?:(dev|rc|pre)(\d*))?(?:-?(.*))?)?")
_TAGS = {"dev": 1, "rc": 2, "pre": 2}
_ARGUMENTS = {"streq": 2, "strneq": 2, "strstr": 2, "fips_mode": 0}
_DEPTH_MAX = 100
_PARTS = 3  # of a release's version
_RELEASE = 3  # a release's tag, which comes after those of development versions

Truth = bool | None  # None: it depends on what is not known here


@dataclass(frozen=True)
class BuildFacts:
    """What is known of the HAProxy that reads the file."""

    dialect: Dialect = field(default_factory=Dialect)
    features: frozenset[str] | None = None  # those with a + in `haproxy -vv`; None: not known


def features_in(text: str) -> frozenset[str] | None:
    """Read the features of a build from what `haproxy -vv` prints; None if it says none."""
    found = re.search(r"^Feature list : (.*)$", text, re.MULTILINE)
    return found and frozenset(word[1:] for word in found[1].split() if word.startswith("+"))


class ConditionError(ValueError):
    """It is no condition. The message says why."""


def decide(
    text: str, variables: Collection[str], build: BuildFacts, *, is_open: bool = False
) -> Truth:
    """Decide a condition. Raises ConditionError if it is none.

    `is_open` says that its text comes from variables whose values are not known here.
    """
    text = text.strip(" \t")
    if not text:
        return False
    parser = _Parser(text, variables, build, is_open=is_open)
    found = parser.either(_DEPTH_MAX)
    if parser.rest():
        raise ConditionError(f"unexpected {parser.rest()[0]!r} at the end of the condition")
    return found


class _Parser:
    def __init__(
        self, text: str, variables: Collection[str], build: BuildFacts, *, is_open: bool
    ) -> None:
        self._text, self._at = text, 0
        self._variables, self._build, self._is_open = variables, build, is_open

    def rest(self) -> str:
        self._skip()
        return self._text[self._at :]

    def _skip(self) -> None:
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1

    def _operator(self, operator: str) -> bool:
        self._skip()
        if not self._text.startswith(operator, self._at):
            return False
        if not self._build.dialect.has_operators:
            raise ConditionError(f"{operator} needs HAProxy 2.5 or later")
        self._at += len(operator)
        return True

    def either(self, depth: int) -> Truth:
        found = self._both(depth)
        while self._operator("||"):
            other = self._both(depth)
            found = True if True in (found, other) else None if None in (found, other) else False
        return found

    def _both(self, depth: int) -> Truth:
        found = self._term(depth)
        while self._operator("&&"):
            other = self._term(depth)
            found = False if False in (found, other) else None if None in (found, other) else True
        return found

    def _term(self, depth: int) -> Truth:
        negated = False
        while self._operator("!"):
            negated = not negated
        self._skip()
        if not self._text[self._at :]:
            raise ConditionError("the condition ends where a predicate should be")
        found: Truth
        if number := _NUMBER.match(self._text, self._at):
            self._at = number.end()
            found = int(number[0].lstrip("+-0xX") or "0", 16) != 0
        elif self._operator("("):
            if depth <= 0:
                raise ConditionError("too many brackets in each other")
            found = self.either(depth - 1)
            if not self._operator(")"):
                raise ConditionError("a bracket ( is not closed")
        else:
            found = self._predicate()
        return found if found is None else found != negated

    def _predicate(self) -> Truth:
        match = _PREDICATE.match(self._text, self._at)
        name = match[0] if match else ""
        if name not in self._build.dialect.predicates:
            known = ", ".join(sorted(self._build.dialect.predicates))
            raise ConditionError(f"unknown predicate `{name}` (known: {known})")
        self._at += len(name)
        wanted = _ARGUMENTS.get(name, 1)
        arguments = self._arguments() if self._text[self._at : self._at + 1] == "(" else []
        if len(arguments) != wanted:
            raise ConditionError(f"{name} takes {wanted} arguments, not {len(arguments)}")
        return self._holds(name, arguments)

    def _arguments(self) -> list[str]:
        """As `make_arg_list` of HAProxy's src/arg.c: quotes, escapes, commas."""
        self._at += 1
        found, quote, text = [""], "", self._text
        while self._at < len(text):
            char, following = text[self._at], text[self._at + 1 : self._at + 2]
            self._at += 1
            if char in "\"'" and quote in ("", char):
                quote = "" if quote else char
            elif char == "\\" and quote != "'" and following and following in " \\\"'rnt":
                found[-1] += {"r": "\r", "n": "\n", "t": "\t"}.get(following, following)
                self._at += 1
            elif char == "," and not quote:
                found.append("")
            elif char == ")" and not quote:
                return found
            else:
                found[-1] += char
        raise ConditionError("a bracket ( is not closed")

    def _holds(self, name: str, arguments: list[str]) -> Truth:
        if name == "defined":
            return arguments[0] in self._variables
        if name in ("version_atleast", "version_before"):
            is_older = self._is_older_than(_parse(arguments[0]))
            return is_older if name == "version_before" or is_older is None else not is_older
        if name == "feature":
            features = self._build.features
            return None if features is None else arguments[0] in features
        if name in ("streq", "strneq", "strstr") and not self._is_open:
            one, other = arguments
            return other in one if name == "strstr" else (one == other) == (name == "streq")
        return None

    def _is_older_than(self, other: tuple[int, ...] | None) -> Truth:
        if other is None:  # no version is older than what is none
            return False
        version = self._build.dialect.version
        if self._build.dialect.is_assumed:
            return None
        if len(version) < _PARTS and version == other[: len(version)] and any(other[2:4]):
            return None  # which release of the line it is, is not known
        return (*[*version, 0, 0][:3], 0, _RELEASE, 0, 0) < other


def _parse(text: str) -> tuple[int, ...] | None:
    """Read a version as `split_version` of HAProxy's src/haproxy.c: numbers, tag, commit."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    numbers = [int(number) for number in found[1].split(".")]
    tag, tag_number = _TAGS.get(found[2] or "", _RELEASE), int(found[3] or 0)
    commit = (found[4] or "").rpartition("-")[2]
    return (*[*numbers, 0, 0, 0][:4], tag, tag_number, int(commit) if commit.isdecimal() else 0)
