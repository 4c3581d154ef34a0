"""The pictures of a sweep: the front, and what each setting does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from chaosd.report.document import escape
from chaosd.report.html import charts
from chaosd.report.html.charts import WIDTH, Axis, Frame
from chaosd.sweep import words
from chaosd.sweep.answer import Answer
from chaosd.sweep.effects import Direction, Effect
from chaosd.sweep.measures import MEASURES
from chaosd.sweep.standing import Basis, Standing
from chaosd.sweep.values import Objective

BOXES_MAX = 60  # arms with an interval box; beyond, those of the front only
NAME_WIDTH, NAME_HEIGHT = 90, 12  # the room of an arm's name
AXIS_BEYOND = 1.08
PER_ROW, PANEL_HEIGHT, PANEL_LEFT, PANEL_TOP, PANEL_BOTTOM = 3, 190, 46, 26, 34
LABEL_MAX = 9  # characters of a level below a panel


def axis_name(objective: Objective) -> str:
    unit = "questions/s" if MEASURES[objective].unit == "/s" else MEASURES[objective].unit
    return f"{words.NAMES[objective]}, {unit}"


# --- the front -----------------------------------------------------------------------------------


def fronts(answer: Answer) -> Iterator[tuple[Objective, Objective, str]]:
    """The first objective against each other one that differs between arms."""
    first, *others = answer.results.objectives
    for other in others:
        values = [_value(answer, s, other) for s in _shown(answer)]
        known = [value for value in values if value is not None]
        if known and max(known) - min(known) > MEASURES[other].margin(min(known)):
            yield first, other, front(answer, first, other)


def _shown(answer: Answer) -> Sequence[Standing]:
    if answer.basis is Basis.MEASURED:
        return answer.measured
    return [s for s in answer.standings if s.in_front or s.arm.baseline]


def _value(answer: Answer, standing: Standing, objective: Objective) -> float | None:
    value = standing.numbers[objective].value(answer.basis)
    return value if value is None or math.isfinite(value) else None


def front(answer: Answer, across: Objective, up: Objective) -> str:
    """Each arm's point, with its intervals; the predicted front behind it."""
    some = _shown(answer)
    said = _foretold(answer, across, up)
    points = {s.arm.key: (_value(answer, s, across), _value(answer, s, up)) for s in some}
    known = [(x, y) for x, y in points.values() if x is not None and y is not None]
    if not known:
        return ""
    right = AXIS_BEYOND * max(x for x, _ in (*known, *said))
    top = AXIS_BEYOND * max(y for _, y in (*known, *said))
    frame = Frame.of((0.0, right or 1.0), (0.0, top or 1.0), 340)
    parts = [charts.line(frame, said, "predicted"), charts.dots(frame, said, "foretold")]
    boxed = some if len(some) <= BOXES_MAX else answer.front
    if answer.basis is Basis.MEASURED:
        parts += [_box(frame, standing, across, up, (right, top)) for standing in boxed]
    chosen = None if answer.recommendation is None else answer.recommendation.arm.key
    named: list[tuple[float, float, str]] = []  # where, and what, the first ones first
    # What matters most is drawn last, and named first.
    order = sorted(some, key=lambda s: (s.arm.key == chosen, s.arm.baseline, s.in_front))
    for standing in order:
        x, y = points[standing.arm.key]
        if x is not None and y is not None:
            kind = _kind(standing, is_chosen=standing.arm.key == chosen)
            parts.append(charts.dots(frame, [(x, y)], kind))
            if kind != "other":
                named.insert(0, (frame.x(x) + 7, frame.y(y) - 6, standing.arm.name))
    parts += _names(named)
    title = f"{words.NAMES[across]} against {words.NAMES[up]} of {len(some)} arms"
    return frame.svg(title, parts, x=axis_name(across), y=axis_name(up))


def _names(named: Sequence[tuple[float, float, str]]) -> Iterator[str]:
    """As many as there is room for."""
    there: list[tuple[float, float]] = []
    for x, y, name in named:
        if all(abs(x - a) > NAME_WIDTH or abs(y - b) > NAME_HEIGHT for a, b in there):
            there.append((x, y))
            yield f'<text class="name" x="{x:.1f}" y="{y:.1f}">{escape(name)}</text>'


def _kind(standing: Standing, *, is_chosen: bool) -> str:
    if is_chosen:
        return "recommended"
    if standing.arm.baseline:
        return "baseline"
    return "front" if standing.in_front else "other"


def _foretold(answer: Answer, across: Objective, up: Objective) -> list[tuple[float, float]]:
    """The predicted front as it is seen from these two sides: its lower left edge.

    Not behind what was measured, if it is of another time.
    """
    alike = all(MEASURES[each].alike for each in (across, up))
    if answer.basis is Basis.MEASURED and not alike:
        return []
    found = []
    for standing in answer.standings:
        x, y = (standing.numbers[each].foretold for each in (across, up))
        if standing.in_foretold_front and x is not None and y is not None:
            found.append((x, y))
    edge, least = [], math.inf
    for x, y in sorted(point for point in found if all(map(math.isfinite, point))):
        if y < least:
            edge.append((x, y))
            least = y
    return edge


def _box(
    frame: Frame, standing: Standing, across: Objective, up: Objective, most: tuple[float, float]
) -> str:
    """From bound to bound; an unknown upper one reaches to the edge, with a dashed line."""
    bounds, is_open = [], False
    for objective, end in zip((across, up), most, strict=True):
        measured = standing.numbers[objective].measured
        if measured is None or measured.estimate.low is None:
            return ""
        high = measured.estimate.high
        is_open |= high is None
        value = measured.value or 0.0
        far = min(value, end) if high is None else min(high, end)
        bounds.append((min(measured.estimate.low, end), far))
    kind = "box front" if standing.in_front else "box"
    box = charts.bar(frame, bounds[0], bounds[1], kind)
    if not is_open or not standing.in_front:
        return box
    y = frame.y(min(standing.numbers[up].value(Basis.MEASURED) or 0.0, most[1]))
    return (
        f'{box}<line class="whisker open" x1="{frame.x(bounds[0][1])}" x2="{frame.x(most[0])}" '
        f'y1="{y}" y2="{y}"/>'
    )


# --- main effects --------------------------------------------------------------------------------


def effects(answer: Answer) -> Iterator[tuple[str, str]]:
    """A row of small charts for each setting that moves anything: its name, and the picture."""
    by_name: dict[str, list[Effect]] = {}
    for effect in answer.effects:
        if effect.direction is not Direction.NONE:
            by_name.setdefault(effect.name, []).append(effect)
    for name, some in by_name.items():
        yield name, "".join(_row(some[k : k + PER_ROW]) for k in range(0, len(some), PER_ROW))


def _row(some: Sequence[Effect]) -> str:
    width = WIDTH / PER_ROW
    parts = "".join(_panel(effect, place * width, width) for place, effect in enumerate(some))
    title = ", ".join(f"{e.name}: {words.NAMES[e.objective]}" for e in some)
    return (
        f'<svg viewBox="0 0 {WIDTH} {PANEL_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{parts}</svg>"
    )


def _panel(effect: Effect, start: float, width: float) -> str:
    """One objective by the levels of one setting."""
    levels = effect.levels
    ends = [each for level in levels for each in (level.value, level.high, level.foretold)]
    top = AXIS_BEYOND * max(each for each in ends if each is not None and math.isfinite(each))
    frame = Frame(
        Axis(-0.3, len(levels) - 0.7, start + PANEL_LEFT, start + width - 12),
        Axis(0.0, top or 1.0, PANEL_HEIGHT - PANEL_BOTTOM, PANEL_TOP),
        PANEL_HEIGHT,
    )
    band = [
        (float(k), max(0.0, level.low), level.high)
        for k, level in enumerate(levels)
        if level.low is not None and level.high is not None
    ]
    seen = [(float(k), level.value) for k, level in enumerate(levels)]
    said = [(float(k), level.foretold) for k, level in enumerate(levels)]
    model = [(x, y) for x, y in said if y is not None and math.isfinite(y)]
    grid = "".join(
        f'<line x1="{frame.x.start}" x2="{frame.x.end}" y1="{y}" y2="{y}"/>'
        for y in map(frame.y, frame.y.ticks())
    )
    return (
        f'<g class="grid">{grid}</g>{charts.area(frame, band, "confidence")}'
        f"{charts.line(frame, model, 'predicted')}{charts.line(frame, seen, 'observed')}"
        f"{charts.dots(frame, seen, 'front')}"
        f'<g class="labels">{"".join(_labels(effect, frame, start))}</g>'
    )


def _labels(effect: Effect, frame: Frame, start: float) -> Iterator[str]:
    step = -(-len(effect.levels) * LABEL_MAX // 50) or 1
    for k, level in list(enumerate(effect.levels))[::step]:
        name = level.label if len(level.label) <= 2 * LABEL_MAX else f"{level.label[:LABEL_MAX]}…"
        yield (
            f'<text x="{frame.x(k)}" y="{PANEL_HEIGHT - PANEL_BOTTOM + 16}" '
            f'text-anchor="middle">{escape(name)}</text>'
        )
    for tick in frame.y.ticks():
        yield (
            f'<text x="{frame.x.start - 6}" y="{frame.y(tick) + 4}" '
            f'text-anchor="end">{charts.number(tick)}</text>'
        )
    yield f'<text x="{start + PANEL_LEFT}" y="14">{escape(axis_name(effect.objective))}</text>'
    yield (
        f'<text x="{(frame.x.start + frame.x.end) / 2:.1f}" y="{PANEL_HEIGHT - 2}" '
        f'text-anchor="middle">{escape(effect.name)}</text>'
    )
