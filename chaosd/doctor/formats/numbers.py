"""Numbers of outlooks as people read them."""

from __future__ import annotations

import math

from chaosd.doctor.finding import Change

ARROW = " → "
_NOTHING_S = 0.05


def seconds(value: float) -> str:
    """A time that users wait or lose: "0.4 s", "12 s", "never"."""
    if math.isinf(value):
        return "never"
    if math.isnan(value):
        return "?"
    if abs(value) < _NOTHING_S:
        return "0 s"
    if value >= 120:  # noqa: PLR2004
        return f"{value / 60:.2g} min" if value < 5940 else f"{value / 3600:.2g} h"  # noqa: PLR2004
    return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"  # noqa: PLR2004


def rate(value: float) -> str:
    """Queries per second."""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"  # noqa: PLR2004


def arrow(now: str, fixed: str) -> str:
    """A number now and with the fixes; once where it stays."""
    return now if now == fixed else f"{now}{ARROW}{fixed}"


def change_of_seconds(change: Change) -> str:
    return arrow(seconds(change.now), seconds(change.fixed))


def change_of_rate(change: Change) -> str:
    return arrow(rate(change.now), rate(change.fixed))
