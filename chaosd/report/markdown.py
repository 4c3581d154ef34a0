"""A run for people who were not there: report.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chaosd.analysis.summary import Report
from chaosd.report import sections
from chaosd.report.document import Block, Heading, to_markdown


def render(report: Report, files: Mapping[str, str]) -> str:
    """Everything that a reader needs, with nothing else at hand: `files` by name, as they were."""
    return to_markdown(_blocks(report, files))


def _blocks(report: Report, files: Mapping[str, str]) -> Iterator[Block]:
    yield Heading(report.run, level=1)
    yield sections.headlines(report)
    if report.objectives:
        yield Heading("Objectives")
        yield sections.objectives(report)
    yield Heading("Recovery")
    yield from sections.recovery(report)
    yield Heading("Where the seconds went")
    yield from sections.phases(report.total)
    yield Heading("What users saw")
    yield from sections.requests(report)
    yield Heading("How good these numbers are")
    yield from sections.quality(report)
    yield Heading("How to read this")
    yield sections.HOW_TO_READ
    yield Heading("Settings")
    yield from sections.settings(report, files)
