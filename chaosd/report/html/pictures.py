"""The report's pictures: which numbers go into which chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

from chaosd.analysis.heat import Heat
from chaosd.analysis.observed import observed
from chaosd.analysis.residuals import share_below
from chaosd.analysis.samples import KINDS
from chaosd.analysis.survival import kaplan_meier
from chaosd.history.cycles import PHASES_OF_NODES, Cycle, CycleOutcome
from chaosd.report.html import charts
from chaosd.report.html.charts import Frame
from chaosd.system.clock import SECOND_NS, utc

COLUMNS_MAX = 120  # of bars, and of steps of a curve
MIXED_MAX = 400  # predictions that are mixed into one curve
BEFORE = [phase for phase in PHASES_OF_NODES if phase != "settle"]
MANY = 1_000
BAND_SHOWN_MAX = 2.0  # times the longest recovery
LONG_SPAN = 200
AXIS_BEYOND = 1.05  # of the longest
ARM_COLOURS, ARM_DASHES = 6, 3  # more arms than lines that differ share one


def _unit(span_s: float) -> tuple[str, int]:
    """The unit in which a time span is no long number."""
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if span_s / length < LONG_SPAN:
            return unit, length
    return "d", 86400


def over_time(cycles: Sequence[Cycle]) -> str:
    """Each cycle's recovery by the hour, over the band that was predicted for it."""
    recovered = [(c, found) for c in cycles if (found := observed(c)) is not None]
    failovers = [cycle for cycle, _ in recovered]
    if not failovers:
        return ""
    begins = [c.t0_ns for c in cycles]  # in the order in which they ended
    start_ns = min(begins)
    span_s = max(1.0, (max(begins) - start_ns) / 1e9)
    unit, divisor = _unit(span_s)

    def at(cycle: Cycle) -> float:
        return (cycle.t0_ns - start_ns) / 1e9 / divisor

    longest_s = max(c.took_at_least_s for c in failovers)
    bands_s = (c.predicted.upper_s for c in failovers if c.predicted is not None)
    # A band that reaches far beyond all that was seen is cut off.
    top_s = 1.08 * max(longest_s, min(max(bands_s, default=0.0), BAND_SHOWN_MAX * longest_s))
    span = span_s / divisor
    width = span / COLUMNS_MAX
    frame = Frame.of((-width, span + width), (0, top_s), 320)
    columns: dict[int, list[Cycle]] = {}
    for cycle in failovers:
        if cycle.predicted is not None:
            columns.setdefault(round(at(cycle) / width), []).append(cycle)
    parts = ['<g class="many">' if len(failovers) > MANY else "<g>"]
    for column, some in columns.items():
        bounds = [c.predicted for c in some if c.predicted is not None]
        low, high = min(b.lower_s for b in bounds), min(top_s, max(b.upper_s for b in bounds))
        x = ((column - 0.5) * width, (column + 0.5) * width)
        parts.append(charts.bar(frame, x, (low, high), "area band"))
    by_kind = {
        "censored": [c for c, found in recovered if found.censored],
        "anomaly": [c for c in failovers if c.anomaly],
        "control": [c for c in cycles if c.outcome == CycleOutcome.CONTROL and c.recovery_s],
    }
    good = [(at(c), found.seconds) for c, found in recovered if not found.censored]
    parts.append(charts.dots(frame, good, "recovered"))
    parts += [
        charts.marks(frame, [(at(c), c.took_at_least_s) for c in some], kind)
        for kind, some in by_kind.items()
    ]
    title = f"Recovery time of {len(failovers)} failovers over the run"
    began = utc(round(min(c.t0_unix for c in cycles) * SECOND_NS)).strftime("%Y-%m-%d %H:%M:%S UTC")
    x_axis = f"{unit} since {began}, the first cycle"
    return frame.svg(title, [*parts, "</g>"], x=x_axis, y="recovery, s")


def distribution(cycles: Sequence[Cycle]) -> str:
    """The share of recoveries that were shorter, with its interval, beside the predicted one."""
    complete, censored = _recoveries(cycles)
    if not complete:
        return ""
    end_s = complete[-1] * AXIS_BEYOND
    frame = Frame.of((0, end_s), (0, 1))
    curve, band = _curve(complete, censored, end_s)
    parts = [charts.area(frame, band, "confidence"), charts.line(frame, curve, "observed")]
    predicted = [c.predicted for c in cycles if c.predicted and c.predicted.quantiles_s]
    if predicted:
        some = predicted[:: -(-len(predicted) // MIXED_MAX)]
        xs = [end_s * k / COLUMNS_MAX for k in range(COLUMNS_MAX + 1)]
        mixed = [(x, sum(share_below(p, x) for p in some) / len(some)) for x in xs]
        parts.append(charts.line(frame, mixed, "predicted"))
    title = f"Distribution of {len(complete)} recovery times"
    return frame.svg(title, parts, x="recovery, s", y="share of recoveries")


def distributions(arms: Mapping[str, Sequence[Cycle]]) -> str:
    """The share of recoveries that were shorter, of each arm, on one axis."""
    found = {name: _recoveries(cycles) for name, cycles in arms.items()}
    longest_s = max((complete[-1] for complete, _ in found.values() if complete), default=None)
    if longest_s is None:
        return ""
    end_s = longest_s * AXIS_BEYOND
    frame = Frame.of((0, end_s), (0, 1))
    parts = [
        charts.line(frame, _curve(complete, censored, end_s)[0], arm_kind(place))
        for place, (complete, censored) in enumerate(found.values())
        if complete
    ]
    title = f"Distributions of the recovery times of {len(arms)} arms"
    return frame.svg(title, parts, x="recovery, s", y="share of recoveries")


def arm_kind(place: int) -> str:
    """What the style sheet calls the line of an arm, by its place among the arms."""
    return f"arm-{place % ARM_COLOURS} dash-{place // ARM_COLOURS % ARM_DASHES}"


def _recoveries(cycles: Sequence[Cycle]) -> tuple[list[float], list[float]]:
    """Seconds of those that recovered, sorted, and of those that were given up.

    What was given up before the shortest says nothing, as in the quantiles.
    """
    found = [each for each in map(observed, cycles) if each is not None]
    complete = sorted(each.seconds for each in found if not each.censored)
    censored = [e.seconds for e in found if e.censored and complete and e.seconds >= complete[0]]
    return complete, censored


def _curve(
    complete: Sequence[float], censored: Sequence[float], end_s: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float, float]]]:
    """The steps of the share that was shorter, and of its interval."""
    steps = kaplan_meier(complete, censored)
    steps = [*steps[:: -(-len(steps) // (2 * COLUMNS_MAX))], steps[-1]]
    band: list[tuple[float, float, float]] = []
    curve = [(0.0, 0.0)]
    share = 0.0
    bounds = (0.0, 0.0)
    for step in steps:
        curve += [(step.time, share), (step.time, 1 - step.survival)]
        share = 1 - step.survival
        before = bounds
        if step.low is not None and step.high is not None:
            bounds = 1 - step.high, 1 - step.low
        band += [(step.time, *before), (step.time, *bounds)]
    return [*curve, (end_s, share)], band


def phases(cycles: Sequence[Cycle]) -> str:
    """The parts of each recovery on top of each other; of groups of cycles, their means."""
    some = sorted(
        (c for c in cycles if c.outcome == CycleOutcome.RECOVERED and c.recovery_s is not None),
        key=attrgetter("t0_ns"),
    )
    if not some:
        return ""
    count = min(COLUMNS_MAX, len(some))
    groups = [some[k * len(some) // count : (k + 1) * len(some) // count] for k in range(count)]
    rows = []
    for group in groups:
        means = {
            phase: sum(c.phases.get(f"{phase}_s") or 0.0 for c in group) / len(group)
            for phase in BEFORE
        }
        whole = sum(c.recovery_s or 0.0 for c in group) / len(group)
        rows.append(means | {"unknown": max(0.0, whole - sum(means.values()))})
    top_s = max(sum(row.values()) for row in rows) * 1.05
    frame = Frame.of((0.5, len(some) + 0.5), (0, top_s), 260, whole="x")
    width = (frame.x.high - frame.x.low) / count
    parts = []
    for place, row in enumerate(rows):
        left, floor = frame.x.low + place * width, 0.0
        for phase, part_s in row.items():
            x = (left + width * 0.08, left + width * 0.92)
            parts.append(charts.bar(frame, x, (floor, floor + part_s), phase))
            floor += part_s
    title = f"Phases of {len(some)} recoveries"
    return frame.svg(title, parts, x="recovery, by the time of its T0", y="s")


def heat(found: Heat) -> str:
    """A row per cycle, or per some cycles; what became of the requests sent at each instant."""
    rows, columns = found.counts.shape[:2]
    if not rows:
        return ""
    height = max(140, min(560, rows * 14)) + charts.BOTTOM + charts.TOP
    frame = Frame.of((found.from_s, found.to_s), (found.cycles + 0.5, 0.5), height, whole="y")
    each = found.cycles / rows
    width = (found.to_s - found.from_s) / columns
    parts = []
    for row in range(rows):
        column = 0
        kinds = [_worst(found.counts[row, column]) for column in range(columns)]
        while column < columns:
            end = column + 1
            while end < columns and kinds[end] == kinds[column]:
                end += 1
            kind, opacity = kinds[column]
            if kind:
                x = (found.from_s + column * width, found.from_s + end * width)
                y = (0.5 + (row + 0.06) * each, 0.5 + (row + 0.94) * each)
                shape = charts.bar(frame, x, y, kind)
                if opacity < 1:
                    shape = shape.replace("/>", f' opacity="{opacity}"/>')
                parts.append(shape)
            column = end
    zero = frame.x(0)
    parts.append(
        f'<line class="t0" x1="{zero}" x2="{zero}" y1="{charts.TOP}" '
        f'y2="{height - charts.BOTTOM}"/>'
    )
    title = f"Outcomes of requests around T0 of {found.cycles} cycles"
    return frame.svg(title, parts, x="request sent, s after T0", y="failover, by its T0")


def _worst(counts: Sequence[int]) -> tuple[str, float]:
    """The gravest thing that happened there, and how strongly it is drawn."""
    whole = sum(int(count) for count in counts)
    for kind in reversed(KINDS[: KINDS.index("dropped")]):  # what was never sent became nothing
        if count := int(counts[KINDS.index(kind)]):
            share = 1.0 if kind == "good" else count / whole
            return kind, max(0.25, round(share * 4) / 4)
    return "", 0.0


def key(kind: str, words: str, shape: str = "square") -> str:
    """A legend's entry."""
    inside = {
        "square": f'<rect class="{kind}" width="12" height="12"/>',
        "dot": f'<path class="dot {kind}" d="M6 6h0"/>',
        "line": f'<path class="line {kind}" d="M0 6h12"/>',
        "mark": f'<path class="mark {kind}" d="M6 6{charts.SHAPES.get(kind, "")}"/>',
    }[shape]
    return (
        f'<span class="key"><svg viewBox="0 0 12 12" aria-hidden="true">{inside}</svg>{words}'
        "</span>"
    )
