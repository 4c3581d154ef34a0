"""How long datagrams lay before chaosd read them, and how many were dropped before they were.

Of what lay the worst of each second is stored, and every drop.
"""

from __future__ import annotations

from chaosd.history.causes import Lag, LagKind
from chaosd.history.events import DatagramUnread, Inbox, WorldWatched
from chaosd.plugins.recording import Recorder
from chaosd.system.clock import SECOND_NS

TOLD_NS_MIN = 1_000_000  # less is the ordinary way of a packet


class Unread:
    """Stores a datagram that lay longer than all others of its second."""

    def __init__(self, recorder: Recorder, inbox: Inbox) -> None:
        self._recorder, self._inbox = recorder, inbox
        self._second, self._worst_ns = 0, TOLD_NS_MIN
        self._dropped, self._latest_ns = 0, recorder.clock.now_ns()

    def was(self, late_ns: int, at_ns: int, dropped: int = 0) -> None:
        """One came at this instant, and was read so much later.

        `dropped` is how many of all so far had come to a full buffer by then.
        """
        if dropped > self._dropped:
            seconds = max(0, at_ns - self._latest_ns) / SECOND_NS
            count, self._dropped = dropped - self._dropped, dropped
            kind, from_ns = LagKind.UDP_DROPPED, at_ns - round(seconds * SECOND_NS)
            lag = Lag(kind=kind, from_ns=from_ns, seconds=seconds, count=count)
            self._recorder.record(WorldWatched(lags=(lag,)))
        self._latest_ns = at_ns
        second = at_ns // SECOND_NS
        if second != self._second:
            self._second, self._worst_ns = second, TOLD_NS_MIN
        if late_ns > self._worst_ns:
            self._worst_ns = late_ns
            self._recorder.record(DatagramUnread(inbox=self._inbox, late_ns=late_ns), at_ns=at_ns)
