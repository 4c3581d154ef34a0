"""A run as one page that needs nothing else: report.html."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from chaosd.analysis.heat import Heat
from chaosd.analysis.slo import OK
from chaosd.analysis.summary import Report
from chaosd.history.cycles import Cycle
from chaosd.report import sections, text, words
from chaosd.report.document import Block, Heading, bullets, escape, to_html
from chaosd.report.html import pictures
from chaosd.report.html.flights import Flight, worst, worst_cycles
from chaosd.report.html.flights import render as render_flight
from chaosd.report.html.pictures import key
from chaosd.report.html.shell import POLICY, shell

__all__ = ["POLICY", "Flight", "render", "worst", "worst_cycles"]


def render(
    report: Report,
    cycles: Sequence[Cycle],
    heats: Mapping[str, Heat],
    flights: Sequence[Flight],
    texts: Mapping[str, str],
) -> str:
    """The whole page. No script, no request to anywhere: it can be mailed, archived and printed.

    `heats` has one for each arm where there are several, else the run's under "".
    """
    if report.arms:
        results = [*_side_by_side(report, cycles), *_arms(report, cycles, heats, flights)]
    else:
        results = list(_results(report, cycles, heats[""], flights, level=2))
    blocks = [
        _head(report),
        *results,
        *_what_was_run(texts),
        _section("How to read this", sections.HOW_TO_READ),
        _section("Settings", *sections.settings(report, texts)),
    ]
    return shell(report.run, "".join(blocks))


def _what_was_run(texts: Mapping[str, str]) -> Iterator[str]:
    if blocks := list(sections.what_was_run(texts)):
        yield _section("What was run", *blocks)


def _head(report: Report) -> str:
    where = f"{sections.proxy(report)}, runtime {report.manifest.get('runtime', '?')}"
    summary = sections.in_words(report)
    in_words = to_html([summary]) if summary is not None else ""
    said = words.notes(report)
    notes = to_html([bullets(said)]) if said else ""
    objectives = ""
    if report.objectives:  # on a narrow screen the last column, why, has lines of its own
        section = _section("Objectives", sections.objectives(report))
        objectives = f'<section class="objectives">{section}</section>'
    return (
        f'<header><div><h1>{escape(report.run)}</h1><div class="sub">{escape(where)}</div></div>'
        f'<div class="verdict {_colour(report)}">verdict: {report.verdict}</div></header>'
        f"<p>{escape(text.verdict_words(report))}</p>{_tiles(report)}{in_words}{notes}{objectives}"
    )


def _tiles(report: Report) -> str:
    """The numbers at a glance. Those of several arms are not pooled."""
    whole = report.total
    found = whole.recovery_s
    tiles = [(text.headline(report), "failovers", f"{whole.failovers:,}")]
    if report.arms:
        tiles.append(("side by side below", "arms", str(len(report.arms))))
    elif whole.failovers:
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
    return f'<div class="tiles">{cards}</div>'


def _colour(report: Report) -> str:
    """Green is what was asked for and kept; a good measurement alone is no more than that."""
    return "unasked" if report.verdict == OK and not report.objectives else report.verdict


def _side_by_side(report: Report, cycles: Sequence[Cycle]) -> Iterator[str]:
    """All arms in one table and in one picture."""
    yield _section("Arms side by side", *sections.side_by_side(report))
    legend = "".join(
        key(pictures.arm_kind(place), escape(name), "line")
        for place, name in enumerate(report.arms)
    )
    counts = (f"{name} {arm.total.recovery_s.n}" for name, arm in report.arms.items())
    yield _figure(
        Heading("How often it took how long", 3),
        pictures.distributions({name: _of(arm, cycles) for name, arm in report.arms.items()}),
        legend,
        f"n: {', '.join(counts)} failovers; intervals are in each arm's own picture.",
    )


def _arms(
    report: Report, cycles: Sequence[Cycle], heats: Mapping[str, Heat], flights: Sequence[Flight]
) -> Iterator[str]:
    """Each arm by itself."""
    for name, arm in report.arms.items():
        own = [flight for flight in flights if flight.cycle.cell in arm.cells]
        head = _section(f"Arm {name}", sections.arm_headlines(name, arm))
        results = "".join(_results(arm, _of(arm, cycles), heats[name], own, level=3))
        yield f'<section class="arm">{head}{_tiles(arm)}{results}</section>'


def _of(arm: Report, cycles: Sequence[Cycle]) -> list[Cycle]:
    return [cycle for cycle in cycles if cycle.cell in arm.cells]


def _results(
    report: Report, cycles: Sequence[Cycle], heat: Heat, flights: Sequence[Flight], level: int
) -> Iterator[str]:
    """What was measured: of a run with one arm, or of one arm among several."""
    yield from _pictures(report, cycles, heat, level)
    yield _section("Recovery", *sections.recovery(report), level=level)
    yield _section("What users saw", *sections.requests(report), level=level)
    if flights:
        yield _section("The worst cycles", level=level)
        yield from map(render_flight, flights)
    yield _section("How good these numbers are", *sections.quality(report), level=level)


def _pictures(report: Report, cycles: Sequence[Cycle], heat: Heat, level: int) -> Iterator[str]:
    whole = report.total
    n = whole.recovery_s.n
    censored = (
        f", {whole.recovery_s.censored} of them censored" if whole.recovery_s.censored else ""
    )
    bar = f"; {text.probing(whole)}" if whole.resolution_s else ""
    yield _figure(
        Heading("Recovery over time", level),
        pictures.over_time(cycles),
        key("recovered", "recovered", "dot")
        + key("censored", "not recovered: at least as long", "mark")
        + key("anomaly", "outside of its band", "mark")
        + (key("control", "control", "mark") if whole.outcomes["control"] else "")
        + key("area band", "predicted for these moves"),
        f"n {n} failovers{censored}{bar}.",
    )
    yield _figure(
        Heading("How often it took how long", level),
        pictures.distribution(cycles),
        key("line observed", "observed, with its 95 % interval", "line")
        + key("line predicted", "predicted by HAProxy's algorithm", "line"),
        f"n {n}{censored}; {text.in_band(whole.in_band)}{text.residual(whole.residual)}.",
    )
    yield _figure(
        Heading("Where the seconds went", level),
        pictures.phases(cycles),
        "".join(
            key(phase, escape(f"{phase}{_share(report, phase)}"))
            for phase in (*(p for p in whole.phases if p != "settle"), "unknown")
        ),
        f"n {whole.outcomes['recovered']} recoveries; a bar is one, or the mean of neighbours.",
    )
    if whole.failovers:
        yield to_html(sections.phases(whole))
    yield _figure(
        Heading("What became of requests", level),
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


def _figure(heading: Heading, picture: str, legend: str, words: str) -> str:
    if not picture:
        return ""
    caption = f"<figcaption>{legend}<br>{escape(words)}</figcaption>"
    return f"{to_html([heading])}<figure>{picture}{caption}</figure>"


def _section(title: str, *blocks: Block, level: int = 2) -> str:
    return to_html([Heading(title, level), *blocks])
