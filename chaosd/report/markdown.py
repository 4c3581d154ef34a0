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
    if (said := sections.in_words(report)) is not None:
        yield said
    yield sections.headlines(report)
    if report.objectives:
        yield Heading("Objectives")
        yield sections.objectives(report)
    if report.arms:
        yield Heading("Arms side by side")
        yield from sections.side_by_side(report)
        for name, arm in report.arms.items():
            yield Heading(f"Arm {name}")
            yield sections.arm_headlines(name, arm)
            yield from _results(arm, level=3)
    else:
        yield from _results(report, level=2)
    if blocks := list(sections.what_was_run(files)):
        yield Heading("What was run")
        yield from blocks
    yield Heading("How to read this")
    yield sections.HOW_TO_READ
    yield Heading("Settings")
    yield from sections.settings(report, files)


def _results(report: Report, level: int) -> Iterator[Block]:
    """What was measured: of a run with one arm, or of one arm among several."""
    yield Heading("Recovery", level)
    yield from sections.recovery(report)
    yield Heading("Where the seconds went", level)
    yield from sections.phases(report.total)
    yield Heading("What users saw", level)
    yield from sections.requests(report)
    yield Heading("How good these numbers are", level)
    yield from sections.quality(report)
