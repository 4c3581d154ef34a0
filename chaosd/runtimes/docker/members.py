"""The containers of a cell: made, started, listened to, and discarded, one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from chaosd import shown
from chaosd.errors import MachineError
from chaosd.runtimes.docker import objects
from chaosd.runtimes.docker.endpoint import (
    ConflictError,
    EngineAwayError,
    MissingError,
    translated,
)
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.follow import Output
from chaosd.runtimes.docker.network import Network
from chaosd.system.clock import SECOND_NS, sleep

GONE_PAUSE_S = 0.01
KILL_LIMIT_S = 20.0
DEATH_LOOKS, DEATH_PAUSE_S = 10, 0.5  # until an unexpected end is not the engine's own doing
FILES = "/etc/chaosd"  # an anonymous volume: a read-only container takes files nowhere else

Heard = Callable[[str, int, int], None]  # a line, when it was said, and how sure that is


class Makes(Protocol):
    """A container to be made."""

    @property
    def name(self) -> str: ...

    def make(self, api: Any, network: Network, labels: Mapping[str, str]) -> str:
        """Make it in this network, not yet started, and return its id; in a thread."""


@dataclass(kw_only=True)
class Blueprint:
    """One of chaosd's own."""

    name: str
    image: str
    ip: str | None = None  # None: one of the dynamic range
    aliases: tuple[str, ...] = ()
    command: Sequence[str] | None = None
    entrypoint: Sequence[str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    ports: dict[int, tuple[str, int]] = field(default_factory=dict)  # inside → (ip, port)
    memory_mb: int = 128
    pids: int = 64
    own_image: bool = True
    capability: str | None = None  # the one that it needs; it runs as root then
    dns: Sequence[str] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    scratch: str | None = None  # a directory in memory, which it may write
    binds: Mapping[str, Path] = field(default_factory=dict)  # inside → a directory of this machine
    user: str = objects.NOBODY  # of an image of ours
    labels: Mapping[str, str] = field(default_factory=dict)  # beside those of its cell

    def make(self, api: Any, network: Network, labels: Mapping[str, str]) -> str:
        """Make it, not yet started. Returns its id."""
        host_config = objects.host_config(
            api,
            memory_mb=self.memory_mb,
            pids=self.pids,
            own_image=self.own_image,
            cap_add=[self.capability] if self.capability else None,
            port_bindings=dict(self.ports),
            dns=list(self.dns) or None,
            sysctls=dict(self.sysctls) or None,
            tmpfs={self.scratch: objects.SCRATCH_OPTIONS} if self.scratch else None,
            mounts=objects.mounts(self.binds),
        )
        container: str = translated(
            lambda: api.create_container(
                self.image,
                name=self.name,
                command=list(self.command) if self.command else None,
                entrypoint=list(self.entrypoint) if self.entrypoint else None,
                environment=dict(self.environment),
                user=self._its_user,
                labels={**labels, **self.labels},
                ports=list(self.ports),
                volumes=[FILES] if self.files else None,
                host_config=host_config,
                networking_config=network.endpoint(api, self.ip, self.aliases),
            )
        )["Id"]
        if self.files:
            archive = objects.tar(self.files)
            translated(lambda: api.put_archive(container, FILES, archive))
        return container

    @property
    def _its_user(self) -> str | None:
        if self.capability is not None:
            return objects.ROOT
        return self.user if self.own_image else None


@dataclass(eq=False, kw_only=True)
class Member:
    """A container that was made, or that was met."""

    id: str
    name: str
    heard: Heard
    team: Members  # those that it belongs to
    is_ours: bool = True  # False: it is never removed, nor started again after the engine was
    expected: bool = False  # somebody here asked it to go
    exit_code: int | None = None
    pid: int = 0  # of this machine; 0 where it is not known, or another's
    last_line: str = ""
    output: Output | None = None

    def obituary(self) -> str:
        """How it ended, and the last that it said."""
        how = "" if self.exit_code is None else f" with exit status {self.exit_code}"
        words = f": {self.last_line}" if self.last_line else ""
        return f"container {self.name} died{how}{words}"


class Members:
    """Who belongs to the cell now."""

    def __init__(self, engine: Engine, network: Network, labels: dict[str, str]) -> None:
        self._engine = engine
        self._network = network
        self._labels = labels
        self._by_id: dict[str, Member] = {}
        self._making: dict[str, asyncio.Task[str]] = {}  # by name
        self._work: set[asyncio.Task[Any]] = set()

    @property
    def engine(self) -> Engine:
        return self._engine

    def get(self, container: str) -> Member | None:
        return self._by_id.get(container)

    def __iter__(self) -> Any:
        return iter(list(self._by_id.values()))

    async def create(self, blueprint: Makes, heard: Heard) -> Member:
        """Make it, not yet started. What has its name, a half-made one, is removed before."""
        engine = self._engine

        def attempt(api: Any) -> str:
            try:
                return blueprint.make(api, self._network, self._labels)
            except ConflictError:
                objects.remove(api, engine.clock, blueprint.name)
                return blueprint.make(api, self._network, self._labels)

        # One whose caller was cancelled is made all the same: two would meet under one name.
        if (earlier := self._making.get(blueprint.name)) is not None:
            await asyncio.wait([earlier])
        making = asyncio.get_running_loop().create_task(engine.do(attempt))
        self._making[blueprint.name] = making
        making.add_done_callback(partial(self._forget_making, blueprint.name))
        container = await asyncio.shield(making)
        member = Member(id=container, name=blueprint.name, heard=heard, team=self)
        self._by_id[container] = member
        return member

    def adopt(self, container: str, name: str, heard: Heard, pid: int) -> Member:
        """One that runs and is not ours."""
        member = Member(id=container, name=name, heard=heard, team=self, is_ours=False)
        self._by_id[container] = member
        self.seen(member, pid)
        return member

    def _forget_making(self, name: str, making: asyncio.Task[str]) -> None:
        if self._making.get(name) is making:
            del self._making[name]
        if not making.cancelled():
            making.exception()  # retrieved: perhaps nobody waits for it any more

    async def start(self, member: Member) -> None:
        """Start it and listen to it. Raises MachineError."""
        member.pid = 0
        await self._engine.do(lambda api: api.start(member.id))
        self.follow(member)

    def follow(self, member: Member) -> None:
        """Listen to what it prints; of one that is not ours, to what it prints from now on."""

        def heard(line: str, at_ns: int, error_ns: int) -> None:
            if line:
                member.last_line = shown.line(line)
            member.heard(line, at_ns, error_ns)

        if member.output is not None:
            member.output.close()
        member.output = Output(self._engine, member.id, heard, from_now=not member.is_ours)
        member.output.start()

    async def state(self, member: Member) -> dict[str, Any]:
        """What the engine says of it: `Running`, `ExitCode`, `Pid`, … Empty if it is not there."""
        try:
            inspected = await self._engine.do(lambda api: api.inspect_container(member.id))
        except MissingError:
            return {}
        found: dict[str, Any] = inspected["State"]
        return found

    def seen(self, member: Member, pid: int) -> None:
        """The engine says that this is its process: believed if it is one of this machine."""
        here = self._engine.is_here and pid and _is_of_container(pid, member.id)
        member.pid = pid if here else 0

    def take_in(self, container: str, name: str, heard: Heard) -> Member:
        """One of ours that somebody else has started, and will end; listen to it."""
        member = Member(id=container, name=name, heard=heard, team=self, expected=True)
        self._by_id[container] = member
        self.follow(member)
        return member

    async def leave(self, container: str) -> None:
        """Listen to it no more, once it has said its last words."""
        await sleep(self._engine.clock, DEATH_PAUSE_S)
        member = self._by_id.pop(container, None)
        if member is not None and member.output is not None:
            member.output.close()

    async def end(self, member: Member, signal: str, grace_s: float) -> None:
        """Signal it and return when it runs no more; it is killed after the grace."""
        member.expected = True
        await self.signal(member, signal)
        if await self._has_ended(member, grace_s if signal != "KILL" else KILL_LIMIT_S):
            return
        await self.signal(member, "KILL")
        if not await self._has_ended(member, KILL_LIMIT_S):
            raise MachineError(f"container {member.name} does not die of SIGKILL")

    async def signal(self, member: Member, signal: str) -> None:
        """Signal it, if it runs."""
        with suppress(MissingError, ConflictError):  # it is not running
            await self._engine.do(lambda api: api.kill(member.id, signal))

    async def _has_ended(self, member: Member, limit_s: float) -> bool:
        clock = self._engine.clock
        limit_ns = clock.now_ns() + round(limit_s * SECOND_NS)
        while (await self.state(member)).get("Running"):
            if clock.now_ns() > limit_ns:
                return False
            await sleep(clock, GONE_PAUSE_S)
        return True

    async def discard(self, container: str) -> None:
        """Remove it, with what it printed, if it is ours. May be called twice."""
        member = self._by_id.get(container)
        if member is None or not member.is_ours:
            return
        member.expected = True
        if member.output is not None:
            member.output.close()
        await self._engine.do(lambda api: objects.remove(api, self._engine.clock, container))
        self._by_id.pop(container, None)

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Let this go on beside everything else; `settle` waits for it."""
        task = asyncio.get_running_loop().create_task(_quietly(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        task.add_done_callback(lambda _: work.close())  # cancelled before it began

    async def settle(self, limit_s: float) -> None:
        """Stop listening, and wait for what goes on."""
        for member in self._by_id.values():
            member.expected = True
            if member.output is not None:
                member.output.close()
        for task in list(self._work):
            task.cancel()
        if self._work:
            await asyncio.wait(list(self._work), timeout=limit_s)

    async def really_died(self, member: Member) -> bool:
        """Whether it ended by itself, rather than with the engine or by our own order."""
        for _ in range(DEATH_LOOKS):
            await sleep(self._engine.clock, DEATH_PAUSE_S)
            if member.expected or not await self._engine.presence.answers():
                return False
        state = await self.state(member)
        member.exit_code = state.get("ExitCode")
        return not state.get("Running")


def _is_of_container(pid: int, container: str) -> bool:
    """Whether the number means the same process here: chaosd may have numbers of its own."""
    try:
        return container in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        return False


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    # What fails here is a removal, which `close` attempts again, or a look at an engine that is
    # away, which the next call notices.
    with suppress(MachineError, EngineAwayError):
        await work
