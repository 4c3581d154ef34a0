"""Charts as SVG text: pure functions of numbers. Colours and fonts are the style sheet's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chaosd.report.document import escape

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 58, 14, 10, 34
TICKS = 6
POINTS_MAX = 20_000
LONG = 100_000
SHAPES = {
    "censored": "m0-6l5 9h-10z",
    "anomaly": "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0",
    "control": "m-3 0l3-3l3 3l-3 3z",
}


@dataclass(frozen=True, slots=True)
class Axis:
    """Numbers to places on the page."""

    low: float
    high: float
    start: float
    end: float
    whole: bool = False  # there is nothing between two whole numbers

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round numbers within it."""
        low, high = sorted((self.low, self.high))
        rough = (high - low) / TICKS or 1.0
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough)
        if self.whole:
            step = max(1.0, step)
        first = math.ceil(low / step)
        count = math.floor(high / step) - first + 1
        return [round((first + k) * step, 10) for k in range(max(count, 0))]


def number(value: float) -> str:
    return f"{value:g}" if abs(value) < LONG else f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Frame:
    """A chart's two axes and its size."""

    x: Axis
    y: Axis
    height: int

    @classmethod
    def of(
        cls,
        xs: tuple[float, float],
        ys: tuple[float, float],
        height: int = 300,
        *,
        whole: str = "",
    ) -> Frame:
        """`whole` names the axes of whole numbers, such as "x"."""
        return cls(
            Axis(*xs, LEFT, WIDTH - RIGHT, "x" in whole),
            Axis(*ys, height - BOTTOM, TOP, "y" in whole),
            height,
        )

    def svg(self, title: str, parts: Iterable[str], *, x: str, y: str) -> str:
        """The whole picture, with its axes named and a title for those who can't see it."""
        lines = [
            f'<line x1="{self.x.start}" x2="{self.x.end}" y1="{at}" y2="{at}"/>'
            for at in map(self.y, self.y.ticks())
        ]
        below = self.height - BOTTOM
        labels = [
            f'<text x="{self.x(t)}" y="{below + 16}" text-anchor="middle">{number(t)}</text>'
            for t in self.x.ticks()
        ]
        labels += [
            f'<text x="{self.x.start - 7}" y="{self.y(t) + 4}" text-anchor="end">{number(t)}</text>'
            for t in self.y.ticks()
        ]
        middle = (self.x.start + self.x.end) / 2
        labels.append(
            f'<text x="{middle}" y="{self.height - 3}" text-anchor="middle">{escape(x)}</text>'
        )
        labels.append(
            f'<text transform="translate(13 {below / 2}) rotate(-90)" '
            f'text-anchor="middle">{escape(y)}</text>'
        )
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(title)}">'
            f'<g class="grid">{"".join(lines)}</g>{"".join(parts)}'
            f'<g class="labels">{"".join(labels)}</g></svg>'
        )


def dots(frame: Frame, points: Sequence[tuple[float, float]], kind: str) -> str:
    """Points as one path: thousands of them stay small and quick."""
    if not points:
        return ""
    step = -(-len(points) // POINTS_MAX)
    d = "".join(f"M{frame.x(x)} {frame.y(y)}h0" for x, y in points[::step])
    return f'<path class="dot {kind}" d="{d}"/>'


def marks(frame: Frame, points: Sequence[tuple[float, float]], kind: str) -> str:
    """Points that are few and matter, by a shape of their own: a triangle, a ring or a cross."""
    step = -(-len(points) // POINTS_MAX) or 1
    d = "".join(f"M{frame.x(x)} {frame.y(y)}{SHAPES[kind]}" for x, y in points[::step])
    return f'<path class="mark {kind}" d="{d}"/>' if d else ""


def area(frame: Frame, rows: Sequence[tuple[float, float, float]], kind: str) -> str:
    """What is between a lower and an upper line: (x, lower, upper), by x."""
    if not rows:
        return ""
    there = " ".join(f"{frame.x(x)} {frame.y(upper)}" for x, _, upper in rows)
    back = " ".join(f"{frame.x(x)} {frame.y(lower)}" for x, lower, _ in reversed(rows))
    return f'<path class="area {kind}" d="M{there} L{back}Z"/>'


def line(frame: Frame, points: Sequence[tuple[float, float]], kind: str) -> str:
    if not points:
        return ""
    d = " ".join(f"{frame.x(x)} {frame.y(y)}" for x, y in points)
    return f'<path class="line {kind}" d="M{d}"/>'


def bar(frame: Frame, x: tuple[float, float], y: tuple[float, float], kind: str) -> str:
    """A rectangle from x to x and y to y."""
    left, right = sorted(map(frame.x, x))
    upper, lower = sorted(map(frame.y, y))
    if lower - upper < 0.05:  # noqa: PLR2004 - not to be seen
        return ""
    width, height = round(right - left, 1), round(lower - upper, 1)
    return f'<rect class="{kind}" x="{left}" y="{upper}" width="{width}" height="{height}"/>'
