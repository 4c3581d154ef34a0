"""One cell on a Docker engine: a network, an app, a proxy, and the name between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from chaosd.runtimes.docker.endpoint import EngineAwayError
from chaosd.runtimes.docker.host import Host
from chaosd.runtimes.docker.members import Blueprint, Member
from chaosd.runtimes.docker.network import NAMESERVER, PROXY, Network
from chaosd.runtimes.docker.presence import Presence
from chaosd.runtimes.docker.proxy import DockerProxy
from chaosd.runtimes.docker.sidecar import EMBEDDED_DNS, Sidecar
from chaosd.runtimes.roster import ASK_PAUSE_S, Entry, Roster, Signal
from chaosd.runtimes.surroundings import Surroundings
from chaosd.system.clock import SECOND_NS, sleep

if TYPE_CHECKING:
    from chaosd.runtimes.docker import EngineConfig

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
        config: EngineConfig,
        presences: Mapping[str, Presence],
        cell: CellSpec,
        recorder: Recorder,
        failed: Callable[[Exception], None],
        *,
        publish: str,
    ) -> None:
        """`presences` are the engines, by name; the first is the proxy's.

        The proxy's door is published at the address `publish`.
        """
        super().__init__(cell, recorder, failed)
        self.entry = Address("", 0)
        self.way_in = "published port"
        self.api: str | None = None
        self.missing: str | None = None  # how the name is answered while nobody has it
        self._config = config
        self._publish = publish
        self._hosts = [
            Host(presence, recorder.clock, self, name) for name, presence in presences.items()
        ]
        self._absent = False
        self._made = False  # something of this cell may be there, whether it was heard of or not
        self._labels: dict[str, str] = {}
        self._net: Network | None = None
        self._proxy: DockerProxy | None = None
        self._sidecar: Sidecar | None = None
        self._holders = 0

    # --- setting up and taking down ---

    async def set_up(self) -> None:
        """Bring everything up, in the order in which it needs each other."""
        cell, first = self._cell, self._hosts[0]
        cell.directory.mkdir(parents=True, exist_ok=True)
        for host in self._hosts:
            await host.meet()
        self._labels = labels = objects.labels(cell.run_id, cell.name, first.home)
        self._made = True  # from when it is asked for: who is cancelled does not hear of it
        self._net = net = await self._make_network(f"chaosd-{cell.run_id}-{cell.name}", labels)
        for host in self._hosts:
            host.join(net, labels)
        if (home := first.home) is not None:
            await first.engine.do(lambda api: net.attach(api, home, None))
            self.way_in = "network"
        dns = await self._nameserver()
        await self._set_up_app()
        beside = await self._set_up_beside()
        door = self._net.address(PROXY)
        await self._start_proxy(Surroundings(door, dns, self.app[0].address, beside))
        for host in self._hosts:
            self._recorder.record(self._found(host, net))
        self._standing = True

    async def _make_network(self, name: str, labels: dict[str, str]) -> Network:
        engine = self._hosts[0].engine
        rng, pool = Random(self._cell.seed), IPv4Network(self._config.subnets)  # noqa: S311
        return await engine.do(
            lambda api: network.create(api, name, pool, rng, labels, local=engine.is_here)
        )

    def _found(self, host: Host, net: Network) -> EngineFound:
        return EngineFound(
            version=host.engine.version,
            network=net.name,
            subnet=str(net.subnet),
            way_in=self.way_in,
            missing=self.missing,
            clock_offset_ns=host.engine.offset_ns,
            clock_error_ns=host.engine.offset_error_ns,
        )

    async def _nameserver(self) -> Address:
        """Whom the proxy asks; and how that one answers for a name that nobody has."""
        cell, net = self._cell, self._network
        if self._config.dns == "engine":
            team = self._hosts[0].team
            self.missing = await missing_name.find_out(team, net.name, self._upstream)
            return Address(EMBEDDED_DNS, DNS_PORT)
        self.missing = cell.dns.missing
        answers = DnsAnswers(self._recorder, cell.dns.name)
        host = self._hosts[0]
        self._sidecar = Sidecar(cell, host.engine, host.team, answers)
        return await self._sidecar.start(
            net.address(NAMESERVER), proxy=net.address(PROXY), upstream=self._upstream
        )

    async def _start_proxy(self, where: Surroundings) -> None:
        host = self._hosts[0]
        self._proxy = DockerProxy(self._cell, self._recorder, host.engine, host.team)
        await self._proxy.start(
            where,
            publish=self._publish,
            inside=host.home is not None,
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
        try:
            for host in self._hosts:
                await host.quiet(CLOSE_LIMIT_S)
            if self._made:
                await self._remove_all()
                self._made, self._net = False, None
        finally:
            if self._proxy is not None:
                self._proxy.close()
            if not self._made:
                for host in self._hosts:
                    host.engine.close()

    async def _remove_all(self) -> None:
        run, cell = self._cell.run_id, self._cell.name
        troubles: list[MachineError] = []
        for host in self._hosts:
            try:
                await host.remove_containers(run, cell)
            except MachineError as error:  # the others have something of ours, too
                troubles.append(error)
        if troubles:
            raise troubles[0]
        await self._network_host.remove_networks(run, cell)

    @property
    def _network_host(self) -> Host:
        """Whose engine makes and removes the network."""
        return self._hosts[0]

    # --- moving instances ---

    async def _create(self, entry: Entry[Member]) -> Instance:
        ip = entry.at or self._network.fresh({each.address.host for each in self.app})
        host = self._next_host(entry)
        instance = self.place(entry, ip, host.name or None)
        member = entry.body = await host.team.create(
            self._blueprint(entry, ip), partial(self._on_app_line, host, entry)
        )
        try:
            await self._start(host, member, ip)
        except BaseException:
            host.team.soon(host.team.discard(member.id))
            raise
        return instance

    def _next_host(self, entry: Entry[Member]) -> Host:
        """Where the next instance of the app runs."""
        return self._hosts[-1]

    async def _start(self, host: Host, member: Member, ip: str) -> None:
        """Start it, and verify by inspection that it has the address that it was to have."""
        net, team = self._network, host.team
        try:
            await team.start(member)
        except MachineError as error:
            if "already in use" not in str(error):
                raise
            # One that comes back: the address is free a little later than the container is gone.
            await self._vacancy().take(ip)
            await team.start(member)
        has, pid = await host.engine.do(lambda api: net.found(api, member.id))
        team.seen(member, pid)
        if has is None and not (state := await team.state(member)).get("Running"):
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
            await member.team.end(member, signal, grace_s)
        finally:
            # Its address is free now; the container itself is removed beside what goes on.
            member.team.soon(self._remove(entry, member))

    async def _remove(self, entry: Entry[Member], member: Member) -> None:
        await member.team.discard(member.id)
        self.gone(entry)  # also if the task that waited for it was cancelled

    def _obituary(self, entry: Entry[Member]) -> str:
        return entry.body.obituary() if entry.body is not None else f"app {entry.name} is gone"

    def _readiness(self) -> Literal["said", "asked", "unknown"]:
        if self._is_own and not self._cell.app.command:
            return "said"
        return "asked" if self._can_connect else "unknown"  # it can't be reached from here

    def _withdrawn(self) -> NameWithdrawn:
        return NameWithdrawn(missing=self.missing)

    async def answer_by(self, rules: Sequence[Rule], owner: str = "") -> None:
        _ = self._network  # it refuses once the cell is closed
        if self._sidecar is None:
            raise MachineError("Docker's own DNS can't be told what to answer (dns: forward)")
        await self._sidecar.answer_by(rules, owner)

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
        return self._hosts[-1]

    def _vacancy(self) -> placeholder.Nobody:
        return placeholder.Nobody([host.engine for host in self._hosts], self._network)

    # --- what happens ---

    def _on_app_line(
        self, host: Host, entry: Entry[Member], line: str, at_ns: int, error_ns: int
    ) -> None:
        if not line.startswith("listening ") or entry.instance is None:
            return
        _, _, *stamp = line.split()
        # Its own stamp tells it best, if it is of our clock.
        if stamp and stamp[0].isdecimal() and host.engine.is_here and int(stamp[0]) <= at_ns:
            at_ns, error_ns = int(stamp[0]), 0
        # It listens on all addresses of its container, of which there is one.
        self.listening(entry, str(entry.instance.address), at_ns, error_ns)

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
        known = ("die", "oom", "start", "connect", "disconnect")
        if action not in known:
            return
        at_ns = host.engine.monotonic_ns(int(event.get("timeNano") or 0))
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
            self._hosts[0].team.soon(self._wait_for_engines())

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
            host.team.soon(self._restore(host))

    async def _restore(self, host: Host) -> None:
        """Start again what an engine that was restarted has taken down."""
        team = host.team
        wanted = [member for member in team if not member.expected]
        dead = [m for m in wanted if not (await team.state(m)).get("Running")]
        if not dead:
            return
        self._recorder.record(Disturbed(cause=Cause(kind=CauseKind.ENGINE_RESTARTED)))
        proxy = self._proxy.member if self._proxy is not None else None
        for member in sorted(dead, key=lambda m: m is proxy):
            await team.start(member)
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
    def _can_connect(self) -> bool:
        """Whether an instance's own address can be reached from here."""
        return self._hosts[0].engine.is_here

    @property
    def _is_own(self) -> bool:
        return self._cell.app.image == OWN_IMAGE

    @property
    def _upstream(self) -> tuple[str, ...]:
        """Whom Docker's DNS asks for a name that it does not know; empty: the host's servers."""
        return () if self._config.upstream == "host" else (NOWHERE,)
