"""Which slots of a stream's grid are used: all of them, or one of every so many."""

from __future__ import annotations


class Pace:
    """Slots are numbered from 0. It begins sparse; with `idle_every` 1 that is all of them."""

    def __init__(self, interval_ns: int, idle_every: int = 1) -> None:
        self._dense_ns, self._sparse_ns = interval_ns, interval_ns * idle_every
        self.turn(dense=idle_every == 1)

    def turn(self, *, dense: bool) -> None:
        self.dense = dense
        self.interval_ns = self._dense_ns if dense else self._sparse_ns  # between two that are used

    def from_ns(self, at_ns: int, origin_ns: int) -> int:
        """The first slot that is used, no earlier than this; slot 0 is at `origin_ns`."""
        interval_ns = self.interval_ns
        return origin_ns - (origin_ns - at_ns) // interval_ns * interval_ns
