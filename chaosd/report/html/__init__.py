"""A run as one page that needs nothing else: report.html."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Any, NamedTuple

from chaosd.analysis.heat import Heat
from chaosd.analysis.recovery import Observed, observed
from chaosd.analysis.slo import OK
from chaosd.analysis.summary import Report
from chaosd.history.codec import encode_event
from chaosd.history.cycles import PHASES, Cycle
from chaosd.history.events import AnyEvent
from chaosd.history.flight_record import name as flight_name
from chaosd.report import markdown, text, words
from chaosd.report.html import pictures
from chaosd.report.html.pictures import key

WORST_MAX, EVENTS_MAX, LOG_LINES_SHOWN = 10, 200, 30
ERROR_SHOWN_NS = 50_000  # what is known better is known
_NUMBER = re.compile(r"\s*([\d?–<>+-]|unknown|$)")  # noqa: RUF001 - an en dash is nothing there
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Flight(NamedTuple):
    """A cycle that is worth a second look, with what was said and done around it."""

    cycle: Cycle
    events: Sequence[AnyEvent]
    record: Mapping[str, Any]  # its flight record; empty if it has none


def worst(cycles: Sequence[Cycle]) -> list[Cycle]:
    """Those not recovered, those outside of their band, and the longest; the gravest first."""
    found = [(cycle, known) for cycle in cycles if (known := observed(cycle)) is not None]

    def gravity(each: tuple[Cycle, Observed]) -> tuple[bool, bool, float]:
        cycle, known = each
        return known.censored, bool(cycle.anomaly), known.seconds

    return [cycle for cycle, _ in sorted(found, key=gravity, reverse=True)[:WORST_MAX]]


def render(
    report: Report,
    cycles: Sequence[Cycle],
    heat: Heat,
    flights: Sequence[Flight],
    texts: Mapping[str, str],
) -> str:
    """The whole page. No script, no request to anywhere: it can be mailed, archived and printed."""
    style = (files(__package__) / "style.css").read_text(encoding="utf-8")
    blocks = [
        _head(report),
        *_pictures(report, cycles, heat),
        _section("Recovery", markdown.recovery(report)),
        _section("What users saw", markdown.requests(report)),
        _worst(flights),
        _section("How good these numbers are", markdown.quality(report)),
        _section("How to read this", markdown.HOW_TO_READ),
        _section("Settings", markdown.facts(report)),
        *(
            f"<p><code>{escape(name)}</code>:</p><pre>{escape(t)}</pre>"
            for name, t in texts.items()
        ),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.run)} - chaosd</title><style>{style}</style></head>"
        f"<body><main>{''.join(blocks)}</main></body></html>\n"
    )


def _head(report: Report) -> str:
    whole, manifest = report.total, report.manifest
    found = whole.recovery_s
    tiles = [(text.headline(report), "failovers", f"{whole.failovers:,}")]
    if whole.failovers:
        tiles += [
            (text.interval(value), f"recovery {name}", text.short(value))
            for name, value in (("p50", found.p50), ("p95", found.p95))
        ]
        tiles += [
            (f"of {whole.samples:,} requests during failovers", name, f"{count:,}")
            for name, count in (
                ("failed", whole.failed),
                ("masked", whole.masked),
                ("misrouted", whole.misrouted),
            )
        ]
    cards = "".join(
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b>'
        f"<span>{escape(note)}</span></div>"
        for note, name, value in tiles
    )
    proxy = " ".join(str(manifest.get(k) or "") for k in ("proxy", "proxy_version"))
    where = f"{proxy.strip()}, runtime {manifest.get('runtime', '?')}"
    notes = "".join(f"<li>{escape(words.remark(note))}</li>" for note in report.notes)
    objectives = ""
    if report.objectives:  # on a narrow screen the last column, why, has lines of its own
        section = _section("Objectives", markdown.objectives(report))
        objectives = f'<section class="objectives">{section}</section>'
    return (
        f'<header><div><h1>{escape(report.run)}</h1><div class="sub">{escape(where)}</div></div>'
        f'<div class="verdict {_colour(report)}">verdict: {report.verdict}</div></header>'
        f"<p>{escape(text.verdict_words(report))}</p>"
        f'<div class="tiles">{cards}</div>' + (f"<ul>{notes}</ul>" if notes else "") + objectives
    )


def _colour(report: Report) -> str:
    """Green is what was asked for and kept; a good measurement alone is no more than that."""
    return "unasked" if report.verdict == OK and not report.objectives else report.verdict


def _pictures(report: Report, cycles: Sequence[Cycle], heat: Heat) -> Iterator[str]:
    whole = report.total
    n = whole.recovery_s.n
    censored = (
        f", {whole.recovery_s.censored} of them censored" if whole.recovery_s.censored else ""
    )
    bar = f"; {text.probing(whole)}" if whole.resolution_s else ""
    yield _figure(
        "Recovery over time",
        pictures.over_time(cycles),
        key("recovered", "recovered", "dot")
        + key("censored", "not recovered: at least as long", "mark")
        + key("anomaly", "outside of its band", "mark")
        + (key("control", "control", "mark") if whole.outcomes["control"] else "")
        + key("area band", "predicted for these moves"),
        f"n {n} failovers{censored}{bar}.",
    )
    yield _figure(
        "How often it took how long",
        pictures.distribution(cycles),
        key("line observed", "observed, with its 95 % interval", "line")
        + key("line predicted", "predicted by HAProxy's algorithm", "line"),
        f"n {n}{censored}; {text.in_band(whole.in_band)}{text.residual(whole.residual)}.",
    )
    yield _figure(
        "Where the seconds went",
        pictures.phases(cycles),
        "".join(
            key(phase, escape(f"{phase}{_share(report, phase)}"))
            for phase in (*(p for p in PHASES if p != "settle"), "unknown")
        ),
        f"n {whole.outcomes['recovered']} recoveries; a bar is one, or the mean of neighbours.",
    )
    if whole.failovers:
        yield "".join(_blocks(markdown.phases(whole).splitlines()))
    yield _figure(
        "What became of requests",
        pictures.heat(heat),
        key("good", "good")
        + key("masked", "masked: good, but late")
        + key("failed", "failed")
        + key("misrouted", "misrouted: answered by somebody else"),
        f"n {heat.cycles} failovers, a row for each or for neighbours; the gravest outcome of "
        "each instant, paler the rarer. The dashed line is T0.",
    )


def _share(report: Report, phase: str) -> str:
    whole = report.total
    share = whole.phases_unknown_share if phase == "unknown" else whole.phases[phase].share
    return f" {share:.0%}" if share is not None else ""


def _figure(title: str, picture: str, legend: str, words: str) -> str:
    if not picture:
        return ""
    return (
        f"<h2>{title}</h2><figure>{picture}<figcaption>{legend}<br>{escape(words)}</figcaption>"
        "</figure>"
    )


def _worst(flights: Sequence[Flight]) -> str:
    if not flights:
        return ""
    return "<h2>The worst cycles</h2>" + "".join(_flight(each) for each in flights)


def _told(event: AnyEvent) -> tuple[str, str, dict[str, Any]]:
    """Who tells, what, and with which details: the stored words."""
    stored = json.loads(encode_event(event))
    if "verb" in stored:
        return "chaosd", f"{stored['verb']} {stored['edge']}", stored["data"]
    return str(stored.get("source")), str(stored.get("what")), stored.get("data", {})


def _flight(flight: Flight) -> str:
    cycle, record = flight.cycle, flight.record
    rows = []
    for event in sorted(flight.events, key=lambda e: e.at_ns)[:EVENTS_MAX]:
        ms = (event.at_ns - cycle.t0_ns) / 1e6
        who, what, details = _told(event)
        error_ns = event.error_ns
        data = json.dumps(details, ensure_ascii=False)[:300]
        known = f"± {error_ns / 1e6:.1f}" if error_ns >= ERROR_SHOWN_NS else ""
        cells = f'<td class="n">{ms:.1f}</td><td class="n">{known}</td>'
        rows.append(
            f"<tr>{cells}{''.join(f'<td>{escape(c)}</td>' for c in (who, what, data))}</tr>"
        )
    beside = ""
    if cycle.residual_s is not None:
        place = "" if cycle.predicted_place is None else f", {cycle.predicted_place:.0%} of"
        shorter = f"{place} the predicted distribution is shorter" if place else ""
        beside = f"<p>{cycle.residual_s:+.3f} s vs predicted mean{shorter}.</p>"
    head = '<th class="n">ms</th><th class="n">known to</th><th>who</th><th>what</th><th></th>'
    parts = [beside, f"<table><tr>{head}</tr>{''.join(rows)}</table>"]
    if record:
        left_out = f"{record.get('left_out', 0):,} that say little are left out"
        parts += [
            f"<p>Requests, stream by stream ({left_out}):</p>",
            f"<pre>{escape(chr(10).join(_stretches(record.get('samples', {}))))}</pre>",
            f"<p>The end of the proxy's own log; all of it is in {escape(flight_name(cycle))}:</p>",
            f"<pre>{escape(chr(10).join(record.get('log', [])[-LOG_LINES_SHOWN:]))}</pre>",
        ]
    return (
        f"<details><summary>{escape(text.sentence(cycle, wide=True))}</summary>"
        f"{''.join(parts)}</details>"
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


def _section(title: str, words: str) -> str:
    return f"<h2>{escape(title)}</h2>{''.join(_blocks(words.splitlines()))}"


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    """The Markdown that report.md is made of: tables, lists and paragraphs, and nothing else."""
    table: list[str] = []
    items: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("| "):
            table.append(line)
        elif line.startswith("* "):
            items.append(line[2:])
        elif items and line.startswith("  "):
            items[-1] += line[1:]
        else:
            if items:
                yield "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
            if table:
                yield _table(table)
            table, items = [], []
            if line.strip():
                yield f"<p>{_inline(line)}</p>"


def _table(lines: Sequence[str]) -> str:
    rows = [re.split(r" (?<!\\)\| ", line.strip()[2:-2] + " ") for line in lines]
    # A column of words stays on the left, whatever Markdown's alignment says.
    columns = zip(*rows[2:], strict=False)
    numbers = ["n" if all(map(_NUMBER.match, column)) else "" for column in columns]
    numbers += [""] * (len(rows[0]) - len(numbers))

    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="{kind}">{_inline(cell.strip())}</{tag}>'
            for cell, kind in zip(cells, numbers, strict=False)
        )

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows[2:])
    return f"<table><tr>{row(rows[0], 'th')}</tr>{body}</table>"


def _inline(words: str) -> str:
    found = escape(words.replace("\\|", "|"))
    found = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", found)
    found = re.sub(r"`(.+?)`", r"<code>\1</code>", found)
    return re.sub(r"(?<!\w)\*([^*\s][^*]*)\*", r"<em>\1</em>", found)
