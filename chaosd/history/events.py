"""What is written down of a run: one closed union of values, each with its own fields.

An `Event` says when, where and in which cycle; its `what` says what: one edge of a deed of chaosd
(deeds.py), or what the engine or the world said. A new kind of event is a class here and a line in
codec.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar, cast

from chaosd.history.causes import Cause, Lag
from chaosd.history.cycles import CycleKind, Prediction
from chaosd.history.deeds import Asked, Done, Failed
from chaosd.history.disturbances import Disturbance

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


# --- what the engine says of a cycle -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened:
    """A row of samples: which probe asks for which cell. `stream` is unique in a run."""

    stream: int
    cell: str
    probe: str  # its name in the config
    probe_type: str
    via: str  # "proxy", or "direct": past it, to the app itself
    interval_ns: int
    timeout_ns: int
    idle_every: int | None = None  # of so many slots one is used, but for where it is asked densely


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPaced:
    """From here on all slots of a stream are used, or one of every `StreamOpened.idle_every`."""

    stream: int
    dense: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlaced:
    """An instance of the app has its address: its answers are not misrouted.

    Where answers are told by their address, `expected` is the identity that it was asked for with.
    """

    identity: str
    ip: str = ""
    port: int = 0
    expected: str | None = None
    node: str | None = None  # the machine that it runs on, where there are several


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultBegan:
    """T0: the event's instant is right before the first deed that disturbs.

    `new` is the instance whose first good answer ends the recovery; None where nobody can tell it.
    """

    fault: str
    kind: CycleKind
    old: str | None
    old_ip: str | None
    new: str | None
    new_ip: str | None
    t0_unix: float
    also: tuple[str, ...] | None = None  # the labels of the faults that come with it
    lasts: bool | None = None  # nothing is over before all of it is done

    @property
    def is_control(self) -> bool:
        """Whether the proxy has nothing to find."""
        return self.kind.is_control

    @property
    def is_anonymous(self) -> bool:
        """Whether no single instance ends the recovery: nothing moves, or nobody can tell it."""
        return self.new is None and not self.is_control

    @property
    def waits(self) -> bool:
        """Whether nothing is over before FaultInjected, for one of three reasons."""
        return self.is_anonymous or self.also is not None or bool(self.lasts)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjected:
    """All that disturbs has been done: told where nothing can be over before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEnded:
    """A fault with a window has been undone: from here on the world is as it was."""

    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DisturbanceBegan:
    """One edge of what a fault of the cycle does: the event's instant is right before it."""

    fault: str  # its label
    disturbance: Disturbance


@dataclass(frozen=True, slots=True, kw_only=True)
class DisturbanceEnded:
    """The other edge: it has been undone."""

    fault: str
    disturbance: Disturbance


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPredicted:
    """What the proxy's algorithm gives for the disturbance as it really was."""

    prediction: Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleEnded:
    """The observation is over; with a `cause` the cycle is no sample."""

    fault: str
    unix: float
    cause: Cause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSkipped:
    """A cycle's time came and it was not made."""

    fault: str
    planned_ns: int
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbed:
    """Something other than the fault disturbs the cycle that goes on: it is no sample."""

    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class DeedDue:
    """The event's instant is when the deed that follows was due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldWatched:
    """What was late or lost while this cycle went on: the worst of each kind, 0 where it was not.

    What nobody could look at is left out.
    """

    lags: tuple[Lag, ...]


# --- what the world says -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFound:
    """Where probes go, if chaosd has not made it."""

    url: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceListening:
    """An instance accepts connections."""

    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReachable:
    """An instance's host answers ARP."""

    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGone:
    """An instance has ended."""

    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRetired:
    """Its name is another's from now on: what it answers to later requests is misrouted."""

    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamePublished:
    """From now on the app's name is answered with these addresses."""

    ips: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NameWithdrawn:
    """An address was taken out of the app's name; `ips` are those that are left.

    `missing` is how the name is answered while there are none, where that had to be found out.
    """

    ips: tuple[str, ...] = ()
    missing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NameKnown:
    """A node's own nameserver answers the app's name with these addresses, asked from inside.

    Where there is one nameserver for all, NamePublished and NameWithdrawn say it. Where each node
    has one, they are about the proxy's.
    """

    node: str
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NameAnswered:
    """The proxy asked for the app's name and got an answer that differs from the last one."""

    qtype: str
    rcode: str
    ips: tuple[str, ...] = ()
    took_ns: int | None = None
    nameserver: int | None = None  # which one, from 1, where there are several


class Inbox(StrEnum):
    """What comes to chaosd as datagrams."""

    DNS = "dns"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatagramUnread:
    """A datagram came at the event's instant, and lay for so long before chaosd read it."""

    inbox: Inbox
    late_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRead:
    """How much of what a machine has is in use; None where it does not say so."""

    memory_available_bytes: int | None = None
    conntrack_entries: int | None = None
    conntrack_entries_max: int | None = None
    fds: int | None = None  # of all processes


@dataclass(frozen=True, slots=True, kw_only=True)
class QueriesCounted:
    """How many queries have reached the nameserver so far."""

    count: int


class Teller(StrEnum):
    """Who told of a server. The log says things when they happen, the API when it is asked."""

    LOG = "proxy.log"
    API = "proxy.api"


class ServerChange(StrEnum):
    """What became of a proxy's server."""

    ADDRESS = "address_changed"
    UP = "up"
    DOWN = "down"
    MAINT = "maint"  # taken out by the proxy: its name was not resolved
    READY = "ready"  # out of maintenance, whether usable or not


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerChanged:
    """A server of the proxy changed its address or its state."""

    told_by: Teller
    change: ServerChange
    server: str  # backend/server
    old: str | None = None  # addresses, where it is one that changed
    new: str | None = None
    reason: str | None = None  # in the proxy's own words


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRefused:
    """How many lines have come so far that were not the proxy's, and who sent the latest."""

    count: int
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangersAsked:
    """How many questions to chaosd's DNS so far were not the proxy's, and who asked the latest."""

    count: int
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolversRead:
    """The proxy's resolver counters since its start: nameserver → counter → value."""

    counters: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolversCounted:
    """By how much those counters grew in this cycle."""

    counters: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyMeasured:
    """What the proxy's process costs; None where it is unknown."""

    rss_bytes: int | None = None
    fds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePrinted:
    """A line that a program of the user's printed."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFound:
    """The Docker engine and the network that a cell lives in."""

    version: str
    network: str
    subnet: str
    way_in: str
    missing: str | None
    clock_offset_ns: int
    clock_error_ns: int
    node: str | None = None  # which one it is, where a cell has several


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerChanged:
    """What the Docker engine said of one of our containers, in its own word."""

    action: str  # die, oom, start, connect, disconnect
    container: str
    exit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainersRestored:
    """Containers that an engine's restart had taken down run again."""

    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherReading:
    """What a plugin tells that has no class here. Nothing is measured by it."""

    source: str
    what: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A line that a newer chaosd wrote: kept as it is."""

    line: dict[str, Any]


What = (
    Asked
    | Done
    | Failed
    | StreamOpened
    | StreamPaced
    | InstancePlaced
    | FaultBegan
    | FaultInjected
    | FaultEnded
    | DisturbanceBegan
    | DisturbanceEnded
    | RecoveryPredicted
    | CycleEnded
    | CycleSkipped
    | Disturbed
    | DeedDue
    | WorldWatched
    | DatagramUnread
    | MachineRead
    | TargetFound
    | InstanceListening
    | InstanceReachable
    | InstanceGone
    | InstanceRetired
    | NamePublished
    | NameWithdrawn
    | NameKnown
    | NameAnswered
    | QueriesCounted
    | ServerChanged
    | LogRefused
    | StrangersAsked
    | ResolversRead
    | ResolversCounted
    | ProxyMeasured
    | LinePrinted
    | EngineFound
    | ContainerChanged
    | ContainersRestored
    | OtherReading
    | Unknown
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Generic[T_co]):
    """Something that was done or said, with its instant, its cell and its cycle."""

    at_ns: int
    cell: str
    cycle: int  # 0 outside of cycles
    what: T_co
    error_ns: int = 0  # how far `at_ns` may be from the truth

    def saying(self, what: T) -> Event[T]:
        """The same event, of which more is known: that its `what` is this one."""
        return Event(
            at_ns=self.at_ns, cell=self.cell, cycle=self.cycle, what=what, error_ns=self.error_ns
        )


AnyEvent = Event[What]


def only(events: Iterable[AnyEvent], kind: type[T]) -> list[Event[T]]:
    """Those events whose `what` is of this kind, in their order."""
    return [cast("Event[T]", event) for event in events if isinstance(event.what, kind)]


def earliest(events: Iterable[AnyEvent], kind: type[T]) -> Event[T] | None:
    """The earliest event of this kind."""
    return min(only(events, kind), key=lambda event: event.at_ns, default=None)
