"""Which slots of a stream's grid are used: all of them, or one of every so many."""

from __future__ import annotations


class Pace:
    """Slots are numbered from 0. It begins sparse; with `idle_every` 1 that is all of them."""

    def __init__(self, interval_ns: int, idle_every: int = 1) -> None:
        self._interval_ns = interval_ns
        self._idle_every = idle_every
        self.dense = idle_every == 1

    @property
    def interval_ns(self) -> int:
        """Between two slots that are used now."""
        return self._interval_ns * (1 if self.dense else self._idle_every)

    def from_ns(self, at_ns: int, origin_ns: int) -> int:
        """The first slot that is used, no earlier than this; slot 0 is at `origin_ns`."""
        interval_ns = self.interval_ns
        return origin_ns - (origin_ns - at_ns) // interval_ns * interval_ns
