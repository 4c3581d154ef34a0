"""Samples of one stream, which come as they end, back in the order of their schedule."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter

from chaosd.history.values import Sample

HELD_MAX = (
    1_000_000  # samples that wait for an earlier one; twice what the config lets be under way
)


class Reorder:
    """Samples of one stream, which come as they end, put back into the order of their schedule."""

    def __init__(self) -> None:
        self._held: list[Sample] = []
        self._released_ns = -1

    def push(self, sample: Sample) -> None:
        late = sample.scheduled_ns < self._released_ns
        if late or len(self._held) >= HELD_MAX:
            what = "a sample after promising that there was none" if late else "no complete instant"
            raise RuntimeError(f"the prober delivered {what} on stream {sample.stream}")
        self._held.append(sample)

    def release(self, complete_ns: int) -> list[Sample]:
        """Let go of those scheduled before this instant: none of them is still to come."""
        self._released_ns = max(complete_ns, self._released_ns)
        self._held.sort(key=attrgetter("scheduled_ns"))  # nearly sorted already
        count = bisect_left(self._held, complete_ns, key=attrgetter("scheduled_ns"))
        released, self._held = self._held[:count], self._held[count:]
        return released
