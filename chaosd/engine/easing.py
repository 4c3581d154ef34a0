"""Makes fewer cycles while this machine is late by what chaosd itself does on it.

Judged cycles come in, and each planned one is asked about before it begins. Where more than a tenth
of the latest cycles are poor because something waited for a CPU, and chaosd uses at least as much
CPU as all others, only every second planned cycle is begun, then every fourth, every eighth; where
none is late any more, twice as many again. What other programs do to the world is only said: fewer
cycles would not make it better. It decides by what has ended, never by what a cycle will come to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chaosd.history.causes import Doubt, DoubtKind, LagKind

JUDGED_MIN, JUDGED_PER_CELL = 20, 4  # cycles, before anything is concluded: no single hiccup
LATE_SHARE_MAX = 0.1
OURS_SHARE_MIN = 0.5  # of the CPU that is used: else it is not by us that the machine is late
STEPS_MAX = 3  # then one of eight is begun

# What a busy machine does. A stop, or a packet that was dropped, has another cause.
BUSY = (
    *(LagKind.PROXY_WAITED, LagKind.APP_WAITED, LagKind.APP_START_WAITED, LagKind.PROXY_SILENT),
    *(LagKind.DNS_WAITED, LagKind.ENTRY_WAITED, LagKind.DAEMON_WAITED, LagKind.DAEMON_BUSY),
    *(LagKind.DNS_UNREAD, LagKind.DEED_LATE),
)


class Cpu(NamedTuple):
    """Seconds of CPU up to now: of what chaosd does, and of everything that does not give way."""

    ours_s: float
    all_s: float


class Late(NamedTuple):
    """The machine is late: for the first time in this run."""

    late: int  # cycles that were poor for want of a CPU …
    judged: int  # … of so many
    latest: Doubt
    ours_share: float  # of the CPU that was used meanwhile
    eased: bool  # fewer cycles are made from now on


class Easing:
    """Which of the planned cycles are begun. One for all cells of a run."""

    def __init__(self, cpu: Callable[[], Cpu], cells: int) -> None:
        self._cpu = cpu
        self._enough = max(JUDGED_MIN, JUDGED_PER_CELL * cells)
        self._steps = 0
        self._judged = self._late = 0  # since then
        self._since: Cpu | None = None
        self._latest: Doubt | None = None
        self._asked, self._answer = 0, True
        self._said = False

    def begins(self, number: int) -> bool:
        """Whether the cycle of this number is begun.

        It is the same for all cells that ask for it before one has asked for the next. A cell that
        comes later is answered by how many are begun by then.
        """
        if number > self._asked:
            self._asked, self._answer = number, self._is_begun(number)
        return self._answer if number == self._asked else self._is_begun(number)

    def _is_begun(self, number: int) -> bool:
        return number % (1 << self._steps) == 0

    def ended(self, doubt: Doubt | None) -> Late | None:
        """A valid cycle has ended, and this is why it is poor; returns what is to be said."""
        if self._since is None:
            self._since = self._cpu()
        self._judged += 1
        if doubt is not None and _is_busy(doubt):
            self._late, self._latest = self._late + 1, doubt
        if self._judged < self._enough:
            return None
        found = None
        if self._latest is not None and self._late > LATE_SHARE_MAX * self._judged:
            found = self._slow_down(self._since, self._latest)
        elif not self._late:
            self._steps = max(0, self._steps - 1)
        self._judged = self._late = 0
        self._since = None
        return found

    def _slow_down(self, since: Cpu, latest: Doubt) -> Late | None:
        now = self._cpu()
        ours_s, all_s = now.ours_s - since.ours_s, now.all_s - since.all_s
        share = ours_s / max(ours_s, all_s, 1e-9)
        if share >= OURS_SHARE_MIN:
            self._steps = min(self._steps + 1, STEPS_MAX)
        said, self._said = self._said, True
        if said:
            return None
        return Late(self._late, self._judged, latest, share, share >= OURS_SHARE_MIN)


def _is_busy(doubt: Doubt) -> bool:
    if doubt.kind in (DoubtKind.PROBES_LATE, DoubtKind.PROBES_DROPPED):
        return True
    return doubt.kind is DoubtKind.WORLD_LATE and doubt.lag in BUSY
