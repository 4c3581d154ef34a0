"""A small document: headings, paragraphs, lists, tables and code; as Markdown, and as HTML.

report.md and report.html are made of the same blocks. Whatever a text contains, it stays text: what
users chose (names, labels, files) is escaped here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape as escape_html
from itertools import groupby

from chaosd import shown

_BELOW = re.compile(r"[\w@+=,-][\w@+=,./-]*")


@dataclass(frozen=True, slots=True)
class Text:
    """Plain words."""

    words: str


@dataclass(frozen=True, slots=True)
class Strong:
    words: str


@dataclass(frozen=True, slots=True)
class Emphasis:
    words: str


@dataclass(frozen=True, slots=True)
class CodeSpan:
    words: str


@dataclass(frozen=True, slots=True)
class Link:
    """To a file beside or below the document, and nowhere else."""

    words: str
    target: str

    def __post_init__(self) -> None:
        if not _BELOW.fullmatch(self.target) or ".." in self.target.split("/"):
            raise ValueError(f"not a path below the document: {self.target}")


Inline = Text | Strong | Emphasis | CodeSpan | Link
Line = tuple[Inline, ...]
Said = Inline | str | int  # a bare string or number is Text


@dataclass(frozen=True, slots=True)
class Heading:
    words: str
    level: int = 2  # 1 is the document's title


@dataclass(frozen=True, slots=True)
class Paragraph:
    line: Line


@dataclass(frozen=True, slots=True)
class Bullets:
    items: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: words are set to the left, numbers to the right."""

    title: str
    numbers: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` have a cell for each column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Line, ...], ...]

    def __post_init__(self) -> None:
        if wrong := [len(row) for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"a row of {wrong[0]} cells in a table of {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class Code:
    """Lines as they are, such as a file."""

    text: str


Block = Heading | Paragraph | Bullets | Table | Code


def line(*parts: Said) -> Line:
    """Words in a row."""
    return tuple(Text(str(part)) if isinstance(part, str | int) else part for part in parts)


def paragraph(*parts: Said) -> Paragraph:
    return Paragraph(line(*parts))


def bullets(items: Iterable[str | Line]) -> Bullets:
    return Bullets(tuple(line(item) if isinstance(item, str) else item for item in items))


def table(columns: Iterable[Column], rows: Iterable[Sequence[Said]]) -> Table:
    return Table(tuple(columns), tuple(tuple(line(cell) for cell in row) for row in rows))


def word_columns(*titles: str) -> list[Column]:
    """Columns of words."""
    return [Column(title) for title in titles]


def number_columns(*titles: str) -> list[Column]:
    """Columns of numbers."""
    return [Column(title, numbers=True) for title in titles]


# --- Markdown (CommonMark, with GitHub's tables) -------------------------------------------------

FENCE_MIN = 3
_LINE_BREAKS = re.compile(r"\s*[\r\n]+\s*")
# `_` within a word and `[` without a target say nothing, and stay readable as they are.
_SPECIAL = re.compile(r"[\\`*~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[\[(:])")
_HTML = {"&": "&amp;", "<": "&lt;"}
# What would begin another block, at the start of one.
_BLOCK_START = re.compile(r"(?:#{1,6}|[>+=-]|\d{1,9}(?=[.)]))")
_BACKTICKS = re.compile(r"`+")


def to_markdown(blocks: Iterable[Block]) -> str:
    """The document as Markdown; blocks are separated by an empty line."""
    return "\n\n".join(map(_block_to_markdown, blocks)) + "\n"


def _block_to_markdown(block: Block) -> str:
    match block:
        case Heading(title, level):
            said = _escape(title.strip()).replace("#", "\\#")  # which may close a heading, too
            return f"{'#' * level} {said}"
        case Paragraph(parts):
            return _start(_line_to_markdown(parts))
        case Bullets(items):
            return "\n".join(f"* {_start(_line_to_markdown(item))}" for item in items)
        case Table(columns, rows):
            heads = [line(column.title) for column in columns]
            lines = [_row_to_markdown(row) for row in (heads, *rows)]
            marks = ("---:" if column.numbers else "---" for column in columns)
            return "\n".join([lines[0], f"| {' | '.join(marks)} |", *lines[1:]])
        case Code(text):
            fence = "`" * max(FENCE_MIN, _longest_backticks(text) + 1)
            return f"{fence}\n{shown.text(text.rstrip())}\n{fence}"


def _row_to_markdown(cells: Iterable[Line]) -> str:
    # A table is cut into cells before anything else is read: a bar is escaped in code, too.
    parts = (_line_to_markdown(cell).strip().replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(parts)} |"


def _start(text: str) -> str:
    """What is the start of a block, so that it begins no other one."""
    text = text.lstrip()
    found = _BLOCK_START.match(text)
    if found is None:
        return text
    place = found.end() if found.group()[0].isdigit() else 0
    return f"{text[:place]}\\{text[place:]}"


def _line_to_markdown(parts: Line) -> str:
    said = []
    for kind, same in groupby(parts, key=type):
        if kind is Text:  # what special characters mean hangs on their neighbours
            said.append(_escape("".join(part.words for part in same)))
        else:
            said += map(_inline_to_markdown, same)
    return "".join(said)


def _inline_to_markdown(part: Inline) -> str:
    match part:
        case Text(said):
            return _escape(said)
        case Strong(said):
            return f"**{_escape(said)}**"
        case Emphasis(said):
            return f"*{_escape(said)}*"
        case CodeSpan(said):
            said = shown.line(_LINE_BREAKS.sub(" ", said))
            fence = "`" * (_longest_backticks(said) + 1)
            room = " " if said.strip() and (said[0] in " `" or said[-1] in " `") else ""
            return f"{fence}{room}{said}{room}{fence}" if said else ""
        case Link(said, target):
            return f"[{_escape(said)}]({target})"


def _escape(said: str) -> str:
    said = _SPECIAL.sub(r"\\\g<0>", shown.line(_LINE_BREAKS.sub(" ", said)))
    return re.sub("[&<]", lambda found: _HTML[found.group()], said)


def _longest_backticks(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)


# --- HTML ----------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """A text that others chose, as a part of a page."""
    return escape_html(shown.text(text))


def to_html(blocks: Iterable[Block]) -> str:
    """The document as elements of a page's body."""
    return "".join(map(_block_to_html, blocks))


def _block_to_html(block: Block) -> str:
    match block:
        case Heading(title, level):
            return f"<h{level}>{escape(title)}</h{level}>"
        case Paragraph(parts):
            return f"<p>{_line_to_html(parts)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{_line_to_html(item)}</li>' for item in items)}</ul>"
        case Table(columns, rows):
            heads = [line(column.title) for column in columns]
            head = _row_to_html(columns, heads, "th") if any(c.title for c in columns) else ""
            body = "".join(_row_to_html(columns, row, "td") for row in rows)
            return f"<table>{head}{body}</table>"
        case Code(text):
            return f"<pre>{escape(text)}</pre>"


def _row_to_html(columns: Iterable[Column], cells: Iterable[Line], tag: str) -> str:
    kinds = (' class="n"' if column.numbers else "" for column in columns)
    row = (
        f"<{tag}{kind}>{_line_to_html(cell)}</{tag}>"
        for kind, cell in zip(kinds, cells, strict=True)
    )
    return f"<tr>{''.join(row)}</tr>"


def _line_to_html(parts: Line) -> str:
    return "".join(map(_inline_to_html, parts))


def _inline_to_html(part: Inline) -> str:
    said = escape(part.words)
    match part:
        case Text():
            return said
        case Strong():
            return f"<b>{said}</b>"
        case Emphasis():
            return f"<em>{said}</em>"
        case CodeSpan():
            return f"<code>{said}</code>"
        case Link(target=target):
            return f'<a href="{escape(target)}">{said}</a>'
