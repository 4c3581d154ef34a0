"""The Pareto front of noisy numbers, of which less is better, and who is surely on it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def front(values: Any, floors: Sequence[float], share: float) -> list[int]:
    """The rows that no other row dominates; at least one, if there is any.

    `values[row, column]` may be infinite. A row dominates another one if it is no worse in any
    column and better in one, by more than `share` of its own number and more than the column's
    `floors`: what differs by less is as good. Such a relation may run in a circle; so rows are
    taken by the sum of their columns, each as a part of its range, and only a row that is kept can
    dominate one after it.
    """
    import numpy as np

    values = np.asarray(values, dtype=float)
    if not len(values):
        return []
    finite = np.where(np.isfinite(values), values, np.nan)
    low, high = np.zeros(values.shape[1]), np.ones(values.shape[1])
    some = ~np.all(np.isnan(finite), axis=0)
    low[some], high[some] = np.nanmin(finite[:, some], axis=0), np.nanmax(finite[:, some], axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    order = np.argsort(
        np.where(np.isfinite(scaled), scaled, len(values)).sum(axis=1), kind="stable"
    )
    margins = np.maximum(np.asarray(floors), share * np.where(np.isfinite(values), values, 0.0))
    kept: list[int] = []
    for row in order:
        others, room = values[kept], margins[kept]
        no_worse = (others <= values[row] + room).all(axis=1)
        better = (values[row] > others + room).any(axis=1)
        if not (no_worse & better).any():
            kept.append(int(row))
    return sorted(kept)


def membership(resampled: Any, floors: Sequence[float], share: float) -> list[float]:
    """In what part of the resamples each row is on the front.

    `resampled[time, row, column]` is made by the block bootstrap: blocks are drawn with
    replacement, and with each all that was seen in it (Efron and Tibshirani, An Introduction to
    the Bootstrap, 1993, 8.6). So what disturbed all rows at once does so in the resamples, too.
    """
    import numpy as np

    counts = np.zeros(resampled.shape[1])
    for values in resampled:
        counts[front(values, floors, share)] += 1
    return [float(count / len(resampled)) for count in counts]
