"""Time that a test sets."""

from __future__ import annotations

SECOND = 1_000_000_000


class Clock:
    """A monotonic clock, and a wall clock that somebody sets."""

    def __init__(self) -> None:
        self.at_ns, self.ahead_ns = 100 * SECOND, 1_700_000_000 * SECOND

    def now_ns(self) -> int:
        return self.at_ns

    def unix_ns(self) -> int:
        return self.at_ns + self.ahead_ns
