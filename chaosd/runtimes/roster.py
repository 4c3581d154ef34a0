"""The instances of a cell's app: what every runtime that can move them does alike.

A stage extends `Roster` and is its driver: it says how one instance is made and ended, and at
which address. The roster keeps who is there, waits until they are ready, and stores what happens:
`InstancePlaced`, `InstanceListening`, `InstanceGone`, `NamePublished` and `NameWithdrawn`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from chaosd.errors import MachineError
from chaosd.history.events import (
    InstanceGone,
    InstanceListening,
    InstancePlaced,
    InstanceRetired,
    NamePublished,
    NameWithdrawn,
)
from chaosd.history.values import Address, Instance
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec
from chaosd.system.clock import SECOND_NS, sleep

ASK_LIMIT_S = 1.0  # how long a program of the user's may take to accept a connection
ASK_PAUSE_S = 0.005  # between two attempts to connect to it

Body = TypeVar("Body")  # what an instance is to its driver: a process, a container
Signal = Literal["KILL", "TERM"]


@dataclass(eq=False)
class Entry(Generic[Body]):
    """One instance of the app, from when it is asked for until it is stopped or dies."""

    name: str  # the identity that it was asked for with
    at: str | None  # the address that it is to have; None: a fresh one
    listens: asyncio.Future[str]  # the address that it listens on; "" if it died before
    body: Body | None = None
    instance: Instance | None = None  # once its address is known
    gone: bool = False  # `app/gone` is stored
    is_beside: bool = False  # it never moves, and has no part in the app's name
    is_aside: bool = False  # the name does not answer its address, although it lives


class Roster(ABC, Generic[Body]):
    """The instances of one cell, and what its name is answered with."""

    # Whether we publish the name. If not, the driver calls `publish` and `withdraw` when it sees
    # that the world did.
    owns_name: ClassVar[bool] = True

    def __init__(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> None:
        self.app: tuple[Instance, ...] = ()
        self._cell = cell
        self._recorder = recorder
        self._clock = recorder.clock
        self._failed = failed
        self._standing = self._closed = False
        self._trouble = ""  # what died before the cell was standing
        self._entries: dict[str, Entry[Body]] = {}  # by name, the oldest first
        self._published: dict[str, str] = {}  # name to IP
        self._identities = 0

    # --- what a driver supplies ---

    @abstractmethod
    async def _create(self, entry: Entry[Body]) -> Instance:
        """Start an instance at `entry.at` or at a fresh address, and set `entry.body`.

        Calls `place` as soon as the address is known, which may be after it runs, and returns what
        that gives. If it raises, it leaves nothing behind.
        """

    @abstractmethod
    async def _kill(self, entry: Entry[Body], signal: Signal, grace_s: float) -> None:
        """Signal it at once, and return when it is gone. After the grace it is killed.

        If this is cancelled it goes all the same, and the driver calls `gone` then.
        """

    @abstractmethod
    def _obituary(self, entry: Entry[Body]) -> str:
        """How it ended, in one line."""

    @abstractmethod
    def _readiness(self) -> Literal["said", "asked", "unknown"]:
        """How it is known that an instance listens.

        The driver calls `listening` when the instance says so; it is asked by connecting to it;
        or it can't be known from here, and counts as ready when it runs.
        """

    def _answer_with(self, ips: list[str]) -> None:
        """Let the name have these addresses from now on; none: it is missing."""

    def _withdrawn(self) -> NameWithdrawn | None:
        """What to store when the name goes missing; None: it keeps its last answer (stale)."""
        return None if self._cell.dns.missing == "stale" else NameWithdrawn()

    # --- the abilities CanMove and CanHoldAddress ---

    def next_identity(self) -> str:
        self._identities += 1
        return f"{self._cell.run_id}.{self._cell.name}.{self._identities}"

    async def start(self, identity: str, at: str | None = None) -> Instance:
        return await self._bring(identity, at)

    async def start_aside(self, identity: str) -> Instance:
        return await self._bring(identity, None, is_aside=True)

    async def switch(self, old: Instance, new: Instance) -> None:
        """As CanSwitch says, where we publish the name ourselves."""
        self._refuse_if_closed()
        entries = self._find(old), self._find(new)
        if None in entries:
            gone = old if entries[0] is None else new
            raise MachineError(f"app {gone.identity} is gone before the name was switched")
        for entry, is_aside in zip(entries, (True, False), strict=True):
            assert entry is not None  # noqa: S101 - looked at above
            entry.is_aside = is_aside
            if is_aside:
                self._published.pop(entry.name, None)
            elif entry.instance is not None:
                self._published[entry.name] = entry.instance.address.host
        self._recorder.record(InstanceRetired(identity=old.identity))
        self._store_name(None, 0)

    async def _bring(
        self, identity: str, at: str | None, *, is_beside: bool = False, is_aside: bool = False
    ) -> Instance:
        self._refuse_if_closed()
        listens = asyncio.get_running_loop().create_future()
        entry: Entry[Body] = Entry(identity, at, listens, is_beside=is_beside, is_aside=is_aside)
        self._entries[identity] = entry  # events may name it before the call that starts it is back
        try:
            instance = await self._create(entry)
        except BaseException:
            self._entries.pop(identity, None)
            raise
        self._count()
        if self.owns_name and self._cell.dns.publish == "start":
            self.publish(entry)
        return instance

    async def ready(self, instance: Instance) -> None:
        entry = self._find(instance)
        if entry is None:
            raise MachineError(f"app {instance.identity} is gone before it was ready")
        limit_s = self._cell.app.ready_timeout_s
        match self._readiness():
            case "said":
                await asyncio.wait([entry.listens], timeout=limit_s)
            case "asked":
                await self._ask_until_it_listens(entry, instance, limit_s)
            case "unknown":
                if not entry.listens.done():
                    entry.listens.set_result(str(instance.address))
        if not entry.listens.done():
            raise MachineError(
                f"app {instance.identity} does not listen on {instance.address} "
                f"within {limit_s:g} s (app.ready_timeout)"
            )
        address = entry.listens.result()
        if not address:
            raise MachineError(self._obituary(entry))
        if address != str(instance.address):
            raise MachineError(
                f"app {instance.identity} listens on {address}, not on {instance.address}"
            )

    async def stop(self, instance: Instance, signal: Signal, grace_s: float) -> None:
        # T0 has just been declared: nothing is awaited before the signal.
        entry = self._find(instance)
        if entry is None:
            return
        del self._entries[entry.name]
        self._count()
        try:
            await self._kill(entry, signal, grace_s)
            self.gone(entry)
        finally:
            if self.owns_name:
                self.withdraw(entry.name)

    # --- what a driver tells ---

    def place(
        self, entry: Entry[Body], ip: str, called: str | None = None, node: str | None = None
    ) -> Instance:
        """Its address is known: store it. The engine judges whether it is a fresh one.

        `called` is the identity that its answers carry, where they know nothing of ours; `node` is
        where it runs, if there are several.
        """
        app = self._cell.app
        identity = app.identity(called or entry.name, ip)
        instance = entry.instance = Instance(identity, Address(ip, app.port))
        # Where answers carry an address, say, what was expected under a name comes as another.
        expected = None if identity == entry.name else entry.name
        self._recorder.record(
            InstancePlaced(identity=identity, ip=ip, port=app.port, expected=expected, node=node)
        )
        return instance

    def listening(
        self, entry: Entry[Body], address: str, at_ns: int | None = None, error_ns: int = 0
    ) -> None:
        """It listens on this address since then."""
        if entry.listens.done() or entry.instance is None or entry.name not in self._entries:
            return
        entry.listens.set_result(address)
        said = InstanceListening(identity=entry.instance.identity)
        self._recorder.record(said, at_ns=at_ns, error_ns=error_ns)
        if self.owns_name and self._cell.dns.publish == "ready":
            self.publish(entry, at_ns)

    def gone(self, entry: Entry[Body]) -> None:
        """It does not run any more. May be called twice."""
        if entry.gone or entry.instance is None:
            return
        entry.gone = True
        self._recorder.record(InstanceGone(identity=entry.instance.identity))
        if not entry.listens.done():
            entry.listens.set_result("")

    def lost(self, entry: Entry[Body]) -> None:
        """It died by itself: nobody has stopped it."""
        if self._entries.pop(entry.name, None) is None:
            return
        self._count()
        if self.owns_name:
            self.withdraw(entry.name)

    def died(self, obituary: str) -> None:
        """Something died that nobody here has killed: setting up fails by it, or the run ends."""
        self._trouble = self._trouble or obituary
        if self._standing and not self._closed:
            self._failed(MachineError(obituary))

    def publish(self, entry: Entry[Body], at_ns: int | None = None, error_ns: int = 0) -> None:
        """The name has its address, too. May be called twice."""
        if entry.is_beside or entry.is_aside:
            return
        if entry.instance is not None and entry.name not in self._published:
            self._published[entry.name] = entry.instance.address.host
            self._store_name(at_ns, error_ns)

    def withdraw(self, name: str, at_ns: int | None = None, error_ns: int = 0) -> None:
        """The name does not have the address of this instance any more. May be called twice."""
        if self._published.pop(name, None) is not None and not self._is_stale():
            self._store_name(at_ns, error_ns)

    # --- helpers ---

    def _is_stale(self) -> bool:
        """Whether nobody notices that an instance is gone until its successor is there."""
        stale = self.owns_name and self._cell.dns.missing == "stale"
        return stale and len(self._published) < self._cell.app.replicas

    async def _set_up_app(self) -> None:
        """Bring up as many instances as the config wants, side by side."""
        instances = [await self.start(self.next_identity()) for _ in range(self._cell.app.replicas)]
        for instance in instances:
            await self.ready(instance)

    async def _set_up_beside(self) -> Instance | None:
        """Bring up the app that never moves, if other servers of the proxy's need one."""
        if self._cell.beside is None:
            return None
        name = f"{self._cell.run_id}.{self._cell.name}.beside"
        instance = await self._bring(name, None, is_beside=True)
        await self.ready(instance)
        return instance

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise MachineError(f"cell {self._cell.name} is not standing")

    def _find(self, instance: Instance) -> Entry[Body] | None:
        return next((e for e in self._entries.values() if e.instance == instance), None)

    def _count(self) -> None:
        self.app = tuple(
            entry.instance
            for entry in self._entries.values()
            if entry.instance is not None and not entry.is_beside
        )

    def _store_name(self, at_ns: int | None, error_ns: int) -> None:
        ips = list(self._published.values())
        if ips:
            self._answer_with(ips)
            published = NamePublished(ips=tuple(ips))
            self._recorder.record(published, at_ns=at_ns, error_ns=error_ns)
        elif (withdrawn := self._withdrawn()) is not None:
            self._answer_with([])
            self._recorder.record(withdrawn, at_ns=at_ns, error_ns=error_ns)

    async def _ask_until_it_listens(
        self, entry: Entry[Body], instance: Instance, limit_s: float
    ) -> None:
        """Connect again and again to a program that does not say when it listens."""
        address = instance.address
        limit_ns = self._clock.now_ns() + round(limit_s * SECOND_NS)
        while not entry.listens.done() and self._clock.now_ns() < limit_ns:
            try:
                async with asyncio.timeout(ASK_LIMIT_S):
                    _, writer = await asyncio.open_connection(*address)
            except OSError:  # a timeout is one, too
                await sleep(self._clock, ASK_PAUSE_S)
            else:
                writer.close()
                at_ns, error_ns = self._clock.now_ns(), round(ASK_PAUSE_S * SECOND_NS)
                self.listening(entry, str(address), at_ns, error_ns)
