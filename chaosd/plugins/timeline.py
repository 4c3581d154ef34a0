"""The world as the proxy meets it, and what the proxy does about it: two values for all rooms.

A `Timeline` is what each nameserver answers, what a connect to each address meets, and what
happens to the proxy itself, over time. A fault foretells one, the analysis reads one from a cycle's
events, and a proxy's model predicts what follows from one. A `Trace` is what follows: the addresses
and states of the proxy's servers over time.

Instants are seconds after T0. What holds before all edges has `at_s=ALWAYS`. An address is any
text: what is not known yet has a name, such as "new".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

ALWAYS = -math.inf
OLD, NEW, OTHER = "old", "new", "other"  # the addresses of a `move`

RecordType = Literal["A", "AAAA"]
RECORD_TYPES: tuple[RecordType, ...] = ("A", "AAAA")


class Failure(StrEnum):
    """How a nameserver answers that gives no address; `dns.missing` has some of the values."""

    NXDOMAIN = "nxdomain"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    EMPTY = "empty"  # NOERROR without a record
    SILENCE = "drop"  # no answer at all, or none that is taken for one
    ERROR = "error"  # another code: FORMERR, NOTIMP, BADVERS
    TRUNCATED = "truncated"  # TC is set
    DAMAGED = "damaged"  # it can't be read


class Meets(StrEnum):
    """What a connect to the app's port at an address meets."""

    LISTENING = "listening"  # an instance of the app
    REFUSE = "refuse"  # nobody listens
    IMPOSTER = "imposter"  # another application answers
    BLACKHOLE = "blackhole"  # packets vanish
    TARPIT = "tarpit"  # connections are taken and never answered
    UNWELL = "unwell"  # an instance of the app that answers with an error
    VACANT = "vacant"  # no host: refuses on loopback, a black hole on a bridge
    # No host answers ARP yet, but one will: the kernel asks again a second later, and holds packets
    # back until then.
    UNREACHABLE = "unreachable"


class ProxyChange(StrEnum):
    """What happens to the proxy itself."""

    RELOADED = "reloaded"
    RESTARTED = "restarted"


Answer = tuple[str, ...] | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """Who asks the proxy: what their requests come to depends on them, too."""

    patience_s: float  # from when a request is due; without an answer by then it has failed
    slow_after_s: float  # a good answer that is later was masked
    until_s: float = math.inf  # so long after T0 requests are counted
    rate: float = 50.0  # requests a second, where it matters how many there are


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """What a model says of one fault: distributions and means over the phases of timers.

    Requests are in seconds' worth: at 50 a second, 2.0 are 100 requests. What never comes is inf.
    """

    recovery_p50_s: float
    recovery_p95_s: float
    failed_s: float
    misrouted_s: float
    rest_queries_per_s: float
    trouble_queries_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NameEdge:
    """From this instant on, the app's name is answered so.

    With `every` or `share` only some questions are: each so many-th of all that are asked since
    then, or that share by chance. The others are answered as by the edge before.
    """

    at_s: float
    record: RecordType
    answer: Answer
    nameserver: int | None = None  # which one, from 0; None: each
    took_s: float = 0.0  # beyond a round trip
    jitter_s: float = 0.0  # up to so much more, evenly by chance
    every: int = 1
    share: float = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether each question is answered alike."""
        return self.every == 1 and self.share == 1 and not self.jitter_s


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceEdge:
    """From this instant on, a connect to this address meets that."""

    at_s: float
    address: str
    meets: Meets


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEdge:
    """At this instant, that happens to the proxy."""

    at_s: float
    change: ProxyChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What the proxy meets. Edges are sorted by their time; of two at one instant the later holds.

    A record type without an edge is answered EMPTY; an address without one meets VACANT.
    `undisturbed` is the same without the DNS trouble that came with it; None: there was none.
    """

    names: tuple[NameEdge, ...]
    places: tuple[PlaceEdge, ...]
    proxy: tuple[ProxyEdge, ...] = ()
    nameservers: int = 1
    undisturbed: Timeline | None = None

    def __post_init__(self) -> None:
        for edges in (self.names, self.places, self.proxy):
            times = [edge.at_s for edge in edges]
            if times != sorted(times):
                raise ValueError(f"the edges of a timeline are sorted by time, not {times}")

    def answer(self, at_s: float, record: RecordType, nameserver: int = 0) -> Answer:
        """What this nameserver answers at this instant."""
        found = [e for e in self.names_of(record, nameserver) if e.at_s <= at_s]
        return found[-1].answer if found else Failure.EMPTY

    def meets(self, at_s: float, address: str) -> Meets:
        """What a connect to this address meets at this instant."""
        found = [e for e in self.places_of(address) if e.at_s <= at_s]
        return found[-1].meets if found else Meets.VACANT

    def names_of(self, record: RecordType, nameserver: int = 0) -> tuple[NameEdge, ...]:
        """The edges of one record type at one nameserver."""
        mine = (None, nameserver)
        return tuple(e for e in self.names if e.record == record and e.nameserver in mine)

    def later(self, by_s: float) -> Timeline:
        """The same, with all that happens so much later."""
        return replace(
            self,
            names=tuple(replace(edge, at_s=edge.at_s + by_s) for edge in self.names),
            places=tuple(replace(edge, at_s=edge.at_s + by_s) for edge in self.places),
            proxy=tuple(replace(edge, at_s=edge.at_s + by_s) for edge in self.proxy),
            undisturbed=self.undisturbed and self.undisturbed.later(by_s),
        )

    def places_of(self, address: str) -> tuple[PlaceEdge, ...]:
        """The edges of one address."""
        return tuple(e for e in self.places if e.address == address)


def move(
    *,
    published_s: float | None,
    listening_s: float | None,
    missing_s: float | None,
    missing: str,
    old_ip: str,
    others: int = 0,
    gone_s: float = 0.0,
    took_s: float = 0.0,
    held_s: float = 0.0,
    reachable_s: float | None = None,
) -> Timeline:
    """A backend's move from OLD to NEW: the timeline of the failover that everybody knows.

    The name answers the new address from `published_s` on, and none (`missing`: a Failure's value,
    or "stale" where it keeps the old one) from `missing_s` on. The new instance accepts connections
    from `listening_s` on, and its host answers ARP from `reachable_s` on (None: as soon as it is
    published). The old one is gone at T0; until `held_s` its address refuses, then it meets
    `old_ip`. `others`: so many other instances answer for the name all the time, without the old
    one from `gone_s` on. An edge that is None is not in the timeline.
    """
    rest = tuple(f"{OTHER}{number}" if number > 1 else OTHER for number in range(1, others + 1))
    names: list[NameEdge] = []

    def answered(at_s: float, answer: Answer) -> None:
        fails = answer if isinstance(answer, Failure) else Failure.EMPTY
        names.append(NameEdge(at_s=at_s, record="A", answer=answer, took_s=took_s))
        names.append(NameEdge(at_s=at_s, record="AAAA", answer=fails, took_s=took_s))

    places = [PlaceEdge(at_s=ALWAYS, address=OLD, meets=Meets.LISTENING)]
    places += [PlaceEdge(at_s=ALWAYS, address=other, meets=Meets.LISTENING) for other in rest]
    unmet = Meets.REFUSE if reachable_s is None else Meets.UNREACHABLE
    places.append(PlaceEdge(at_s=ALWAYS, address=NEW, meets=unmet))
    if held_s > 0:
        places.append(PlaceEdge(at_s=0.0, address=OLD, meets=Meets.REFUSE))
    places.append(PlaceEdge(at_s=max(0.0, held_s), address=OLD, meets=Meets(old_ip)))
    if reachable_s is not None:
        places.append(PlaceEdge(at_s=reachable_s, address=NEW, meets=Meets.REFUSE))
    if listening_s is not None:
        at_s = max(0.0, listening_s, reachable_s or 0.0)
        places.append(PlaceEdge(at_s=at_s, address=NEW, meets=Meets.LISTENING))
    answered(ALWAYS, (*rest, OLD))
    until_s = math.inf if published_s is None else published_s
    if others:
        if gone_s < until_s:
            answered(max(0.0, gone_s), rest)
    elif missing_s is not None and missing != "stale" and missing_s < until_s:
        answered(missing_s, Failure(missing))
    if published_s is not None:
        answered(published_s, (*rest, NEW))
    return Timeline(names=tuple(names), places=_sorted(places))


def _sorted(places: Iterable[PlaceEdge]) -> tuple[PlaceEdge, ...]:
    return tuple(sorted(places, key=lambda edge: edge.at_s))


class Unreached(StrEnum):
    """Why a model does not reach a timeline, or the settings: there is no prediction then."""

    UNREAD_SETTINGS = "unread settings"  # the user's own file is not understood
    LEFT_OUT = "left out"  # what the model leaves out of the user's own file decides it
    OTHER_SERVERS = "other servers"  # beside the app, and nobody knows what they answer
    LOOKED_UP_ONCE = "looked up once"  # the name that moves has no resolvers
    UNKNOWN_WORDS = "unknown words"  # on the server line
    OLD_VERSION = "old version"  # another algorithm
    OBSOLETE_IN_MAINTENANCE = "obsolete in maintenance"  # of a version that keeps the old address
    SLOW_NAMESERVER = "slow nameserver"  # slower than the proxy's pause before it asks again
    NO_NEW_ADDRESS = "no new address"  # the name never answers one
    NOT_LISTENING = "not listening"  # nobody listens at the new address
    NO_RECOVERY = "no recovery"  # in any reasonable time
    SEVERAL_NAMESERVERS = "several nameservers"
    PROXY_CHANGES = "proxy changes"  # it is reloaded or restarted
    OTHER_TIMELINE = "other timeline"  # not a move of one instance to a new address
    CACHE = "cache"  # one stands between the proxy and chaosd's nameserver
    OTHER_ANSWERS = "other answers"  # of DNS: what the proxy makes of them is not known


ServerHealth = Literal["up", "down", "maint"]  # maint: taken out, such as for want of an address


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEdge:
    """From this instant on, a server of the proxy has this address and this health."""

    at_s: float
    server: str
    address: str | None
    health: ServerHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What the proxy does about a timeline. The first edge of each server is at `ALWAYS`."""

    edges: tuple[TraceEdge, ...]

    def at(self, at_s: float) -> dict[str, TraceEdge]:
        """The latest edge of each server at this instant, by its name."""
        return {edge.server: edge for edge in self.edges if edge.at_s <= at_s}
