"""The worst cycles of a run, each with what was said and done around it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from chaosd.analysis.observed import Observed, observed
from chaosd.analysis.summary import Report
from chaosd.history.codec import encode_event
from chaosd.history.cycles import Cycle
from chaosd.history.events import AnyEvent
from chaosd.history.flight_record import name as flight_name
from chaosd.report import text
from chaosd.report.document import (
    Block,
    Code,
    escape,
    number_columns,
    paragraph,
    table,
    to_html,
    word_columns,
)

WORST_MAX, WORST_OF_ARM_MIN = 10, 3
EVENTS_MAX, LOG_LINES_SHOWN = 200, 30
ERROR_SHOWN_NS = 50_000  # what is known better is known


class Flight(NamedTuple):
    """A cycle that is worth a second look, with what was said and done around it."""

    cycle: Cycle
    events: Sequence[AnyEvent]
    record: Mapping[str, Any]  # its flight record; empty if it has none


def worst_cycles(report: Report, cycles: Sequence[Cycle]) -> list[Cycle]:
    """The worst of a run, or of each of its arms: a slow one does not hide the others'."""
    if not report.arms:
        return worst(cycles)
    most = max(WORST_OF_ARM_MIN, WORST_MAX // len(report.arms))
    by_arm = ([c for c in cycles if c.cell in arm.cells] for arm in report.arms.values())
    return [cycle for own in by_arm for cycle in worst(own)[:most]]


def worst(cycles: Sequence[Cycle]) -> list[Cycle]:
    """Those not recovered, those outside of their band, and the longest; the gravest first."""
    found = [(cycle, known) for cycle in cycles if (known := observed(cycle)) is not None]

    def gravity(each: tuple[Cycle, Observed]) -> tuple[bool, bool, float]:
        cycle, known = each
        return known.censored, bool(cycle.anomaly), known.seconds

    return [cycle for cycle, _ in sorted(found, key=gravity, reverse=True)[:WORST_MAX]]


def _stored_words(event: AnyEvent) -> tuple[str, str, object]:
    """Who tells, what, and with which details: the stored words, which of a line that is kept as
    it was may be any.
    """
    stored = json.loads(encode_event(event))
    details = stored.get("data", {})
    if "verb" in stored:
        return "chaosd", f"{stored['verb']} {stored.get('edge')}", details
    return str(stored.get("source")), str(stored.get("what")), details


def render(flight: Flight) -> str:
    """A line that unfolds."""
    cycle, record = flight.cycle, flight.record
    blocks: list[Block] = []
    if cycle.residual_s is not None:
        place = "" if cycle.predicted_place is None else f", {cycle.predicted_place:.0%} of"
        shorter = f"{place} the predicted distribution is shorter" if place else ""
        blocks.append(paragraph(f"{cycle.residual_s:+.3f} s vs predicted mean{shorter}."))
    rows = []
    for event in sorted(flight.events, key=lambda e: e.at_ns)[:EVENTS_MAX]:
        who, what, details = _stored_words(event)
        data = json.dumps(details, ensure_ascii=False)[:300]
        error_ns = event.error_ns
        known = f"± {error_ns / 1e6:.1f}" if error_ns >= ERROR_SHOWN_NS else ""
        rows.append([f"{(event.at_ns - cycle.t0_ns) / 1e6:.1f}", known, who, what, data])
    columns = [*number_columns("ms", "known to"), *word_columns("who", "what", "")]
    blocks.append(table(columns, rows))
    if record:
        left_out = f"{record.get('left_out', 0):,} that say little are left out"
        log = record.get("log", [])[-LOG_LINES_SHOWN:]
        blocks += [
            paragraph(f"Requests, stream by stream ({left_out}):"),
            Code("\n".join(_stretches(record.get("samples", {})))),
            paragraph(f"The end of the proxy's own log; all of it is in {flight_name(cycle)}:"),
            Code("\n".join(log)),
        ]
    return (
        f"<details><summary>{escape(text.sentence(cycle, wide=True))}</summary>"
        f"{to_html(blocks)}</details>"
    )


def _stretches(streams: Mapping[str, Sequence[Sequence[Any]]]) -> Iterator[str]:
    """What requests came to, a line for each stretch of the same."""
    for stream, rows in streams.items():
        for (outcome, status, who), same in groupby(rows, key=lambda row: tuple(row[2:5])):
            some = list(same)
            by = f" by {who}" if who else ""
            took = [row[1] for row in some]
            yield (
                f"stream {stream}: sent {some[0][0]:.0f} to {some[-1][0]:.0f} ms: "
                f"{outcome}{f' {status}' if status else ''}{by}, {len(some)} of them here, "
                f"in {min(took):.1f} to {max(took):.1f} ms"
            )
