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

    rows = np.asarray(values, dtype=float)
    if not len(rows):
        return []
    return [int(row) for row in np.flatnonzero(_kept(rows[None], floors, share)[0])]


def _kept(values: Any, floors: Sequence[float], share: float) -> Any:
    """`kept[time, row]` of `values[time, row, column]`: each time is a front of its own."""
    import numpy as np

    finite = np.isfinite(values)
    low = np.where(finite, values, np.inf).min(axis=1, keepdims=True)
    high = np.where(finite, values, -np.inf).max(axis=1, keepdims=True)
    low, spread = np.where(np.isfinite(low), low, 0.0), np.where(high > low, high - low, 1.0)
    scaled = np.where(finite, values - low, 0.0) / spread
    sums = np.where(finite, scaled, values.shape[1]).sum(axis=2)
    order = np.argsort(sums, axis=1, kind="stable")
    with_room = values + np.maximum(
        np.asarray(floors), share * np.where(np.isfinite(values), values, 0.0)
    )
    kept = np.zeros(values.shape[:2], dtype=bool)
    times = np.arange(len(values))
    for place in order.T:
        among = np.flatnonzero(kept.any(axis=0))
        row, row_with_room = values[times, place][:, None], with_room[times, place][:, None]
        no_worse = (values[:, among] <= row_with_room).all(axis=2)
        better = (row > with_room[:, among]).any(axis=2)
        kept[times, place] = ~(kept[:, among] & no_worse & better).any(axis=1)
    return kept


def membership(resampled: Any, floors: Sequence[float], share: float) -> list[float]:
    """In what part of the resamples each row is on the front.

    `resampled[time, row, column]` is made by the block bootstrap: blocks are drawn with
    replacement, and with each all that was seen in it (Efron and Tibshirani, An Introduction to
    the Bootstrap, 1993, 8.6). So what disturbed all rows at once does so in the resamples, too.
    """
    found = _kept(resampled, floors, share).mean(axis=0)
    return [float(each) for each in found]
