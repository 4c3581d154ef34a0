"""One cell on a Docker engine: a network, an app, a proxy, and the name between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from chaosd.errors import MachineError
from chaosd.history.values import Address, Instance
from chaosd.plugins.bases import OldIp
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec, Holder
from chaosd.runtimes import readiness
from chaosd.runtimes.answers import Answers
from chaosd.runtimes.docker import images, missing, network, objects, placeholder
from chaosd.runtimes.docker.engine import Engine, EngineAwayError, own_container
from chaosd.runtimes.docker.follow import Events
from chaosd.runtimes.docker.members import Blueprint, Member, Members
from chaosd.runtimes.docker.network import NAMESERVER, PROXY, Network
from chaosd.runtimes.docker.proxy import DockerProxy
from chaosd.runtimes.docker.sidecar import EMBEDDED_DNS, Sidecar
from chaosd.system.clock import SECOND_NS, sleep

if TYPE_CHECKING:
    from chaosd.runtimes.docker import DockerConfig

OWN_IMAGE = "http-server"
DNS_PORT = 53
ASK_LIMIT_S, ASK_PAUSE_S = 1.0, 0.01  # of a program of the user's, whether it lets somebody in
CLOSE_LIMIT_S = 20.0
# The name is in Docker's DNS a little before the engine says that the container is connected.
EVENT_ERROR_NS = 10_000_000
NOWHERE = "127.0.0.1"  # in the container's own namespace: nobody answers there


class Incarnation(NamedTuple):
    """One instance of the app with its container."""

    instance: Instance
    member: Member
    listens: asyncio.Future[str]  # the address that it says; "" if it died before


class DockerStage:
    """One cell's topology."""

    def __init__(
        self,
        config: DockerConfig,
        cell: CellSpec,
        recorder: Recorder,
        failed: Callable[[Exception], None],
    ) -> None:
        self.app: tuple[Instance, ...] = ()
        self.entry = Address("", 0)
        self.way_in = "published port"
        self.api: str | None = None
        self.missing: str | None = None  # how the name is answered while nobody has it
        self._config = config
        self._cell = cell
        self._recorder = recorder
        self._clock = recorder.clock
        self._failed = failed
        self._engine = Engine(recorder.clock, wait_s=config.engine_wait.s)
        self._standing = self._closed = self._absent = False
        self._made = False  # something of this cell may be there, whether it was heard of or not
        self._trouble = ""
        self._home: str | None = None
        self._net: Network | None = None
        self._members: Members | None = None
        self._events: Events | None = None
        self._proxy: DockerProxy | None = None
        self._sidecar: Sidecar | None = None
        self._incarnations: dict[str, Incarnation] = {}
        self._published: dict[str, str] = {}  # identity to IP
        self._reserved = 0

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
        dns = await self._nameserver()
        instances = [self.reserve() for _ in range(cell.app.replicas)]
        for instance in instances:
            await self.start(instance)
        for instance in instances:
            await self.ready(instance)
        await self._start_proxy(dns)
        self._recorder.reading(
            "docker",
            "engine",
            version=engine.version,
            network=self._net.name,
            subnet=str(self._net.subnet),
            way_in=self.way_in,
            missing=self.missing,
            clock_offset_ns=engine.offset_ns,
            clock_error_ns=engine.offset_error_ns,
        )
        self._standing = True

    async def _nameserver(self) -> Address:
        """Whom the proxy asks; and how that one answers for a name that nobody has."""
        cell, net = self._cell, self._network
        if self._config.dns == "engine":
            self.missing = await missing.find_out(self._team, net.name, self._upstream)
            return Address(EMBEDDED_DNS, DNS_PORT)
        self.missing = cell.dns.missing
        answers = Answers(self._recorder, cell.dns.name)
        self._sidecar = Sidecar(cell, self._engine, self._team, answers.heard)
        return await self._sidecar.start(net.address(NAMESERVER), upstream=self._upstream)

    async def _start_proxy(self, dns: Address) -> None:
        net = self._network
        self._proxy = DockerProxy(self._cell, self._recorder, self._engine, self._team)
        await self._proxy.start(
            net.address(PROXY),
            dns,
            publish=self._config.publish,
            inside=self._home is not None,
            upstream=self._upstream,
        )
        self.entry, self.api = self._proxy.entry, self._proxy.api
        await readiness.answers(
            self.entry,
            self._cell.dns.name,
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
            raise MachineError(
                f"{error}; what is left there of run {cell.run_id} is removed by `chaosd clean`"
            ) from None

    # --- replacing instances ---

    def reserve(self, at: str | None = None) -> Instance:
        cell = self._cell
        self._reserved += 1
        ip = at or self._network.fresh({each.instance.address.host for each in self._all()})
        identity = cell.app.identity(f"{cell.run_id}.{cell.name}.{self._reserved}", ip)
        return Instance(identity, Address(ip, cell.app.port))

    async def start(self, instance: Instance) -> None:
        identity, (ip, _) = instance
        listens: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        member = await self._team.create(
            self._blueprint(instance), partial(self._on_app_line, identity)
        )
        # From now on it is an instance: events may name it before the call that starts it is back.
        self._incarnations[identity] = Incarnation(instance, member, listens)
        try:
            await self._start(member, ip)
        except BaseException:
            self._incarnations.pop(identity, None)
            self._team.soon(self._team.discard(member.id))
            raise
        self._count_app()

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
        has = await self._engine.do(lambda api: net.address_of(api, member.id))
        if has is None and not (state := await self._team.state(member)).get("Running"):
            member.exit_code = state.get("ExitCode")
            await sleep(self._clock, ASK_PAUSE_S)  # its last words may still be under way
            raise MachineError(member.obituary())
        if has != ip:
            raise MachineError(f"{member.name} has {has or 'no address'}, not {ip}")

    def _name_of(self, identity: str) -> str:
        """The container's name; one that is told by its address has it in there."""
        run = f"{self._cell.run_id}.{self._cell.name}"
        words = identity.replace("@", f"{run}.") if identity.startswith("@") else identity
        return f"chaosd-{words.replace('.', '-')}"

    def _blueprint(self, instance: Instance) -> Blueprint:
        app, own = self._cell.app, self._is_own
        variables = {
            "CHAOSD_LISTEN": f"0.0.0.0:{app.port}",
            "CHAOSD_IDENTITY": instance.identity,
            "CHAOSD_START_DELAY": str(app.start_delay_s),
        }
        return Blueprint(
            name=self._name_of(instance.identity),
            image=images.app_tag() if own else app.image,
            ip=instance.address.host,
            aliases=(self._cell.dns.name,),
            command=app.command or None,
            environment=app.env | variables,
            memory_mb=256 if own else 1024,
            pids=64 if own else 1024,
            own_image=own,
            dns=self._upstream,
        )

    async def ready(self, instance: Instance) -> None:
        incarnation = self._incarnations.get(instance.identity)
        if incarnation is None:
            raise MachineError(f"app {instance.identity} is gone before it was ready")
        limit_s = self._cell.app.ready_timeout_s
        if self._is_own and not self._cell.app.command:
            await asyncio.wait([incarnation.listens], timeout=limit_s)
        elif self._engine.is_here:
            await self._ask_until_it_listens(incarnation, limit_s)
        else:  # it can't be reached from here: what is known is that it runs
            incarnation.listens.set_result(str(instance.address))
        if not incarnation.listens.done():
            raise MachineError(
                f"app {instance.identity} does not listen on {instance.address} "
                f"within {limit_s:g} s (app.ready_timeout)"
            )
        if not incarnation.listens.result():
            raise MachineError(incarnation.member.obituary())

    async def stop(
        self, instance: Instance, signal: Literal["KILL", "TERM"], grace_s: float
    ) -> None:
        # T0 has just been declared: nothing is awaited before the signal.
        incarnation = self._incarnations.pop(instance.identity, None)
        if incarnation is None:
            return
        self._count_app()
        member = incarnation.member
        try:
            await self._team.end(member, signal, grace_s)
        finally:
            # Its address is free now; the container itself is removed beside what goes on.
            self._team.soon(self._team.discard(member.id))

    async def hold(self, manner: OldIp) -> Holder:
        if manner == "vacant":
            return placeholder.Nobody(self._engine, self._network)
        self._reserved += 1
        blueprint = Blueprint(
            name=f"chaosd-{self._cell.run_id}-{self._cell.name}-{manner}-{self._reserved}",
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

    def _on_app_line(self, identity: str, line: str, at_ns: int, error_ns: int) -> None:
        if not line.startswith("listening "):
            return
        _, address, *stamp = line.split()
        # Its own stamp tells it best, if it is of our clock.
        if stamp and stamp[0].isdecimal() and self._engine.is_here and int(stamp[0]) <= at_ns:
            at_ns, error_ns = int(stamp[0]), 0
        self._on_listening(identity, address, at_ns, error_ns)

    def _on_listening(self, identity: str, address: str, at_ns: int, error_ns: int) -> None:
        incarnation = self._incarnations.get(identity)
        if incarnation is None or incarnation.listens.done():
            return
        incarnation.listens.set_result(address)
        self._recorder.reading(
            "app", "listening", at_ns=at_ns, error_ns=error_ns, identity=identity
        )

    def _on_event(self, entry: dict[str, Any]) -> None:
        """Take what the engine says of our containers, and of them in our network."""
        if self._closed or self._members is None:
            return
        action, actor = entry.get("Action", ""), entry.get("Actor", {})
        attributes = actor.get("Attributes") or {}
        of_network = entry.get("Type") == "network"
        container = attributes.get("container", "") if of_network else actor.get("ID", "")
        member = self._members.get(container)
        if member is None or (of_network and attributes.get("name") != self._network.name):
            return
        at_ns = self._engine.monotonic_ns(int(entry.get("timeNano") or 0))
        known = ("die", "oom", "start", "connect", "disconnect")
        if action not in known:
            return
        data = {"container": member.name}
        if action == "die":
            data["exit"] = attributes.get("exitCode", "")
        error_ns = EVENT_ERROR_NS + self._engine.offset_error_ns
        self._recorder.reading("docker", action, at_ns=at_ns, error_ns=error_ns, **data)
        instance = next((i.instance for i in self._all() if i.member is member), None)
        if instance is not None and action in ("connect", "start"):
            self._publish(instance, at_ns, error_ns)
        if instance is not None and action == "start":
            # Its interface is up at last: before, nobody answered ARP for the address.
            self._recorder.reading(
                "app", "reachable", at_ns=at_ns, error_ns=error_ns, identity=instance.identity
            )
        if action == "disconnect":
            self._withdraw(member, at_ns, error_ns)
        if action == "die":
            self._on_death(member)

    def _on_death(self, member: Member) -> None:
        for identity, incarnation in self._incarnations.items():
            if incarnation.member is member:
                self._recorder.reading("app", "gone", identity=identity)
                if not incarnation.listens.done():
                    incarnation.listens.set_result("")
        if not member.expected:
            self._team.soon(self._judge(member))

    async def _judge(self, member: Member) -> None:
        """Let the run end if something died that nobody here has killed, nor the engine's end."""
        if await self._team.really_died(member) and not self._closed:
            self._trouble = self._trouble or member.obituary()
            if self._standing:
                self._failed(MachineError(member.obituary()))

    def _on_absence(self) -> None:
        if self._standing and not self._closed and not self._absent:
            self._absent = True
            self._recorder.reading("docker", "disturbed", reason="the Docker engine went away")
            self._team.soon(self._wait_for_engine())

    async def _wait_for_engine(self) -> None:
        """Let the run end if the engine is away for too long."""
        returned = await self._engine.returns()
        self._absent = False
        if not returned:
            self._failed(EngineAwayError(self._engine.absence()))

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
        reason = "the Docker engine was restarted"
        self._recorder.reading("docker", "disturbed", reason=reason)
        proxy = self._proxy.member if self._proxy is not None else None
        for member in sorted(dead, key=lambda m: m is proxy):
            await self._team.start(member)
        if self._proxy is not None:
            await self._proxy.look()
        self._recorder.reading("docker", "restored", containers=[m.name for m in dead])

    # --- what it is made of ---

    @property
    def dns_queries(self) -> int | None:
        return self._sidecar.queries if self._sidecar is not None else None

    def proxy_process(self) -> dict[str, int]:
        return self._proxy.process() if self._proxy is not None else {}

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

    def _all(self) -> list[Incarnation]:
        return list(self._incarnations.values())

    async def _ask_until_it_listens(self, incarnation: Incarnation, limit_s: float) -> None:
        """Connect again and again to a program that does not say when it listens."""
        identity, address = incarnation.instance
        limit_ns = self._clock.now_ns() + round(limit_s * SECOND_NS)
        while not incarnation.listens.done() and self._clock.now_ns() < limit_ns:
            try:
                async with asyncio.timeout(ASK_LIMIT_S):
                    _, writer = await asyncio.open_connection(*address)
            except OSError:  # a timeout is one, too
                await sleep(self._clock, ASK_PAUSE_S)
            else:
                writer.close()
                at_ns, error_ns = self._clock.now_ns(), round(ASK_PAUSE_S * SECOND_NS)
                self._on_listening(identity, str(address), at_ns, error_ns)

    def _count_app(self) -> None:
        self.app = tuple(incarnation.instance for incarnation in self._all())

    def _publish(self, instance: Instance, at_ns: int, error_ns: int) -> None:
        if instance.identity not in self._published:
            self._published[instance.identity] = instance.address.host
            self._say_name(at_ns, error_ns)

    def _withdraw(self, member: Member, at_ns: int, error_ns: int) -> None:
        for identity in list(self._published):
            if member.name == self._name_of(identity):
                del self._published[identity]
                self._say_name(at_ns, error_ns)

    def _say_name(self, at_ns: int, error_ns: int) -> None:
        reading = partial(self._recorder.reading, "dns", at_ns=at_ns, error_ns=error_ns)
        ips = list(self._published.values())
        if ips:
            reading(what="published", ips=ips)
        else:
            reading(what="withdrawn", missing=self.missing)


def _remove(what: Callable[..., None], clock: Any, each: str, api: Any) -> None:
    what(api, clock, each)
