"""What a proxy's model and a simulated world know of each other."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

NEVER_NS = 2**63 - 1

# How a name is answered that has no address; "" is no answer.
RCODES = {
    "nxdomain": "NXDOMAIN",
    "servfail": "SERVFAIL",
    "refused": "REFUSED",
    "empty": "NOERROR",
    "stale": "NXDOMAIN",  # before it ever had one
    "drop": "",
}

# How an attempt to connect ends. "silent": taken, but never answered.
Connected = Literal["ok", "refused", "timeout", "silent"]

# What is at an IP, and what becomes of a connection to it. At an IP that nobody has taken since
# its instance is gone, connections are refused, as on loopback; `vacant` is a host that is gone.
FOUND: dict[str, Connected] = {
    "app": "ok",
    "imposter": "ok",
    "nobody": "refused",
    "refuse": "refused",
    "blackhole": "timeout",
    "vacant": "timeout",
    "tarpit": "silent",
}

# How a request ended: when, the proxy's own status (0 if it isn't the proxy's), and who answered.
Ended = Callable[[int, int, str | None], None]


class Answer(NamedTuple):
    """What the nameserver said, and how long that took."""

    rcode: str  # "NOERROR", "NXDOMAIN", …
    ips: tuple[str, ...]
    took_ns: int


class World(Protocol):
    """What the proxy finds outside of itself at an instant."""

    def resolve(self, now_ns: int, qtype: str) -> Answer | None:
        """Answer a query for the app's name; None is no answer."""

    def connect(self, now_ns: int, ip: str) -> Connected:
        """Say what becomes of a connection to the app's port there."""

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        """Take what the proxy logs: address_changed, up, down, maint, ready."""


class Model(Protocol):
    """A proxy without its program. It has no clock: whoever owns it says what time it is."""

    def next_ns(self) -> int:
        """When it has something to do next."""

    def advance(self, now_ns: int) -> None:
        """Do everything that is due up to and including this instant, in the order of its time."""

    def request(self, now_ns: int, ended: Ended) -> None:
        """Begin a request now. `ended` is called at the instant at which its fate is decided.

        That is within this call, or within a later `advance`.
        """


@runtime_checkable
class CanSimulate(Protocol):
    """A proxy plugin that has a model of itself."""

    def simulate(
        self, *, version: str, world: World, rng: Random, start_ns: int, servers: int
    ) -> Model:
        """Start it in this world, with one server for each instance of the app."""
