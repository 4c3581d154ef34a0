"""A timeline as the model meets it: a world that answers what the timeline says."""

from __future__ import annotations

import math
from bisect import bisect_right
from random import Random
from typing import Any

from chaosd.plugins.simulation import ANSWERS, NEVER_NS, Reply, below
from chaosd.plugins.timeline import RECORD_TYPES, Failure, Meets, RecordType, Timeline

# To a near nameserver: at least so much, and less than that more.
ROUND_TRIP_NS, ROUND_TRIP_MORE_NS = 50_000, 350_000


def whole_ns(seconds: float) -> int:
    """Nanoseconds; an instant before or after all is one."""
    if math.isinf(seconds):
        return NEVER_NS if seconds > 0 else -NEVER_NS
    return round(seconds * 1e9)


class Tracks:
    """A timeline's edges, for looking up many instants."""

    def __init__(self, timeline: Timeline) -> None:
        self._replies: dict[RecordType, tuple[list[int], list[Reply]]] = {}
        for record in RECORD_TYPES:
            edges = timeline.names_of(record)
            replies = [Reply(edge.answer, whole_ns(edge.took_s)) for edge in edges]
            self._replies[record] = ([whole_ns(edge.at_s) for edge in edges], replies)
        self._meets: dict[str, tuple[list[int], list[Meets]]] = {}
        for address in {edge.address for edge in timeline.places}:
            places = timeline.places_of(address)
            times = [whole_ns(place.at_s) for place in places]
            self._meets[address] = (times, [place.meets for place in places])

    def reply(self, at_ns: int, record: RecordType) -> Reply:
        times, replies = self._replies[record]
        place = bisect_right(times, at_ns)
        return replies[place - 1] if place else Reply(Failure.EMPTY)

    def meets(self, at_ns: int, address: str) -> Meets:
        times, meets = self._meets.get(address, ([], []))
        place = bisect_right(times, at_ns)
        return meets[place - 1] if place else Meets.VACANT


class TrackWorld:
    """The world that a model meets in one trial. Its `passed` is where a check last passed."""

    def __init__(self, tracks: Tracks, rng: Random, *, vacant_refuses: bool) -> None:
        self.passed: str | None = None
        self._tracks, self._rng = tracks, rng
        self._vacant = Meets.REFUSE if vacant_refuses else Meets.BLACKHOLE

    def resolve(self, now_ns: int, record: RecordType) -> Reply:
        reply = self._tracks.reply(now_ns, record)
        if reply.answer == Failure.SILENCE:
            return reply
        late_ns = ROUND_TRIP_NS + below(self._rng, ROUND_TRIP_MORE_NS)
        return Reply(reply.answer, reply.took_ns + late_ns)

    def connect(self, now_ns: int, ip: str) -> Meets:
        met = self._tracks.meets(now_ns, ip)
        if met in ANSWERS:
            self.passed = ip
        return self._vacant if met == Meets.VACANT else met

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        """Nobody reads this proxy's log."""
