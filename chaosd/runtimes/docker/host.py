"""One engine of a cell: what of the cell runs there, and what the engine says of it."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import own_container
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.follow import Events
from chaosd.runtimes.docker.members import Member, Members
from chaosd.runtimes.docker.network import Network
from chaosd.runtimes.docker.presence import Presence
from chaosd.system.clock import Clock


class Listener(Protocol):
    """Who is told what an engine says; all in the event loop."""

    def on_silence(self, from_ns: int, to_ns: int) -> None:
        """It has answered nothing for a while, and held up what was asked of it."""

    def on_absence(self) -> None:
        """It is away, or hangs. Told again and again."""

    def on_return(self, host: Host) -> None:
        """Its events come again after an interruption."""

    def on_event(self, host: Host, event: dict[str, Any]) -> None:
        """It says this of its containers and networks."""


class Host:
    """One engine as one cell uses it."""

    def __init__(
        self, presence: Presence, clock: Clock, listener: Listener, name: str = ""
    ) -> None:
        """`name` is what people call it; empty where there is only one."""
        self.name = name
        self.engine = Engine(presence, clock, listener.on_silence)
        self.home: str | None = None  # the container that chaosd runs in, if it is there
        self.members: Members | None = None
        self._listener = listener
        self._unwatch = presence.watch(listener.on_absence)
        self._events: Events | None = None

    async def meet(self) -> None:
        """Learn what it is. Raises MachineError."""
        await self.engine.meet()
        self.home = await self.engine.do(own_container)

    def join(self, network: Network, labels: dict[str, str]) -> None:
        """From now on it may have containers in this network, and its events are heard."""
        listener = self._listener
        self.members = Members(self.engine, network, labels)
        self._events = Events(
            self.engine,
            partial(listener.on_event, self),
            returned=partial(listener.on_return, self),
            absent=listener.on_absence,
        )
        self._events.start()

    @property
    def team(self) -> Members:
        if self.members is None:
            raise MachineError("the engine has no network of this cell yet")
        return self.members

    def get(self, container: str) -> Member | None:
        return self.members.get(container) if self.members is not None else None

    async def quiet(self, limit_s: float) -> None:
        """Hear no more, and wait for what still goes on there."""
        self._unwatch()
        if self._events is not None:
            self._events.close()
        if self.members is not None:
            await self.members.settle(limit_s)
        await self.engine.idle(limit_s)
