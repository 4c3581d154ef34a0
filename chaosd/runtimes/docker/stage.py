"""One cell on a Docker engine: a network, an app, a proxy, and the name between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Network
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from chaosd.dns.rules import Rule
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
from chaosd.history.values import Address, Instance
from chaosd.plugins.bases import OldIp
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec, Holder, OwnProcess, ProcessRole
from chaosd.runtimes import readiness
from chaosd.runtimes.dns_answers import DnsAnswers
from chaosd.runtimes.docker import images, missing_name, network, objects, placeholder
from chaosd.runtimes.docker.endpoint import EngineAwayError, own_container
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.follow import Events
from chaosd.runtimes.docker.members import Blueprint, Member, Members
from chaosd.runtimes.docker.network import NAMESERVER, PROXY, Network
from chaosd.runtimes.docker.presence import Presence
from chaosd.runtimes.docker.proxy import DockerProxy
from chaosd.runtimes.docker.sidecar import EMBEDDED_DNS, Sidecar
from chaosd.runtimes.roster import ASK_PAUSE_S, Entry, Roster, Signal
from chaosd.runtimes.surroundings import Surroundings
from chaosd.system.clock import SECOND_NS, sleep

if TYPE_CHECKING:
    from chaosd.runtimes.docker import DockerConfig

OWN_IMAGE = "http-server"
DNS_PORT = 53
CLOSE_LIMIT_S = 20.0
# The name is in Docker's DNS a little before the engine says that the container is connected.
EVENT_ERROR_NS = 10_000_000
NOWHERE = "127.0.0.1"  # in the container's own namespace: nobody answers there


class DockerStage(Roster[Member]):
    """One cell's topology."""

    owns_name: ClassVar[bool] = False  # Docker's DNS has it, and events say since when

    def __init__(
        self,
        config: DockerConfig,
        presence: Presence,
        cell: CellSpec,
        recorder: Recorder,
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__(cell, recorder, failed)
        self.entry = Address("", 0)
        self.way_in = "published port"
        self.api: str | None = None
        self.missing: str | None = None  # how the name is answered while nobody has it
        self._config = config
        self._engine = Engine(presence, recorder.clock, self._on_silence)
        self._unwatch = presence.watch(self._on_absence)
        self._absent = False
        self._made = False  # something of this cell may be there, whether it was heard of or not
        self._home: str | None = None
        self._net: Network | None = None
        self._members: Members | None = None
        self._events: Events | None = None
        self._proxy: DockerProxy | None = None
        self._sidecar: Sidecar | None = None
        self._holders = 0

    # --- setting up and taking down ---

    async def set_up(self) -> None:
        """Bring everything up, in the order in which it needs each other."""
        cell, engine = self._cell, self._engine
        cell.directory.mkdir(parents=True, exist_ok=True)
        await engine.meet()
        self._home = await engine.do(own_container)
        labels = objects.labels(cell.run_id, cell.name, self._home)
        rng, pool = Random(cell.seed), IPv4Network(self._config.subnets)  # noqa: S311
        name = f"chaosd-{cell.run_id}-{cell.name}"
        self._made = True  # from when it is asked for: who is cancelled does not hear of it
        self._net = await engine.do(
            lambda api: network.create(api, name, pool, rng, labels, local=engine.is_here)
        )
        self._members = Members(engine, self._net, labels)
        self._events = Events(
            engine, self._on_event, returned=self._on_return, absent=self._on_absence
        )
        self._events.start()
        if self._home is not None:
            home, net = self._home, self._net
            await engine.do(lambda api: net.attach(api, home, None))
            self.way_in = "network"
        dns, *more = await self._nameservers()
        await self._set_up_app()
        beside = await self._set_up_beside()
        door = self._net.address(PROXY)
        await self._start_proxy(Surroundings(door, dns, self.app[0].address, beside, tuple(more)))
        self._recorder.record(
            EngineFound(
                version=engine.version,
                network=self._net.name,
                subnet=str(self._net.subnet),
                way_in=self.way_in,
                missing=self.missing,
                clock_offset_ns=engine.offset_ns,
                clock_error_ns=engine.offset_error_ns,
            )
        )
        self._standing = True

    async def _nameservers(self) -> list[Address]:
        """Whom the proxy asks; and how they answer for a name that nobody has."""
        cell, net = self._cell, self._network
        if self._config.dns == "engine":
            self.missing = await missing_name.find_out(self._team, net.name, self._upstream)
            return [Address(EMBEDDED_DNS, DNS_PORT)]
        self.missing = cell.dns.missing
        answers = DnsAnswers(self._recorder, cell.dns.name, cell.dns.nameservers)
        self._sidecar = Sidecar(cell, self._engine, self._team, answers)
        return await self._sidecar.start(
            net.address(NAMESERVER), proxy=net.address(PROXY), upstream=self._upstream
        )

    async def _start_proxy(self, where: Surroundings) -> None:
        self._proxy = DockerProxy(self._cell, self._recorder, self._engine, self._team)
        await self._proxy.start(
            where,
            publish=self._config.publish,
            inside=self._home is not None,
            upstream=self._upstream,
        )
        self.entry, self.api = self._proxy.entry, self._proxy.api
        await readiness.answers(
            self.entry,
            self._cell.knock,
            self._clock,
            in_trouble=lambda: self._trouble,
            last_word=lambda: self._proxy.last_line if self._proxy is not None else "",
        )
        if self._trouble:
            raise MachineError(self._trouble)

    async def close(self) -> None:
        if self._closed and not self._made:
            return
        self._closed = True
        self._unwatch()
        engine = self._engine
        if self._events is not None:
            self._events.close()
        try:
            if self._members is not None:
                await self._members.settle(CLOSE_LIMIT_S)
            await engine.idle(CLOSE_LIMIT_S)
            if self._made:
                await self._remove_all()
                self._made, self._net = False, None
        finally:
            if self._proxy is not None:
                self._proxy.close()
            if not self._made:
                engine.close()

    async def _remove_all(self) -> None:
        cell, clock = self._cell, self._clock
        try:
            found = await self._engine.now(lambda api: objects.of_run(api, cell.run_id, cell.name))
            removals = [
                self._engine.now(partial(_remove, objects.remove, clock, each)) for each in found[0]
            ]
            await asyncio.gather(*removals)
            for each in found[1]:
                await self._engine.now(partial(_remove, objects.remove_network, clock, each))
        except EngineAwayError as error:
            if "chaosd clean" in str(error):
                raise
            raise MachineError(
                f"{error}; what is left there of run {cell.run_id} is removed by `chaosd clean`"
            ) from None

    # --- moving instances ---

    async def _create(self, entry: Entry[Member]) -> Instance:
        ip = entry.at or self._network.fresh({each.address.host for each in self.app})
        instance = self.place(entry, ip)
        member = entry.body = await self._team.create(
            self._blueprint(entry, ip), partial(self._on_app_line, entry)
        )
        try:
            await self._start(member, ip)
        except BaseException:
            self._team.soon(self._team.discard(member.id))
            raise
        return instance

    async def _start(self, member: Member, ip: str) -> None:
        """Start it, and verify by inspection that it has the address that it was to have."""
        net = self._network
        try:
            await self._team.start(member)
        except MachineError as error:
            if "already in use" not in str(error):
                raise
            # One that comes back: the address is free a little later than the container is gone.
            await placeholder.Nobody(self._engine, net).take(ip)
            await self._team.start(member)
        has, pid = await self._engine.do(lambda api: net.found(api, member.id))
        self._team.seen(member, pid)
        if has is None and not (state := await self._team.state(member)).get("Running"):
            member.exit_code = state.get("ExitCode")
            await sleep(self._clock, ASK_PAUSE_S)  # its last words may still be under way
            raise MachineError(member.obituary())
        if has != ip:
            raise MachineError(f"{member.name} has {has or 'no address'}, not {ip}")

    def _name_of(self, identity: str) -> str:
        return f"chaosd-{identity.replace('.', '-')}"

    def _blueprint(self, entry: Entry[Member], ip: str) -> Blueprint:
        app, own = self._cell.app, self._is_own
        variables = {
            "CHAOSD_LISTEN": f"0.0.0.0:{app.port}",
            "CHAOSD_IDENTITY": app.identity(entry.name, ip),
            "CHAOSD_START_DELAY": str(app.start_delay_s),
        }
        if app.healthy_after_s:
            variables["CHAOSD_HEALTHY_AFTER"] = str(app.healthy_after_s)
        return Blueprint(
            name=self._name_of(entry.name),
            image=images.app_tag() if own else app.image,
            ip=ip,
            aliases=(self._cell.beside or ()) if entry.is_beside else (self._cell.dns.name,),
            command=app.command or None,
            environment=app.env | variables,
            memory_mb=256 if own else 1024,
            pids=64 if own else 1024,
            own_image=own,
            dns=self._upstream,
        )

    async def _kill(self, entry: Entry[Member], signal: Signal, grace_s: float) -> None:
        member = entry.body
        if member is None:
            return
        try:
            await self._team.end(member, signal, grace_s)
        finally:
            # Its address is free now; the container itself is removed beside what goes on.
            self._team.soon(self._remove(entry, member))

    async def _remove(self, entry: Entry[Member], member: Member) -> None:
        await self._team.discard(member.id)
        self.gone(entry)  # also if the task that waited for it was cancelled

    def _obituary(self, entry: Entry[Member]) -> str:
        return entry.body.obituary() if entry.body is not None else f"app {entry.name} is gone"

    def _readiness(self) -> Literal["said", "asked", "unknown"]:
        if self._is_own and not self._cell.app.command:
            return "said"
        return "asked" if self._engine.is_here else "unknown"  # it can't be reached from here

    def _withdrawn(self) -> NameWithdrawn:
        return NameWithdrawn(missing=self.missing)

    async def answer_by(self, rules: Sequence[Rule], owner: str = "") -> None:
        _ = self._network  # it refuses once the cell is closed
        if self._sidecar is None:
            raise MachineError("Docker's own DNS can't be told what to answer (dns: forward)")
        await self._sidecar.answer_by(rules, owner)

    async def hold(self, manner: OldIp) -> Holder:
        if manner == "vacant":
            return placeholder.Nobody(self._engine, self._network)
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
        return await placeholder.arm(self._engine, self._network, self._team, blueprint)

    # --- what happens ---

    def _on_app_line(self, entry: Entry[Member], line: str, at_ns: int, error_ns: int) -> None:
        if not line.startswith("listening ") or entry.instance is None:
            return
        _, _, *stamp = line.split()
        # Its own stamp tells it best, if it is of our clock.
        if stamp and stamp[0].isdecimal() and self._engine.is_here and int(stamp[0]) <= at_ns:
            at_ns, error_ns = int(stamp[0]), 0
        # It listens on all addresses of its container, of which there is one.
        self.listening(entry, str(entry.instance.address), at_ns, error_ns)

    def _on_event(self, event: dict[str, Any]) -> None:
        """Take what the engine says of our containers, and of them in our network."""
        if self._closed or self._members is None:
            return
        action, actor = event.get("Action", ""), event.get("Actor", {})
        attributes = actor.get("Attributes") or {}
        of_network = event.get("Type") == "network"
        container = attributes.get("container", "") if of_network else actor.get("ID", "")
        member = self._members.get(container)
        if member is None or (of_network and attributes.get("name") != self._network.name):
            return
        at_ns = self._engine.monotonic_ns(int(event.get("timeNano") or 0))
        known = ("die", "oom", "start", "connect", "disconnect")
        if action not in known:
            return
        status = attributes.get("exitCode", "") if action == "die" else None
        changed = ContainerChanged(action=action, container=member.name, exit=status)
        error_ns = EVENT_ERROR_NS + self._engine.offset_error_ns
        self._recorder.record(changed, at_ns=at_ns, error_ns=error_ns)
        entry = next((e for e in self._entries.values() if e.body is member), None)
        if entry is not None and action in ("connect", "start"):
            self.publish(entry, at_ns, error_ns)
        if entry is not None and entry.instance is not None and action == "start":
            # Its interface is up at last: before, nobody answered ARP for the address.
            reachable = InstanceReachable(identity=entry.instance.identity)
            self._recorder.record(reachable, at_ns=at_ns, error_ns=error_ns)
        if action == "disconnect":
            for name in list(self._published):
                if member.name == self._name_of(name):
                    self.withdraw(name, at_ns, error_ns)
        if action == "die":
            if entry is not None:
                self.gone(entry)
            if not member.expected:
                self._team.soon(self._judge(member))

    async def _judge(self, member: Member) -> None:
        """Let the run end if something died that nobody here has killed, nor the engine's end."""
        if await self._team.really_died(member) and not self._closed:
            self.died(member.obituary())

    def _on_absence(self) -> None:
        if self._standing and not self._closed and not self._absent:
            self._absent = True
            self._recorder.record(Disturbed(cause=Cause(kind=CauseKind.ENGINE_AWAY)))
            self._team.soon(self._wait_for_engine())

    def _on_silence(self, from_ns: int, to_ns: int) -> None:
        """The engine has answered nothing for a while, and held up what was asked of it."""
        seconds = (to_ns - from_ns) / SECOND_NS
        lag = Lag(kind=LagKind.ENGINE_SILENT, from_ns=from_ns, seconds=seconds)
        self._recorder.record(WorldWatched(lags=(lag,)))

    async def _wait_for_engine(self) -> None:
        """Let the run end if the engine is away for too long.

        Then the cell stays without one: each would go on to tell all others, which tell it.
        """
        if await self._engine.presence.returns():
            self._absent = False
        else:
            self._failed(EngineAwayError(self._engine.presence.absence()))

    def _on_return(self) -> None:
        """The engine's events come again after an interruption."""
        if self._standing and not self._closed:
            self._team.soon(self._restore())

    async def _restore(self) -> None:
        """Start again what an engine that was restarted has taken down."""
        wanted = [member for member in self._team if not member.expected]
        dead = [m for m in wanted if not (await self._team.state(m)).get("Running")]
        if not dead:
            return
        self._recorder.record(Disturbed(cause=Cause(kind=CauseKind.ENGINE_RESTARTED)))
        proxy = self._proxy.member if self._proxy is not None else None
        for member in sorted(dead, key=lambda m: m is proxy):
            await self._team.start(member)
        if self._proxy is not None:
            await self._proxy.look()
        self._recorder.record(ContainersRestored(containers=tuple(m.name for m in dead)))

    # --- what it is made of ---

    @property
    def dns_queries(self) -> int | None:
        return self._sidecar.queries if self._sidecar is not None else None

    def proxy_process(self) -> dict[str, int]:
        return self._proxy.process() if self._proxy is not None else {}

    def processes(self) -> list[OwnProcess]:
        found = [
            OwnProcess(ProcessRole.APP, entry.instance.identity, entry.body.pid)
            for entry in self._entries.values()
            if entry.body is not None and entry.body.pid and entry.instance is not None
        ]
        proxy = self._proxy.member if self._proxy is not None else None
        if proxy is not None and proxy.pid:
            found.append(OwnProcess(ProcessRole.PROXY, "", proxy.pid))
        return found

    @property
    def _network(self) -> Network:
        if self._net is None or self._closed:
            raise MachineError(f"cell {self._cell.name} is not standing")
        return self._net

    @property
    def _team(self) -> Members:
        _ = self._network  # it refuses once the cell is closed
        assert self._members is not None  # noqa: S101 - made together
        return self._members

    @property
    def _is_own(self) -> bool:
        return self._cell.app.image == OWN_IMAGE

    @property
    def _upstream(self) -> tuple[str, ...]:
        """Whom Docker's DNS asks for a name that it does not know; empty: the host's servers."""
        return () if self._config.upstream == "host" else (NOWHERE,)


def _remove(what: Callable[..., None], clock: Any, each: str, api: Any) -> None:
    what(api, clock, each)
