"""What all cells on Docker engines do alike, whether chaosd made the network and the proxy or not.

It asks the engine and hears its events, starts, stops and removes containers, holds old addresses,
lives through an engine that goes away, and takes down what carries its labels.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from chaosd.errors import MachineError
from chaosd.history.causes import Cause, CauseKind, Lag, LagKind
from chaosd.history.events import (
    ContainerChanged,
    ContainersRestored,
    Disturbed,
    EngineFound,
    InstanceReachable,
    NameWithdrawn,
    WorldWatched,
)
from chaosd.history.values import Address
from chaosd.plugins.bases import OldIp
from chaosd.plugins.probe import Knock
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec, Holder, OwnProcess, ProcessRole
from chaosd.runtimes import readiness
from chaosd.runtimes.docker import images, objects, placeholder
from chaosd.runtimes.docker.endpoint import EngineAwayError
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.host import Host
from chaosd.runtimes.docker.members import Blueprint, Member, Members
from chaosd.runtimes.docker.network import Network
from chaosd.runtimes.docker.presence import Presence
from chaosd.runtimes.docker.publishers import publishers
from chaosd.runtimes.roster import ASK_PAUSE_S, Entry, Roster, Signal
from chaosd.system.clock import SECOND_NS, sleep

CLOSE_LIMIT_S = 20.0
# The name is in Docker's DNS a little before the engine says that the container is connected.
EVENT_ERROR_NS = 10_000_000


class OtherAddressError(MachineError):
    """A container has not the address that it was to have."""


class EngineStage(Roster[Member]):
    """One cell on an engine, or on several: the proxy's is the first."""

    owns_name: ClassVar[bool] = False  # Docker's DNS has it, and events say since when

    def __init__(
        self,
        presence: Presence,
        cell: CellSpec,
        recorder: Recorder,
        failed: Callable[[Exception], None],
        *,
        name: str = "",
        others: Mapping[str, Presence] = MappingProxyType({}),
    ) -> None:
        """`presence` is the proxy's engine, called `name` where there are `others`."""
        super().__init__(cell, recorder, failed)
        self.entry = Address("", 0)
        self.way_in = "published port"
        self.api: str | None = None
        self.missing: str | None = None  # how the name is answered while nobody has it
        engines = {name: presence, **others}
        self._hosts = [
            Host(engine, recorder.clock, self, called) for called, engine in engines.items()
        ]
        self._absent = False
        self._made = False  # something of this cell may be there, whether it was heard of or not
        self._net: Network | None = None
        self._holders = 0
        self._publishers: tuple[int, list[int]] = (0, [])  # of the proxy of this number

    # --- what a driver supplies, beside what the roster asks for ---

    @abstractmethod
    async def set_up(self) -> None:
        """Bring everything up, in the order in which it needs each other. Raises MachineError."""

    @abstractmethod
    def _name_of(self, identity: str) -> str:
        """The name of the container that is this instance."""

    @property
    @abstractmethod
    def _proxy_member(self) -> Member | None:
        """The proxy's container."""

    @property
    @abstractmethod
    def _upstream(self) -> Sequence[str]:
        """Whom Docker's DNS asks for a name that it does not know; empty: the host's servers."""

    async def _proxy_is_back(self) -> None:
        """The proxy was started again."""

    def _forget(self) -> None:
        """The cell is closed: let go of what is not on the engine."""

    # --- setting up and taking down ---

    async def _meet(self) -> dict[str, str]:
        """Get to know the engines. Returns the labels of what will be made there."""
        cell = self._cell
        cell.directory.mkdir(parents=True, exist_ok=True)
        for host in self._hosts:
            await host.meet()
        return objects.labels(cell.run_id, cell.name, self._home)

    def _settle_in(self, network: Network, labels: dict[str, str]) -> None:
        """From now on there are containers of this cell in this network."""
        self._net = network
        for host in self._hosts:
            host.join(network, labels)

    async def _until_it_answers(self, knock: Knock) -> None:
        """Return when the app answers through the proxy. Raises MachineError."""

        def last_word() -> str:
            return self._proxy_member.last_line if self._proxy_member is not None else ""

        await readiness.answers(
            self.entry, knock, self._clock, in_trouble=lambda: self._trouble, last_word=last_word
        )
        if self._trouble:
            raise MachineError(self._trouble)

    def _record_engine(self) -> None:
        for host in self._hosts:
            engine = host.engine
            self._recorder.record(
                EngineFound(
                    version=engine.version,
                    network=self._network.name,
                    subnet=str(self._network.subnet),
                    way_in=self.way_in,
                    missing=self.missing,
                    clock_offset_ns=engine.offset_ns,
                    clock_error_ns=engine.offset_error_ns,
                    node=host.name or None,
                )
            )

    async def close(self) -> None:
        if self._closed and not self._made:
            return
        self._closed = True
        try:
            for host in self._hosts:
                await host.quiet(CLOSE_LIMIT_S)
            if self._made:
                await self._take_down()
                self._made, self._net = False, None
        finally:
            self._forget()
            if not self._made:
                for host in self._hosts:
                    host.engine.close()

    async def _take_down(self) -> None:
        try:
            await self._remove_all()
        except EngineAwayError as error:
            if "chaosd clean" in str(error):
                raise
            raise MachineError(
                f"{error}; what is left there of run {self._cell.run_id} is removed by "
                "`chaosd clean`"
            ) from None

    async def _remove_all(self) -> None:
        troubles: list[MachineError] = []
        for host in self._hosts:
            try:
                await self._remove_containers(host.engine)
            except MachineError as error:  # the others have something of ours, too
                troubles.append(error)
        if troubles:
            raise troubles[0]
        cell, ask = self._cell, self._network_host.engine.now
        found = await ask(lambda api: objects.of_run(api, cell.run_id, cell.name))
        for each in found.networks:
            await ask(partial(_remove, objects.remove_network, self._clock, each))

    async def _remove_containers(self, engine: Engine) -> None:
        cell, clock, ask = self._cell, self._clock, engine.now
        found = await ask(lambda api: objects.of_run(api, cell.run_id, cell.name))
        removals = [ask(partial(_remove, objects.remove, clock, each)) for each in found.containers]
        await asyncio.gather(*removals)
        for guard, restores in found.guards:
            await ask(partial(_hand_back, clock, guard, restores))

    # --- moving instances ---

    async def _start(self, member: Member, ip: str) -> None:
        """Start it, and verify by inspection that it has the address that it was to have."""
        net, team = self._network, member.team
        try:
            await team.start(member)
        except MachineError as error:
            if "already in use" not in str(error):
                raise
            # One that comes back: the address is free a little later than the container is gone.
            await self._vacancy().take(ip)
            await team.start(member)
        has, pid = await team.engine.do(lambda api: net.found(api, member.id))
        team.seen(member, pid)
        if has is None and not (state := await team.state(member)).get("Running"):
            member.exit_code = state.get("ExitCode")
            await sleep(self._clock, ASK_PAUSE_S)  # its last words may still be under way
            raise MachineError(member.obituary())
        if has != ip:
            raise OtherAddressError(f"{member.name} has {has or 'no address'}, not {ip}")

    async def _kill(self, entry: Entry[Member], signal: Signal, grace_s: float) -> None:
        member = entry.body
        if member is None:
            return
        try:
            await member.team.end(member, self._signal(signal), grace_s)
        finally:
            # Its address is free now; the container itself is removed beside what goes on.
            member.team.soon(self._remove(entry, member))

    def _signal(self, signal: Signal) -> str:
        """What an instance is sent that is told to go in this way."""
        return signal

    async def _remove(self, entry: Entry[Member], member: Member) -> None:
        await member.team.discard(member.id)
        self.gone(entry)  # also if the task that waited for it was cancelled

    def _obituary(self, entry: Entry[Member]) -> str:
        return entry.body.obituary() if entry.body is not None else f"app {entry.name} is gone"

    def _readiness(self) -> Literal["said", "asked", "unknown"]:
        return "asked" if self._engine.is_here else "unknown"  # it can't be reached from here

    def _withdrawn(self) -> NameWithdrawn:
        return NameWithdrawn(missing=self.missing)

    async def hold(self, manner: OldIp) -> Holder:
        if manner == "vacant":
            return self._vacancy()
        self._holders += 1
        blueprint = Blueprint(
            name=f"chaosd-{self._cell.run_id}-{self._cell.name}-{manner}-{self._holders}",
            image=images.app_tag(),
            environment={
                "CHAOSD_LISTEN": f"0.0.0.0:{self._cell.app.port}",
                "CHAOSD_MODE": manner,
            },
            # Some kernels let nobody else attach the filter that drops the packets.
            capability="NET_ADMIN" if manner == "blackhole" else None,
            dns=self._upstream,
        )
        host = self._placeholder_host()
        return await placeholder.arm(host.engine, self._network, host.team, blueprint)

    def _placeholder_host(self) -> Host:
        """Where the next old address is held."""
        return self._hosts[-1]

    def _vacancy(self) -> placeholder.Nobody:
        return placeholder.Nobody([host.engine for host in self._hosts], self._network)

    # --- what happens ---

    def on_event(self, host: Host, event: dict[str, Any]) -> None:
        """Take what an engine says of our containers, and of them in our network."""
        if self._closed:
            return
        action, actor = event.get("Action", ""), event.get("Actor", {})
        attributes = actor.get("Attributes") or {}
        of_network = event.get("Type") == "network"
        container = attributes.get("container", "") if of_network else actor.get("ID", "")
        member = host.get(container)
        if member is None or (of_network and attributes.get("name") != self._network.name):
            return
        at_ns = host.engine.monotonic_ns(int(event.get("timeNano") or 0))
        known = ("die", "oom", "start", "connect", "disconnect")
        if action not in known:
            return
        status = attributes.get("exitCode", "") if action == "die" else None
        changed = ContainerChanged(action=action, container=member.name, exit=status)
        error_ns = EVENT_ERROR_NS + host.engine.offset_error_ns
        self._recorder.record(changed, at_ns=at_ns, error_ns=error_ns)
        entry = next((e for e in self._entries.values() if e.body is member), None)
        if action in ("connect", "start", "disconnect"):
            self._on_network(action, member, entry, at_ns, error_ns)
        if entry is not None and entry.instance is not None and action == "start":
            # Its interface is up at last: before, nobody answered ARP for the address.
            reachable = InstanceReachable(identity=entry.instance.identity)
            self._recorder.record(reachable, at_ns=at_ns, error_ns=error_ns)
        if action == "die":
            if entry is not None:
                self.gone(entry)
            if not member.expected:
                member.team.soon(self._judge(member))

    def _on_network(
        self, action: str, member: Member, entry: Entry[Member] | None, at_ns: int, error_ns: int
    ) -> None:
        """It has joined the network or left it, and with it the name its address."""
        if action == "disconnect":
            for name in list(self._published):
                if member.name == self._name_of(name):
                    self.withdraw(name, at_ns, error_ns)
        elif entry is not None:
            self.publish(entry, at_ns, error_ns)

    async def _judge(self, member: Member) -> None:
        """Let the run end if something died that nobody here has killed, nor the engine's end."""
        if await member.team.really_died(member) and not self._closed:
            self.died(member.obituary())

    def on_absence(self) -> None:
        if self._standing and not self._closed and not self._absent:
            self._absent = True
            self._recorder.record(Disturbed(cause=Cause(kind=CauseKind.ENGINE_AWAY)))
            self._team.soon(self._wait_for_engines())

    def on_silence(self, from_ns: int, to_ns: int) -> None:
        seconds = (to_ns - from_ns) / SECOND_NS
        lag = Lag(kind=LagKind.ENGINE_SILENT, from_ns=from_ns, seconds=seconds)
        self._recorder.record(WorldWatched(lags=(lag,)))

    async def _wait_for_engines(self) -> None:
        """Let the run end if an engine is away for too long.

        Then the cell stays without one: each would go on to tell all others, which tell it.
        """
        for host in self._hosts:
            if not await host.engine.presence.returns():
                self._failed(EngineAwayError(host.engine.presence.absence()))
                return
        self._absent = False

    def on_return(self, host: Host) -> None:
        if self._standing and not self._closed:
            host.team.soon(self._restore(host.team))

    async def _restore(self, team: Members) -> None:
        """Start again what an engine that was restarted has taken down."""
        wanted = [member for member in team if member.is_ours and not member.expected]
        dead = [m for m in wanted if not (await team.state(m)).get("Running")]
        if not dead:
            return
        self._recorder.record(Disturbed(cause=Cause(kind=CauseKind.ENGINE_RESTARTED)))
        for member in sorted(dead, key=lambda m: m is self._proxy_member):
            await team.start(member)
        await self._proxy_is_back()
        self._recorder.record(ContainersRestored(containers=tuple(m.name for m in dead)))

    # --- what it is made of ---

    def proxy_process(self) -> dict[str, int]:
        return {}

    def processes(self) -> list[OwnProcess]:
        found = [
            OwnProcess(ProcessRole.APP, entry.instance.identity, entry.body.pid)
            for entry in self._entries.values()
            if entry.body is not None and entry.body.pid and entry.instance is not None
        ]
        proxy = self._proxy_member
        if proxy is not None and proxy.pid:
            found.append(OwnProcess(ProcessRole.PROXY, "", proxy.pid))
            found += [OwnProcess(ProcessRole.ENTRY, "", pid) for pid in self._entry_pids(proxy)]
        return found

    def _entry_pids(self, proxy: Member) -> list[int]:
        """What carries connections to the proxy; others do for one that was started again."""
        number, pids = self._publishers
        if number != proxy.pid:
            self._publishers = proxy.pid, []
            proxy.team.soon(self._find_publishers(proxy.pid))
        return pids if number == proxy.pid else []

    async def _find_publishers(self, proxy: int) -> None:
        self._publishers = proxy, await asyncio.to_thread(publishers, self.entry)

    @property
    def _network(self) -> Network:
        if self._net is None or self._closed:
            raise MachineError(f"cell {self._cell.name} is not standing")
        return self._net

    @property
    def _engine(self) -> Engine:
        """The proxy's."""
        return self._hosts[0].engine

    @property
    def _home(self) -> str | None:
        """The container that chaosd itself runs in, if it is on that engine."""
        return self._hosts[0].home

    @property
    def _team(self) -> Members:
        """The containers on the proxy's engine."""
        _ = self._network  # it refuses once the cell is closed
        return self._hosts[0].team

    @property
    def _network_host(self) -> Host:
        """Whose engine makes and removes the network."""
        return self._hosts[0]


def _remove(what: Callable[..., None], clock: Any, each: str, api: Any) -> None:
    what(api, clock, each)


def _hand_back(clock: Any, guard: str, restores: str, api: Any) -> list[str]:
    return objects.hand_back(api, clock, guard, restores)
