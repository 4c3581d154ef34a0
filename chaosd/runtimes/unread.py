"""How long datagrams lay before chaosd read them: the worst of each second is stored."""

from __future__ import annotations

from chaosd.history.events import DatagramUnread, Inbox
from chaosd.plugins.recording import Recorder
from chaosd.system.clock import SECOND_NS

TOLD_NS_MIN = 1_000_000  # less is the ordinary way of a packet


class Unread:
    """Stores a datagram that lay longer than all others of its second."""

    def __init__(self, recorder: Recorder, inbox: Inbox) -> None:
        self._recorder, self._inbox = recorder, inbox
        self._second, self._worst_ns = 0, TOLD_NS_MIN

    def was(self, late_ns: int, at_ns: int) -> None:
        """One came at this instant, and was read so much later."""
        second = at_ns // SECOND_NS
        if second != self._second:
            self._second, self._worst_ns = second, TOLD_NS_MIN
        if late_ns > self._worst_ns:
            self._worst_ns = late_ns
            self._recorder.record(DatagramUnread(inbox=self._inbox, late_ns=late_ns), at_ns=at_ns)
