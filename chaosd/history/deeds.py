"""What chaosd does to the world: one closed union of deeds, and the edges of each.

A deed is written down before it is done and after: `Asked`, then `Done` or `Failed`. A new kind of
deed is a class here and a line in codec.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """A cell's topology is started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TearDown:
    """A cell's topology is removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartInstance:
    """An instance of the app is started."""

    identity: str
    ip: str | None = None  # None: known once it has started


@dataclass(frozen=True, slots=True, kw_only=True)
class StopInstance:
    """An instance of the app is taken away by this signal."""

    identity: str
    ip: str
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RescheduleInstance:
    """What runs the app is told to replace an instance: where and how is its own choice."""

    identity: str
    ip: str
    by: str  # update, drain
    order: str  # stop-first, start-first


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAddress:
    """Something else takes an old address."""

    ip: str
    manner: str  # what answers there: refuse, imposter, blackhole, tarpit, vacant


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseAddress:
    """The old address is let go of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgram:
    """A program of the user's is run, to `inject` a fault or to `heal` it."""

    role: str
    program: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDns:
    """The nameserver is told to answer wrongly: questions of this type and name; None: all."""

    answer: str | None = None  # nxdomain, servfail, refused, empty, drop; None: the usual one
    delay_s: float = 0.0
    qtype: str | None = None
    name: str | None = None
    preset: str | None = None  # what is wrong beyond that, by its name
    nameserver: int | None = None  # the only one of several, from 1; None: as the preset says


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreDns:
    """The nameserver is told to answer as usual again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchName:
    """The app's name is given from one instance to another; the former lives on."""

    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpairInstance:
    """Something is done to an instance where it is: pause, hang, partition."""

    identity: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreInstance:
    """That is undone."""

    identity: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewProxy:
    """Another process of the proxy takes over: reload, restart."""

    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDeed:
    """What a plugin does that has no class here."""

    verb: str
    details: dict[str, Any] = field(default_factory=dict)


Deed = (
    SetUp
    | TearDown
    | StartInstance
    | StopInstance
    | RescheduleInstance
    | HoldAddress
    | ReleaseAddress
    | RunProgram
    | FaultDns
    | RestoreDns
    | SwitchName
    | ImpairInstance
    | RestoreInstance
    | RenewProxy
    | OtherDeed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A deed is about to be done."""

    deed: Deed


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A deed was done."""

    deed: Deed


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A deed failed, or was cut short."""

    deed: Deed
    error: str
