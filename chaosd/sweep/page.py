"""The answer as one page that needs nothing else. It says what the text and JSON say."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.report.document import (
    Block,
    Code,
    CodeSpan,
    Heading,
    Line,
    Link,
    Said,
    Strong,
    Table,
    bullets,
    escape,
    line,
    number_columns,
    paragraph,
    table,
    to_html,
    word_columns,
)
from chaosd.report.html.pictures import key
from chaosd.report.html.shell import shell
from chaosd.sweep import pictures, text, words
from chaosd.sweep.answer import Answer
from chaosd.sweep.standing import Basis, Standing

ARMS_MAX = 500  # beside the front and the baseline
REPORTS_MAX = 6  # of one arm that are linked


def html(answer: Answer) -> str:
    """The whole page. No script, no request to anywhere; links lead to the sweep's own reports."""
    parts = [
        _head(answer),
        to_html(_recommendation(answer)),
        *_fronts(answer),
        to_html(_arms(answer)),
        *_effects(answer),
        to_html(_rest(answer)),
    ]
    return shell(f"{answer.results.name} - sweep", "".join(parts))


def _head(answer: Answer) -> str:
    name, sub = escape(answer.results.name), escape(words.headline(answer))
    return f'<header><div><h1>{name}</h1><div class="sub">{sub}</div></div></header>'


def _recommendation(answer: Answer) -> Iterator[Block]:
    yield Heading("Recommendation")
    first, *others = words.recommendation(answer)
    yield paragraph(Strong(first))
    for said in others:
        yield paragraph(said)
    found = answer.recommendation
    if found is None:
        return
    if found.gains:
        name, *numbers = words.GAIN_TITLES
        rows: list[list[Said]] = [list(words.gain_row(gain)) for gain in found.gains]
        yield table([*word_columns(name), *number_columns(*numbers)], rows)
    if found.lines:
        yield Heading("Lines to paste", 3)
        yield Code("\n".join(found.lines))
    if found.without:
        yield paragraph(text.IN_PLACE)
        yield Code("\n".join(found.without))
    if found.buys:
        yield Heading("What each line buys", 3)
        for buy in found.buys:
            yield bullets([words.buy(buy)])
            if buy.lines:
                yield Code("\n".join(buy.lines))


def _fronts(answer: Answer) -> Iterator[str]:
    is_measured = answer.basis is Basis.MEASURED
    title = "Front" if is_measured else "Predicted front"
    legend = (
        (key("dot front", "on the front", "dot") + key("dot other", "another arm", "dot"))
        + (key("dot recommended", "recommended", "dot") + key("dot baseline", "baseline", "dot"))
        + key("line predicted", "predicted front", "line")
        + (key("box front", "always-valid 95 % intervals") if is_measured else "")
    )
    n = (
        f"n {len(answer.measured)} arms, {len(answer.results.seen):,} cycles. "
        if is_measured
        else ""
    )
    note = f"{n}A dashed line: the upper bound of the recovery p95 takes more cycles."
    for place, (across, up, picture) in enumerate(pictures.fronts(answer)):
        if picture:
            yield to_html([Heading(title)]) if not place else ""
            said = f"{words.NAMES[across]} against {words.NAMES[up]}. {note if is_measured else ''}"
            yield _figure(picture, legend, said)


def _arms(answer: Answer) -> Iterator[Block]:
    some = text.shown(answer, ARMS_MAX, ARMS_MAX)
    if not some:
        return
    yield Heading("Arms")
    yield _table(answer, some)
    if left := len(answer.standings) - len(some):
        yield paragraph(f"And {left:,} more arms.")
    yield paragraph(text.BRACKETS)


def _table(answer: Answer, some: list[Standing]) -> Table:
    name, *numbers, status = text.titles(answer)
    columns = [*word_columns(name, "settings"), *number_columns(*numbers)]
    columns += word_columns(status, "reports")
    rows: list[tuple[Line, ...]] = []
    for standing in some:
        own, *cells, said = text.row(answer, standing)
        links = answer.results.links.get(standing.arm.key, ())[:REPORTS_MAX]
        reports = [Link(f"report {k}", target) for k, target in enumerate(links, start=1)]
        spaced = [part for link in reports for part in (link, " ")]
        settings = CodeSpan(words.arm_settings(standing))
        rows.append(
            (line(Strong(own)), line(settings), *map(line, cells), line(said), line(*spaced))
        )
    return Table(tuple(columns), tuple(rows))


def _effects(answer: Answer) -> Iterator[str]:
    if not answer.effects:
        return
    yield to_html([Heading("Main effects"), bullets(words.effects(answer))])
    legend = (
        key("line observed", "measured: all arms, had each this level", "line")
        + key("area confidence", "95 % interval (bootstrap)")
        + key("line predicted", "the model, of the same arms", "line")
    )
    for name, picture in pictures.effects(answer):
        arms = len(answer.measured) or len(answer.standings)
        yield to_html([Heading(name, 3)]) + _figure(picture, legend, f"n {arms:,} arms.")


def _rest(answer: Answer) -> Iterator[Block]:
    parts = {
        "Interactions": [words.interaction(each) for each in answer.interactions],
        "Not as expected": [words.oddity(each) for each in answer.oddities],
        "Hosts": words.hosts(answer),
        "Stopped": text.stopped(answer),
        "Without a prediction": text.unforetold(answer),
        "How to read this": words.HOW_TO_READ,
    }
    for title, said in parts.items():
        if said:
            yield Heading(title)
            yield bullets(said)
    yield Heading("Objectives")
    rows: list[list[Said]] = [
        [words.NAMES[objective], words.MEANINGS[objective]]
        for objective in answer.results.objectives
    ]
    yield table(word_columns("objective", "what it is"), rows)


def _figure(picture: str, legend: str, said: str) -> str:
    caption = f"<figcaption>{legend}<br>{escape(said)}</figcaption>"
    return f"<figure>{picture}{caption}</figure>"
