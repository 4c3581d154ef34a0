"""What a fault does to the world while it lasts: one closed union of values.

Each has two edges in the history, DisturbanceBegan and DisturbanceEnded. A new kind is a class here
and a line in codec.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceMoves:
    """An instance of the app goes, and another comes elsewhere."""

    identity: str
    ip: str
    old_ip: str = "refuse"  # what is found at the old address afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRestarts:
    """An instance of the app goes, and comes back at its address."""

    identity: str
    ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReplaced:
    """Another instance has the app's name, while the old one lives on for so long."""

    identity: str
    ip: str
    keep_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceImpaired:
    """An instance of the app does not answer where it is: pause, hang, partition."""

    identity: str
    ip: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppScaled:
    """The app has so many instances instead of so many."""

    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRolled:
    """Every instance of the app is replaced, one after the other."""

    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRenewed:
    """Another process of the proxy takes over: reload, restart."""

    how: str
    state_file: bool = False  # what it knew of its servers is handed over


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsAnswersWrongly:
    """The nameserver answers questions of this type and name so; None: all of them."""

    answer: str | None = None  # None: the usual one, later
    delay_s: float = 0.0
    qtype: str | None = None
    name: str | None = None
    preset: str | None = None  # what is wrong beyond that, by its name


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramDisturbs:
    """A program of the user's does what only it knows."""

    program: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDisturbance:
    """What a plugin does to the world that has no class here."""

    what: str
    details: dict[str, Any] = field(default_factory=dict)


Disturbance = (
    InstanceMoves
    | InstanceRestarts
    | InstanceReplaced
    | InstanceImpaired
    | AppScaled
    | AppRolled
    | ProxyRenewed
    | DnsAnswersWrongly
    | ProgramDisturbs
    | OtherDisturbance
)
