"""The edits that remedies are made of: a word here, a line there."""

from __future__ import annotations

from collections.abc import Iterable

from chaosd.doctor.finding import Remedy
from chaosd.doctor.subject import Subject
from chaosd.proxies.haproxy.cfg.effective import Origin, Proxy, Resolvers, Server, Value
from chaosd.proxies.haproxy.cfg.source import Place, Section, Statement
from chaosd.proxies.haproxy.rewire.edits import (
    Drop,
    Edit,
    Insert,
    Replace,
    append_words,
    replace_line,
    replace_word,
)
from chaosd.proxies.haproxy.rewire.reasons import Reason

_INDENT = "    "


def reword(value: Value, text: str) -> Edit:
    """What a value says becomes this text. It must be said somewhere."""
    if value.place is None or value.word is None:
        raise ValueError("nobody says this value")
    return Replace(
        value.place, Reason.MENDED, start=value.word.start, end=value.word.end, text=text
    )


def rewrite(statement: Statement, text: str) -> Edit:
    """A whole line, but for its comment."""
    return replace_line(statement, text, Reason.MENDED)


def leave_out(statement: Statement) -> Edit:
    """A whole line becomes a comment."""
    return Drop(statement.place, Reason.MENDED)


def append(statement: Statement, text: str) -> Edit:
    """Words at the end of a line."""
    return append_words(statement, text, Reason.MENDED)


def insert(subject: Subject, header: Place, *texts: str) -> Edit:
    """Lines at the beginning of a section, indented as its others are."""
    section = subject.section_at(header)
    blanks = _indent(subject, section)
    return Insert(header, Reason.MENDED, lines=tuple(f"{blanks}{text}" for text in texts))


def end(place: Place) -> Edit:
    """The newline that a file's last line lacks."""
    return Insert(place, Reason.MENDED, lines=())


def _indent(subject: Subject, section: Section) -> str:
    for statement in section.statements:
        text = subject.line(statement.place)
        if blanks := text[: len(text) - len(text.lstrip())]:
            return blanks
    return _INDENT


def set_on_server(server: Server, keyword: str, text: str) -> Edit:
    """A keyword of a server line: replaced if the line has it, else added at its end."""
    value = server.values.get(keyword)
    if value is not None and value.origin is Origin.OWN and value.word is not None:
        word = value.word
        return replace_word(server.statement, word, text, Reason.MENDED)
    return append(server.statement, f"{keyword} {text}")


def set_in_resolvers(subject: Subject, section: Resolvers, keyword: str, text: str) -> Edit:
    """A line of a resolvers section, such as `hold obsolete`: reworded, or added."""
    value = section.values.get(keyword)
    if value is not None and value.is_said:
        return reword(value, text)
    return insert(subject, section.place, f"{keyword} {text}")


def by_home(subject: Subject, lacking: Iterable[tuple[Proxy, Value]]) -> list[list[Proxy]]:
    """Backends that lack a line, together where one finding says it of all of them.

    Those that one line is wrong for, those of one `defaults`, and all that have none.
    """
    found: dict[Place | None, list[Proxy]] = {}
    for proxy, value in lacking:
        parent = subject.parent_of(proxy)
        home = value.place or (None if parent is None else parent.header.place)
        found.setdefault(home, []).append(proxy)
    return list(found.values())


def insert_for(subject: Subject, proxies: Iterable[Proxy], text: str) -> list[Edit]:
    """A line that backends lack: once in their defaults, or in each that has none."""
    homes = dict.fromkeys(home_of(subject, proxy) for proxy in proxies)
    return [insert(subject, home, text) for home in homes]


def home_of(subject: Subject, proxy: Proxy) -> Place:
    """Where a line that a backend lacks is best put: in its defaults, if it has some."""
    parent = subject.parent_of(proxy)
    return proxy.place if parent is None else parent.header.place


def remedy(*edits: Edit, advice: str = "", safe: bool = True) -> Remedy:
    return Remedy(edits=tuple(dict.fromkeys(edits)), advice=advice, safe=safe)
