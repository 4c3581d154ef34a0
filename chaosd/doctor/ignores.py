"""`# chaosd: ignore RULE reason` in a file: the finding is known, and wanted.

Behind a line it is about that line; alone on a line it is about the next one that says something;
before a section's header, or behind it, about the whole section.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from chaosd.doctor.finding import Finding, Spot
from chaosd.doctor.subject import Subject
from chaosd.proxies.haproxy.cfg.files import SourceText
from chaosd.proxies.haproxy.cfg.source import Place

_COMMENT = re.compile(r"#\s*chaosd:\s*ignore\b[ \t]*([\w-]*)[ \t]*(.*)$")


@dataclass(frozen=True, slots=True)
class Ignore:
    """One such comment, and the lines that it is about."""

    spot: Spot
    rule: str  # nothing if it names none
    reason: str
    lines: range


def read(subject: Subject) -> list[Ignore]:
    """The comments of all files, in their order."""
    return [ignore for source in subject.sources for ignore in _of_file(subject, source)]


def _of_file(subject: Subject, source: SourceText) -> Iterator[Ignore]:
    if "chaosd:" not in source.text:
        return
    lines = source.text.split("\n")
    sections = _sections(subject, source)
    for number, line in enumerate(lines, start=1):
        found = _COMMENT.search(line)
        if found is None:
            continue
        at = number
        if not line[: found.start()].strip():
            at = next((n for n in range(number + 1, len(lines) + 1) if _says(lines[n - 1])), number)
        spot = Spot(Place(source.path, number), found.start() + 1, len(line.rstrip()) + 1)
        yield Ignore(spot, found[1], found[2].strip(), sections.get(at, range(at, at + 1)))


def _says(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _sections(subject: Subject, source: SourceText) -> dict[int, range]:
    """The lines of each section of a file, by the line of its header."""
    headers = [
        section.header.place.line
        for section in subject.effective.document.sections
        if section.header.place.file == source.path
    ]
    ends = [*headers[1:], source.text.count("\n") + 2]
    return {start: range(start, end) for start, end in zip(headers, ends, strict=True)}


def apply(
    findings: Iterable[Finding], ignores: Sequence[Ignore]
) -> tuple[list[Finding], list[Ignore]]:
    """The findings that are not ignored, and the comments that no finding needs."""
    used: set[Ignore] = set()
    kept = []
    for finding in findings:
        mine = [ignore for ignore in ignores if _is_about(ignore, finding)]
        used.update(mine)
        if not mine:
            kept.append(finding)
    return kept, [ignore for ignore in ignores if ignore not in used]


def _is_about(ignore: Ignore, finding: Finding) -> bool:
    file = ignore.spot.place.file
    return ignore.rule == finding.rule and any(
        place.file == file and place.line in ignore.lines for place in finding.places
    )
