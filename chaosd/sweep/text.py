"""The answer for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from chaosd.sweep import words
from chaosd.sweep.answer import Answer
from chaosd.sweep.measures import MEASURES
from chaosd.sweep.standing import Basis, Standing

ARMS_MAX = 12  # beside the front and the baseline
BRACKETS = "In brackets: predicted. n: cycles. Intervals: 95 %, valid at every look."
IN_PLACE = "In place of these (what your file does not say is the default of the version):"
FRONT_MAX = 20
LINES_MAX = 20  # of each kind


def lines(answer: Answer) -> list[str]:
    """First the recommendation, then what it rests on."""
    return [
        words.headline(answer),
        "",
        *words.recommendation(answer),
        *_recommended(answer),
        *_section("Front" if answer.basis is Basis.MEASURED else "Predicted front", _arms(answer)),
        *_section("Main effects", _some(words.effects(answer))),
        *_section("Interactions", _some([words.interaction(i) for i in answer.interactions])),
        *_section("Not as expected", _some([words.oddity(o) for o in answer.oddities])),
        *_section("Hosts", words.hosts(answer)),
        *_section("Stopped", _some(stopped(answer))),
        *_section("Without a prediction", _some(unforetold(answer))),
    ]


def _recommended(answer: Answer) -> Iterator[str]:
    found = answer.recommendation
    if found is None:
        return
    if found.gains:
        rows = [words.GAIN_TITLES, *(words.gain_row(gain) for gain in found.gains)]
        yield from (f"  {row}" for row in columns(rows))
    if found.lines:
        yield from ("", "Lines to paste:", *(f"    {line}" for line in found.lines))
    if found.without:
        yield from (IN_PLACE, *(f"    {line}" for line in found.without))
    if found.buys:
        yield from ("", "What each line buys:")
        for buy in found.buys:
            yield f"  {words.buy(buy)}"
            yield from (f"      {line}" for line in buy.lines)


def _section(title: str, some: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in some)] if some else []


def _some(said: Sequence[str]) -> list[str]:
    left = len(said) - LINES_MAX
    return [*said[:LINES_MAX], *([f"and {left:,} more (all are in the page)"] if left > 0 else [])]


def titles(answer: Answer) -> tuple[str, ...]:
    """The columns of the table of arms."""
    names = [words.NAMES[objective] for objective in answer.results.objectives]
    return ("arm", *names, "n", "on the front", "")


def row(answer: Answer, standing: Standing) -> tuple[str, ...]:
    """An arm in the table: measured, with what was predicted behind it."""
    cells = []
    for objective in answer.results.objectives:
        number = standing.numbers[objective]
        seen = words.measured(number.measured, objective) if standing.cycles else ""
        said = words.amount(number.foretold, objective) if number.foretold is not None else "?"
        alike = MEASURES[objective].alike
        cells.append(f"{seen} [{said}]" if seen and alike else seen or f"[{said}]")
    share = words.membership(standing.membership)
    count = f"{standing.cycles:,}" if standing.cycles else ""
    return (standing.arm.name, *cells, count, share, words.status(answer, standing))


def shown(answer: Answer, most: int, most_front: int) -> list[Standing]:
    """The front and the baseline, then `most` others at most, by their probability.

    Of a longer front than `most_front`, its ends, and every so many between them.

    In the order of the first objective.
    """
    first = answer.results.objectives[0] if answer.results.objectives else None

    def order(standing: Standing) -> tuple[bool, float]:
        number = standing.numbers[first] if first is not None else None
        value = number.value(answer.basis) if number is not None else None
        return value is None, value or 0.0

    front, chosen = sorted(answer.front, key=order), answer.recommendation
    if len(front) > most_front:
        step = (len(front) - 1) / (most_front - 1)
        front = [front[round(k * step)] for k in range(most_front)]
    keys = {s.arm.key for s in front} | ({chosen.arm.key} if chosen is not None else set())
    kept = [s for s in answer.standings if s.arm.key in keys or s.arm.baseline]
    others = [
        s
        for s in answer.standings
        if not (s.in_front or s.arm.baseline) and (s.cycles or s.in_foretold_front)
    ]
    others.sort(key=lambda s: (-(s.membership or 0.0), order(s)))
    return sorted([*kept, *others[:most]], key=order)


def _arms(answer: Answer) -> list[str]:
    some = shown(answer, ARMS_MAX, FRONT_MAX)
    if not some:
        return []
    found = columns([titles(answer), *(row(answer, standing) for standing in some)])
    left = len(answer.standings) - len(some)
    on_front = len(answer.front) - sum(s.in_front for s in some)
    those = f", {on_front:,} of them on the front" if on_front else ""
    found += [f"and {left:,} more arms{those}"] if left else []
    return [*found, BRACKETS]


def stopped(answer: Answer) -> list[str]:
    """Arms that are not measured any more; those with the same reason together."""
    return _together(answer, answer.results.stopped)


def unforetold(answer: Answer) -> list[str]:
    """Arms that the model does not reach."""
    return _together(answer, answer.results.unforetold)


def _together(answer: Answer, reasons: Mapping[str, str]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for key, why in reasons.items():
        by_reason.setdefault(why, []).append(words.name_of(answer.results, key))
    return [
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}: {why}"  # noqa: PLR2004
        for why, names in by_reason.items()
    ]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equal length, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
