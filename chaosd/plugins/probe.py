"""The contract of a probe, and of the prober that sends them: how we ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from chaosd.history.values import Address, Outcome, Sample, StreamSpec
from chaosd.plugins.bases import (
    ProbeConfig,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """How a probe asks, as far as it decides where its request goes to: HTTP by GET."""

    host: str | None = None  # the Host header, and the name that TLS asks for; None: the address
    path: str = "/"
    tls: bool = False
    proxy_line: bool = False  # a line of the PROXY protocol comes first
    identified: bool = False  # an answer is good only if it says who has answered


PLAIN_KNOCK = Knock()


def proxy_line(target: Address) -> bytes:
    """The first line of a connection, by the PROXY protocol, version 1: the client is this host."""
    family = "TCP6" if ":" in target.host else "TCP4"
    return f"PROXY {family} {target.host} {target.host} 65535 {target.port}\r\n".encode()


@runtime_checkable
class Knocks(Protocol):
    """The config of a probe whose way of asking can be imitated."""

    def knock(self) -> Knock:
        """How it asks."""


class Shot(Protocol):
    """One attempt. Its probe must end it exactly once; later calls are ignored.

    The host ends it as TIMEOUT at its deadline by itself and calls `Probe.abandon`.
    """

    scheduled_ns: int
    deadline_ns: int

    def sent(self) -> None:
        """The first byte, or the SYN, is going out now. Call it before the system call."""

    def done(self, outcome: Outcome, status: int = 0, who: str = "") -> None:
        """The attempt has ended now."""


@runtime_checkable
class MayKeepConnections(Protocol):
    """The config of a probe that says whether each request has a connection of its own."""

    @property
    def connection(self) -> Literal["new", "keep-alive"]: ...


class Probe(Protocol):
    """How we ask. One object per stream; it lives in the prober's process."""

    Config: ClassVar[type[ProbeConfig]]
    identifies: ClassVar[bool]  # whether its answers can tell who answered

    def __init__(self, config: Any, identity_header: str) -> None: ...

    def fire(self, shot: Shot, target: Address) -> None:
        """Start one attempt and return at once. One attempt: no retries, no second address."""

    def abandon(self, shot: Shot) -> None:
        """The deadline of this shot has passed: free what it holds."""

    async def close(self) -> None:
        """Free everything."""


Deliver = Callable[[Sequence[Sample], dict[int, int]], None]


class Prober(Protocol):
    """Who sends the probes of all cells on time and delivers their samples in batches."""

    async def start(self, deliver: Deliver, failed: Callable[[Exception], None]) -> None:
        """`deliver(samples, complete)` is called often; `complete[stream]` promises that every
        sample of that stream scheduled before this instant has been delivered.
        """

    def add(
        self, spec: StreamSpec, probe_type: str, config: ProbeConfig, identity_header: str
    ) -> None:
        """Make a stream known. It sends nothing until it is aimed."""

    def aim(self, stream: int, target: Address | None) -> None:
        """Send it there from now on; None pauses it."""

    def pace(self, stream: int, *, dense: bool) -> None:
        """Use all of its slots from now on, or one of every `StreamSpec.idle_every`.

        It begins with the latter. The slots themselves stay where they are.
        """

    async def close(self) -> None: ...
