"""What the proxy last said of each server that is out of use, or was so a moment ago."""

from __future__ import annotations

from dataclasses import dataclass

from chaosd.history.events import AnyEvent, ServerChange, ServerChanged, Teller
from chaosd.system.clock import SECOND_NS

_LEFT = (ServerChange.DOWN, ServerChange.MAINT)
_BACK = (ServerChange.UP, ServerChange.READY)
_RECENT_NS = 10 * SECOND_NS  # for so long it matters that a server was out of use
_SERVERS_MAX = 5  # that are named


@dataclass
class _Complaint:
    said: str
    back_ns: int | None = None  # when it was in use again


class Complaints:
    """Of one cell's proxy, by its log."""

    def __init__(self) -> None:
        self._by_server: dict[str, _Complaint] = {}  # the latest last

    def take(self, event: AnyEvent) -> None:
        what = event.what
        if not isinstance(what, ServerChanged) or what.told_by is not Teller.LOG:
            return
        complaint = self._by_server.get(what.server)
        if what.change in _LEFT and what.reason:
            self._by_server.pop(what.server, None)
            self._by_server[what.server] = _Complaint(f"{what.change.upper()}, {what.reason}")
        elif what.change in _BACK and complaint is not None and complaint.back_ns is None:
            complaint.back_ns = event.at_ns

    def said(self, now_ns: int) -> str:
        """`b/s DOWN, no answer; b/t was DOWN, …`; "" if there is nothing to say."""
        found = [
            f"{server} {'' if each.back_ns is None else 'was '}{each.said}"
            for server, each in self._by_server.items()
            if each.back_ns is None or now_ns - each.back_ns < _RECENT_NS
        ]
        more = f"; … ({len(found)} servers)" if len(found) > _SERVERS_MAX else ""
        return "; ".join(found[-_SERVERS_MAX:]) + more
