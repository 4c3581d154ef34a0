"""Arms side by side: each arm's numbers, and each held against the first one."""

from __future__ import annotations

import json
from collections.abc import Iterator

from chaosd.analysis.compare import Comparison, Side, compare
from chaosd.analysis.summary import Report
from chaosd.report import json as report_json
from chaosd.report import text, words

HEADINGS = ("arm", "failovers", "recovery p50", "p95", "failed", "misrouted", "in band", "DNS/s")


def against_first(report: Report) -> dict[str, Comparison]:
    """Each arm but the first held against it, by its name."""
    names = list(report.arms)
    sides = {name: _side(report.arms[name]) for name in names}
    return {name: compare(sides[names[0]], sides[name]) for name in names[1:]}


def _side(arm: Report) -> Side:
    stored = json.loads(report_json.render(arm, {}))
    return Side.of(stored, stored["total"])


def table(report: Report) -> list[list[str]]:
    """A row for each arm, below HEADINGS."""
    rows = []
    for name, arm in report.arms.items():
        whole = arm.total
        rates = [found.per_second for found in arm.queries.values() if found.per_second is not None]
        rows.append(
            [
                name,
                str(whole.failovers),
                text.estimate(whole.recovery_s.p50),
                text.estimate(whole.recovery_s.p95),
                text.estimate(whole.failed_s),
                text.estimate(whole.misrouted_s),
                f"{whole.in_band.count} of {whole.in_band.n}" if whole.in_band.n else "-",
                f"{sum(rates) / len(rates):.2f}" if rates else "-",
            ]
        )
    return rows


def comparisons(report: Report) -> Iterator[str]:
    """How each arm does beside the first one, a sentence each."""
    first = next(iter(report.arms))
    for name, found in against_first(report).items():
        reasons = ", ".join(map(words.comparison, found.reasons))
        yield f"{name} vs {first}: {found.answer}{f' ({reasons})' if reasons else ''}"


def lines(report: Report) -> Iterator[str]:
    """The table and the answers for a terminal."""
    rows = [list(HEADINGS), *table(report)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()
    yield from comparisons(report)
