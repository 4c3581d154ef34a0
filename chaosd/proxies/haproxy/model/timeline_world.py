"""A timeline as the model meets it: a world that answers what the timeline says."""

from __future__ import annotations

import math
from bisect import bisect_right
from random import Random
from typing import Any, NamedTuple

from chaosd.plugins.simulation import ANSWERS, NEVER_NS, Reply, below, together
from chaosd.plugins.timeline import (
    RECORD_TYPES,
    Failure,
    Meets,
    NameEdge,
    RecordType,
    Timeline,
)

# To a near nameserver: at least so much, and less than that more.
ROUND_TRIP_NS, ROUND_TRIP_MORE_NS = 50_000, 350_000

_BEFORE = Reply(Failure.EMPTY)  # all edges


def whole_ns(seconds: float) -> int:
    """Nanoseconds; an instant before or after all is one."""
    if math.isinf(seconds):
        return NEVER_NS if seconds > 0 else -NEVER_NS
    return round(seconds * 1e9)


class Chance(NamedTuple):
    """Which questions an edge is about, where that is not all of them, and how late it is."""

    counter: tuple[int, int]  # what is counted together: when it began, and at which nameserver
    every: int
    share: float
    jitter_ns: int


class Track(NamedTuple):
    """What one nameserver answers to questions for one record type, over time.

    The first of the replies is what it answers before all edges.
    """

    times: list[int]
    replies: list[Reply]
    chances: list[Chance | None]  # None: each question is answered alike

    @classmethod
    def of(cls, edges: tuple[NameEdge, ...], nameserver: int) -> Track:
        return cls(
            [whole_ns(edge.at_s) for edge in edges],
            [_BEFORE, *(Reply(edge.answer, whole_ns(edge.took_s)) for edge in edges)],
            [None, *(_chance(edge, nameserver) for edge in edges)],
        )


def _chance(edge: NameEdge, nameserver: int) -> Chance | None:
    if edge.is_plain:
        return None
    counter = (whole_ns(edge.at_s), nameserver if edge.nameserver is not None else -1)
    return Chance(counter, edge.every, edge.share, whole_ns(edge.jitter_s))


class Tracks:
    """A timeline's edges, for looking up many instants."""

    def __init__(self, timeline: Timeline) -> None:
        self.names: dict[RecordType, list[Track]] = {
            record: [
                Track.of(timeline.names_of(record, nameserver), nameserver)
                for nameserver in range(timeline.nameservers)
            ]
            for record in RECORD_TYPES
        }
        # What is met at each address, with what is met before all edges first.
        self._meets: dict[str, tuple[list[int], list[Meets]]] = {}
        for address in {edge.address for edge in timeline.places}:
            places = timeline.places_of(address)
            times = [whole_ns(place.at_s) for place in places]
            self._meets[address] = (times, [Meets.VACANT, *(place.meets for place in places)])

    def reply(self, at_ns: int, record: RecordType) -> Reply:
        """What the first nameserver answers, where nothing is left to chance."""
        track = self.names[record][0]
        return track.replies[bisect_right(track.times, at_ns)]

    def meets(self, at_ns: int, address: str) -> Meets:
        if address not in self._meets:
            return Meets.VACANT
        times, meets = self._meets[address]
        return meets[bisect_right(times, at_ns)]


class TrackWorld:
    """The world that a model meets in one trial. Its `passed` is where a check last passed."""

    def __init__(self, tracks: Tracks, rng: Random, *, vacant_refuses: bool) -> None:
        self._tracks, self._rng = tracks, rng
        self.begin(vacant_refuses=vacant_refuses)

    def begin(self, *, vacant_refuses: bool) -> None:
        """Begin (anew)."""
        self.passed: str | None = None
        self._vacant = Meets.REFUSE if vacant_refuses else Meets.BLACKHOLE
        self._asked: dict[tuple[int, int], int] = {}  # questions that edges have counted

    def resolve(self, now_ns: int, record: RecordType) -> Reply:
        tracks = self._tracks.names[record]
        if len(tracks) == 1:
            return self._reply(now_ns, tracks[0])
        return together([self._reply(now_ns, track) for track in tracks])

    def _reply(self, now_ns: int, track: Track) -> Reply:
        """What one nameserver answers."""
        times, replies, chances = track
        place = bisect_right(times, now_ns)
        while (chance := chances[place]) is not None and not self._takes(chance):
            place -= 1
        reply = replies[place]
        late_ns = below(self._rng, chance.jitter_ns) if chance and chance.jitter_ns else 0
        if reply.answer is Failure.SILENCE:
            return reply
        late_ns += ROUND_TRIP_NS + below(self._rng, ROUND_TRIP_MORE_NS)
        return Reply(reply.answer, reply.took_ns + late_ns)

    def _takes(self, chance: Chance) -> bool:
        """Whether it is about this question."""
        if chance.every > 1:
            self._asked[chance.counter] = count = self._asked.get(chance.counter, 0) + 1
            if count % chance.every:
                return False
        return chance.share == 1 or self._rng.random() < chance.share

    def connect(self, now_ns: int, ip: str) -> Meets:
        met = self._tracks.meets(now_ns, ip)
        if met in ANSWERS:
            self.passed = ip
        return self._vacant if met is Meets.VACANT else met

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        """Nobody reads this proxy's log."""
