"""Edits of a file's lines, applied to a copy: what is not edited keeps its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaosd.proxies.haproxy.cfg.source import Place, Statement, Word
from chaosd.proxies.haproxy.rewire.reasons import Reason


@dataclass(frozen=True)
class Edit:
    """One change of one line. Columns are counted from 1, as those of `Word` are."""

    place: Place
    reason: Reason
    detail: str = ""


@dataclass(frozen=True)
class Replace(Edit):
    """These columns become this text."""

    start: int = 0
    end: int = 0
    text: str = ""


@dataclass(frozen=True)
class Drop(Edit):
    """The line becomes a comment."""


@dataclass(frozen=True)
class Insert(Edit):
    """Lines that come after this one; after line 0: before the first."""

    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One place of the difference, for people: the lines before, those after, and why."""

    line: int  # of the user's file; of an insertion the line before it
    before: tuple[str, ...]
    after: tuple[str, ...]
    reasons: tuple[Edit, ...]


@dataclass(frozen=True)
class Copy:
    """A file of the user's as chaosd runs it."""

    path: Path  # of the user's file
    text: str
    origins: tuple[int, ...]  # for each line of the copy the user's, 0 where chaosd has added it
    changes: tuple[Change, ...] = field(default=())

    def user_line(self, line: int) -> int:
        """The user's line that this one comes from; of an added one the line before it."""
        while line > 0 and not (line <= len(self.origins) and self.origins[line - 1]):
            line -= 1
        return self.origins[line - 1] if line else 0


def replace_word(statement: Statement, word: Word, text: str, reason: Reason) -> Replace:
    """One word of a line becomes another."""
    return Replace(statement.place, reason, start=word.start, end=word.end, text=text)


def replace_line(statement: Statement, text: str, reason: Reason) -> Replace:
    """All of a line becomes this text, but for its comment and the blanks before it."""
    start = statement.words[0].start
    if statement.modifier:
        start -= len(f"{statement.modifier} ")
    return Replace(statement.place, reason, start=start, end=statement.words[-1].end, text=text)


def remove_words(statement: Statement, words: Sequence[Word], reason: Reason) -> list[Edit]:
    """These words go, each with the blanks before it."""
    found: list[Edit] = []
    every = [word.start for word in statement.words]
    for word in words:
        at = every.index(word.start)
        start = statement.words[at - 1].end if at else word.start
        found.append(Replace(statement.place, reason, start=start, end=word.end))
    return found


def append_words(statement: Statement, text: str, reason: Reason) -> Replace:
    """Words at the line's end, before its comment."""
    end = statement.words[-1].end
    return Replace(statement.place, reason, start=end, end=end, text=f" {text}")


def apply(path: Path, text: str, edits: Sequence[Edit]) -> Copy:
    """Make the copy. Where a line is dropped nothing else is done to it."""
    by_line: dict[int, list[Edit]] = {}
    for edit in edits:
        by_line.setdefault(edit.place.line, []).append(edit)
    lines, made, origins, changes = text.split("\n"), list[str](), list[int](), list[Change]()
    for number in range(len(lines) + 1):
        mine = by_line.get(number, [])
        if number:
            before = lines[number - 1]
            own = [edit for edit in mine if not isinstance(edit, Insert)]
            after = _edited(before, own)
            made.append(after)
            origins.append(number)
            if after != before:
                changes.append(Change(number, (before,), (after,), tuple(own)))
        for insertion in (edit for edit in mine if isinstance(edit, Insert)):
            made += insertion.lines
            origins += [0] * len(insertion.lines)
            if insertion.lines:  # without any it ends the file's last line
                changes.append(Change(number, (), insertion.lines, (insertion,)))
    joined = "\n".join(made)
    if not joined.endswith("\n") and any(isinstance(edit, Insert) for edit in edits):
        joined += "\n"
    return Copy(path, joined, tuple(origins), tuple(changes))


def _edited(line: str, edits: Sequence[Edit]) -> str:
    if any(isinstance(edit, Drop) for edit in edits):
        blanks = len(line) - len(line.lstrip())
        return f"{line[:blanks]}# {line[blanks:]}"
    firsts: dict[tuple[int, int, bool], Replace] = {}  # of several for one word the first counts
    appended = {edit.text for edit in edits if isinstance(edit, Replace) and edit.start == edit.end}
    for number, edit in enumerate(edits):
        if isinstance(edit, Replace):
            is_append = edit.start == edit.end
            if is_append and any(text.startswith(f"{edit.text} ") for text in appended):
                continue  # another begins with these words, too
            firsts.setdefault((edit.start, edit.end + number * is_append, is_append), edit)
    replacements = list(firsts.values())
    # From the right, so that the columns of the others stay; what is appended last comes last.
    ordered = sorted(enumerate(replacements), key=lambda pair: (pair[1].start, pair[0]))
    edge = len(line) + 1
    for _, edit in reversed(ordered):
        inside = [e for e in replacements if e.start < edit.start < e.end >= edit.end]
        if inside or edit.end > edge:
            continue  # the words go as a whole, or have been replaced already
        line = line[: edit.start - 1] + edit.text + line[edit.end - 1 :]
        edge = edit.start
    return line
