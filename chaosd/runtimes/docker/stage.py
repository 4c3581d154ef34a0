"""One cell that chaosd makes on a Docker engine: a network, an app, a proxy, and their name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Network
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from chaosd.dns.rules import Rule, does
from chaosd.errors import MachineError
from chaosd.history.values import Address, Instance
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec, OwnProcess
from chaosd.runtimes.dns_answers import DnsAnswers
from chaosd.runtimes.docker import images, missing_name, network
from chaosd.runtimes.docker.host import Host
from chaosd.runtimes.docker.impairable import Impairable
from chaosd.runtimes.docker.members import Blueprint, Member
from chaosd.runtimes.docker.network import NAMESERVER, PROXY, Network
from chaosd.runtimes.docker.presence import Presence
from chaosd.runtimes.docker.proxy import DockerProxy
from chaosd.runtimes.docker.sidecar import EMBEDDED_DNS, Sidecar
from chaosd.runtimes.roster import Entry, Signal
from chaosd.runtimes.surroundings import Surroundings
from chaosd.system.tasks import uncancelled

if TYPE_CHECKING:
    from chaosd.runtimes.docker import TopologyConfig

OWN_IMAGE = "http-server"
DNS_PORT = 53
RESTART_LIMIT_S = 60.0
NAME = "name"  # who sets the rule that leaves containers out of the app's name
NOWHERE = "127.0.0.1"  # in the container's own namespace: nobody answers there


class DockerStage(Impairable):
    """One cell's topology."""

    def __init__(
        self,
        config: TopologyConfig,
        presence: Presence,
        cell: CellSpec,
        recorder: Recorder,
        failed: Callable[[Exception], None],
        *,
        publish: str = "127.0.0.1",
        name: str = "",
        others: Mapping[str, Presence] = MappingProxyType({}),
    ) -> None:
        """`publish` is where the proxy's entry is published; the rest is as of EngineStage."""
        super().__init__(presence, cell, recorder, failed, name=name, others=others)
        self._config = config
        self._publish = publish
        self._proxy: DockerProxy | None = None
        self._sidecar: Sidecar | None = None
        self._labels: dict[str, str] = {}

    # --- setting up ---

    async def set_up(self) -> None:
        """Bring everything up, in the order in which it needs each other."""
        cell, engine = self._cell, self._engine
        labels = self._labels = await self._meet()
        name = f"chaosd-{cell.run_id}-{cell.name}"
        self._made = True  # from when it is asked for: who is cancelled does not hear of it
        net = await self._make_network(name, labels)
        self._settle_in(net, labels)
        if self._home is not None:
            home = self._home
            await engine.do(lambda api: net.attach(api, home, None))
            self.way_in = "network"
        dns, *more = await self._nameservers()
        await self._set_up_app()
        beside = await self._set_up_beside()
        where = Surroundings(net.address(PROXY), dns, self.app[0].address, beside, tuple(more))
        await self._start_proxy(where)
        self._record_engine()
        self._standing = True

    async def _make_network(self, name: str, labels: dict[str, str]) -> Network:
        engine = self._engine
        rng, pool = Random(self._cell.seed), IPv4Network(self._config.subnets)  # noqa: S311
        return await engine.do(
            lambda api: network.create(api, name, pool, rng, labels, local=engine.is_here)
        )

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
            publish=self._publish,
            inside=self._home is not None,
            upstream=self._upstream,
        )
        self.entry, self.api = self._proxy.entry, self._proxy.api
        await self._until_it_answers(self._cell.knock)

    async def _proxy_is_back(self) -> None:
        if self._proxy is not None:
            await self._proxy.look()

    def _forget(self) -> None:
        if self._proxy is not None:
            self._proxy.close()

    # --- moving instances ---

    async def _create(self, entry: Entry[Member]) -> Instance:
        ip = entry.at or self._network.fresh({each.address.host for each in self.app})
        host = self._next_host(entry)
        instance = self.place(entry, ip, node=host.name or None)
        member = entry.body = await host.team.create(
            self._blueprint(entry, ip), partial(self._on_app_line, host, entry)
        )
        try:
            await self._start(member, ip)
        except BaseException:
            host.team.soon(host.team.discard(member.id))
            raise
        return instance

    def _next_host(self, entry: Entry[Member]) -> Host:
        """Where the next instance of the app runs."""
        return self._hosts[-1]

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

    def _readiness(self) -> Literal["said", "asked", "unknown"]:
        if self._is_own and not self._cell.app.command:
            return "said"
        return super()._readiness()

    async def answer_by(self, rules: Sequence[Rule], owner: str = "") -> None:
        _ = self._network  # it refuses once the cell is closed
        if self._sidecar is None:
            raise MachineError("Docker's own DNS can't be told what to answer (dns: forward)")
        await self._sidecar.answer_by(rules, owner)

    async def start_aside(self, identity: str) -> Instance:
        # Docker's DNS has every container: chaosd's before it says which of them have the name.
        await self._answer_only(self._published.values())
        return await super().start_aside(identity)

    async def switch(self, old: Instance, new: Instance) -> None:
        others = [ip for ip in self._published.values() if ip != old.address.host]
        await self._answer_only({**dict.fromkeys(others), new.address.host: None})
        await super().switch(old, new)

    async def stop(self, instance: Instance, signal: Signal, grace_s: float) -> None:
        await super().stop(instance, signal, grace_s)
        if self._sidecar is not None and not any(e.is_aside for e in self._entries.values()):
            await self._sidecar.answer_by([], NAME)

    async def _answer_only(self, ips: Iterable[str]) -> None:
        if self._sidecar is None:
            raise MachineError("Docker's own DNS can't leave a container out (dns: forward)")
        only = does("addresses", only=tuple(ips))
        await self._sidecar.answer_by([Rule(name=self._cell.dns.name, does=(only,))], NAME)

    # --- the proxy ---

    async def reload_proxy(self) -> None:
        if self._proxy is not None:
            await uncancelled(self._proxy.reload(), RESTART_LIMIT_S)

    async def restart_proxy(self) -> None:
        if self._proxy is not None:
            await uncancelled(self._proxy.restart(), RESTART_LIMIT_S)

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

    # --- what it is made of ---

    @property
    def dns_queries(self) -> int | None:
        return self._sidecar.queries if self._sidecar is not None else None

    def proxy_process(self) -> dict[str, int]:
        return self._proxy.process() if self._proxy is not None else {}

    def processes(self) -> list[OwnProcess]:
        more = [] if self._sidecar is None else self._sidecar.processes()
        return [*super().processes(), *more]

    @property
    def _proxy_member(self) -> Member | None:
        return self._proxy.member if self._proxy is not None else None

    @property
    def _is_own(self) -> bool:
        return self._cell.app.image == OWN_IMAGE

    @property
    def _upstream(self) -> tuple[str, ...]:
        return () if self._config.upstream == "host" else (NOWHERE,)
