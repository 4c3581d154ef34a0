"""The topology on this machine's loopback: real processes, real packets, no privileges.

In the /24 of a cell .1 is the proxy's entry, .2 the DNS server and the log receiver, and the app's
instances live from .10 on. There is no `vacant` old IP: on Linux every address of 127.0.0.0/8 is
there, so that a host that is gone can't be played.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from signal import SIGCONT, SIGHUP, SIGKILL, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2, Signals
from typing import Any, ClassVar, Literal

from chaosd.dns.actions import Transport
from chaosd.dns.rules import Rule
from chaosd.dns.server import DnsServer
from chaosd.errors import MachineError
from chaosd.history.values import Address, Instance
from chaosd.plugins.bases import KeyPath, OldIp, RuntimeConfig
from chaosd.plugins.proxy import Launches, Proxy, ProxyHost
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import (
    CanFaultDns,
    CanHang,
    CanHoldAddress,
    CanMove,
    CanMoveNameserver,
    CanPartition,
    CanPause,
    CanReloadProxy,
    CanRestartProxy,
    CanSwitch,
    CellSpec,
    Holder,
    OwnProcess,
    Pace,
    ProcessRole,
)
from chaosd.runtimes.dns_answers import DnsAnswers
from chaosd.runtimes.local import cache, loopback
from chaosd.runtimes.local.cache import CacheChild
from chaosd.runtimes.local.loopback import Loopback
from chaosd.runtimes.local.proxychild import ProxyChild
from chaosd.runtimes.local.zygote import Zygote, server_command
from chaosd.runtimes.realtime import RealTime, standing
from chaosd.runtimes.roster import Entry, Roster, Signal
from chaosd.runtimes.senders import OfProcess
from chaosd.runtimes.surroundings import Surroundings
from chaosd.system import priority, processes
from chaosd.system.processes import Child

ENTRY, SERVICES = 1, 2  # the last byte of their addresses; further nameservers come after these
CACHE, ELSEWHERE = 9, 8  # the cache, and where a nameserver goes that moves
TRANSPORTS: tuple[Transport, ...] = ("udp", "tcp")
ARM_LIMIT_S = 10.0
TAKE_LIMIT_S = 3.0
OWN_IMAGE = "http-server"
OLD_IP: tuple[OldIp, ...] = ("refuse", "imposter", "blackhole", "tarpit")
# What a stand-in for somebody else's app is told. Its script and its key stay in the environment:
# everybody can read a command line.
STAND_IN = {f"CHAOSD_{name.upper()}": f"--{name}" for name in ("paths", "also", "says", "proxied")}
SIGNALS = {"KILL": SIGKILL, "TERM": SIGTERM}
HANG, DEAF, WELL = SIGUSR1, SIGHUP, SIGUSR2  # what chaosd's own app does by them


class LocalRuntime(RealTime):
    """Where HAProxy, the DNS server and the app are processes of this machine."""

    class Config(RuntimeConfig):
        type: Literal["local"] = "local"

    has_proxy_program: ClassVar[bool] = True
    makes_topology: ClassVar[bool] = True
    runs_programs: ClassVar[bool] = True
    default_proxy: ClassVar[str | None] = None
    pace: ClassVar[Pace] = Pace(0.0, 0.0, 0.05, None, 0.005)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._zygote = Zygote()

    def unavailable(self) -> str | None:
        if sys.platform != "linux":
            return "it needs Linux: only there every address of 127.0.0.0/8 exists"
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return "it needs Linux 5.3 or later (process handles)"
        return None

    def lacks(self, proxy: Proxy, app_image: str) -> str | None:
        if isinstance(proxy, Launches) and proxy.needs_image:
            return f"the proxy's image {proxy.image} needs `runtime: docker`"
        return None

    def proxy_host(self, proxy: Proxy) -> ProxyHost | None:
        return None

    def asks_directly(self) -> bool:
        return True

    def abilities(self) -> Sequence[type]:
        own = (CanSwitch, CanPause, CanHang, CanPartition, CanReloadProxy, CanRestartProxy)
        return (CanMove, CanHoldAddress, CanFaultDns, CanMoveNameserver, *own)

    def old_ip(self) -> Sequence[OldIp]:
        return OLD_IP

    def problems(self, cell: CellSpec) -> list[tuple[KeyPath, str]]:
        if cell.dns.cache is not None and (missing := cache.lacking(cell.dns.cache)) is not None:
            return [(("dns", "cache"), missing)]
        own = {"start_delay": cell.app.start_delay_s, "healthy_after": cell.app.healthy_after_s}
        for name in [name for name, seconds in own.items() if cell.app.command and seconds]:
            what = f"your own command has its own start; {name} is for {OWN_IMAGE}"
            return [(("app", name), f"{what} (leave one of the two out)")]
        if cell.app.command:
            # It is sought as it will be when it is started: on the PATH that it is given.
            lacking = processes.lacking(cell.app.command[0], cell.app.env.get("PATH"))
            where = ("app", "command")
            return [(where, f"{lacking} (a list: [name, argument])")] if lacking else []
        if cell.app.image == OWN_IMAGE:
            return []
        what = f"the local runtime can't run the image `{cell.app.image}`"
        remedy = f"leave it at {OWN_IMAGE}, or set app.command to a program of this machine"
        return [(("app", "image"), f"{what} ({remedy})")]

    async def set_up(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> LocalStage:
        return await standing(LocalStage(cell, recorder, failed, self._zygote))


class LocalStage(Roster[Child]):
    """One cell: an app, a proxy, and the name between them."""

    way_in = "loopback"

    def __init__(
        self,
        cell: CellSpec,
        recorder: Recorder,
        failed: Callable[[Exception], None],
        zygote: Zygote,
    ) -> None:
        super().__init__(cell, recorder, failed)
        self.entry = Address("", 0)  # known once the proxy is started, like `api`
        self.api: str | None = None
        self._labels = processes.labels(cell.run_id)
        self._children: set[Child] = set()
        self._zygote = zygote
        self._joined = False
        self._answers = DnsAnswers(recorder, cell.dns.name, cell.dns.nameservers)
        self._dns = DnsServer(
            self._clock,
            self._answers.record,
            missing=cell.dns.missing,
            ttl_s=cell.dns.ttl_s,
            delay_s=cell.dns.delay_s,
            service_port=cell.app.port,
            negative_ttl_s=cell.dns.negative_ttl_s,
            believes=lambda sender, transport: self._proxies[transport](sender),
        )
        self._loopback: Loopback | None = None
        self._proxy = ProxyChild(cell, recorder, self._spawn)
        self._cache: CacheChild | None = None
        if cell.dns.cache is not None:
            self._cache = CacheChild(cell.dns.cache, cell.directory, self._spawn)
        self._proxies: dict[Transport, OfProcess] = {
            transport: self._proxy.sends(transport)
            if self._cache is None
            else OfProcess(self._cache.pid, self._clock, transport)
            for transport in TRANSPORTS
        }

    # --- setting up and taking down ---

    async def set_up(self) -> None:
        """Bring everything up, in the order in which it needs each other."""
        cell = self._cell
        cell.directory.mkdir(parents=True, exist_ok=True)
        rng = Random(cell.seed)  # noqa: S311 - addresses, not secrets
        self._loopback = await loopback.claim(rng, cell.app.remember_ips)
        hosts = range(SERVICES, SERVICES + cell.dns.nameservers)
        dns, *more = [await self._dns.start(self._loopback.address(host)) for host in hosts]
        if self._cache is not None:
            host = self._loopback.address(CACHE)
            dns = await self._cache.start(host, dns, self._clock, self._on_end)
        self._joined = True
        await self._zygote.join(self._labels, self._clock)
        await self._set_up_app()
        beside = await self._set_up_beside()
        if beside is not None:
            for name in cell.beside or ():
                self._dns.publish(name, [beside.address.host])
        where = Surroundings(
            self._loopback.address(ENTRY), dns, self.app[0].address, beside, tuple(more)
        )
        await self._proxy.start(where, self._on_end)
        self.entry, self.api = self._proxy.entry, self._proxy.api
        await self._proxy.answers(lambda: self._trouble)
        if self._trouble:
            raise MachineError(self._trouble)
        self._standing = True

    async def close(self) -> None:
        self._closed = True
        children = list(self._children)
        for child in children:
            child.expected = True
            child.signal(SIGKILL)
        stubborn = [child for child in children if not await child.wait(processes.KILL_S)]
        if self._joined:
            self._joined = False
            await self._zygote.leave()
        await self._dns.close()
        self._answers.close()
        self._proxy.close()
        if self._loopback is not None:
            self._loopback.close()
        if stubborn:
            names = ", ".join(f"{child.name} (pid {child.pid})" for child in stubborn)
            raise MachineError(f"these do not die of SIGKILL: {names}")

    # --- moving instances ---

    async def _create(self, entry: Entry[Child]) -> Instance:
        ip = entry.at or self._network.fresh(self._cell.app.port)
        instance = self.place(entry, ip)
        variables = {
            "CHAOSD_LISTEN": str(instance.address),
            "CHAOSD_IDENTITY": instance.identity,
            "CHAOSD_START_DELAY": str(self._cell.app.start_delay_s),
        }
        # What is forked has the zygote's environment: not what the user has set for the app.
        own = self._cell.app.command or set(self._cell.app.env) - set(STAND_IN)
        entry.body = self._spawn(
            f"app {instance.identity}",
            self._app_command(instance),
            self._cell.app.env | variables,
            heard=partial(self._on_app_line, entry),
            ended=partial(self._on_app_end, entry),
            start=processes.started if own else self._zygote.start,
        )
        return instance

    async def _kill(self, entry: Entry[Child], signal: Signal, grace_s: float) -> None:
        if entry.body is not None:
            await entry.body.end(SIGNALS[signal], grace_s)

    def _obituary(self, entry: Entry[Child]) -> str:
        return entry.body.obituary() if entry.body is not None else f"app {entry.name} is gone"

    def _readiness(self) -> Literal["said", "asked"]:
        return "asked" if self._cell.app.command else "said"

    def _answer_with(self, ips: list[str]) -> None:
        if ips:
            self._dns.publish(self._cell.dns.name, ips)
        else:
            self._dns.withdraw(self._cell.dns.name)

    async def answer_by(self, rules: Sequence[Rule], owner: str = "") -> None:
        _ = self._network  # it refuses once the cell is closed
        self._dns.rules.set(owner, rules)

    async def move_nameserver(self, *, away: bool) -> None:
        await self._dns.move(self._network.address(ELSEWHERE if away else SERVICES))

    async def hold(self, manner: OldIp) -> Holder:
        if manner not in OLD_IP:
            raise MachineError(f"the local runtime can't make an old IP `{manner}`")
        command = [*server_command(), "--armed", "--mode", manner]
        child = self._spawn(
            f"{manner} placeholder",
            command,
            {},
            ended=self._on_end,
            stdin=subprocess.PIPE,
            start=self._zygote.start,
        )
        child.expected = True  # until it holds something, its end is for who waits for it
        try:
            await child.says("armed", ARM_LIMIT_S)
        except BaseException:
            child.signal(SIGKILL)
            raise
        return LocalHolder(child, self._cell.app.port)

    # --- what happens to an instance where it is ---

    async def pause(self, instance: Instance) -> None:
        self._signal(instance, SIGSTOP)

    async def resume(self, instance: Instance) -> None:
        self._signal(instance, SIGCONT)

    async def hang(self, instance: Instance) -> None:
        self._tell(instance, HANG)

    async def cut_off(self, instance: Instance) -> None:
        self._tell(instance, DEAF)

    async def unhang(self, instance: Instance) -> None:
        self._tell(instance, WELL)

    rejoin = unhang

    def _tell(self, instance: Instance, number: Signals) -> None:
        if self._cell.app.command:
            raise MachineError(f"only {OWN_IMAGE} hears {number.name} (leave app.command out)")
        self._signal(instance, number)

    def _signal(self, instance: Instance, number: Signals) -> None:
        """Signal an instance; one that is gone needs no cure."""
        entry = self._find(instance)
        if entry is not None and entry.body is not None:
            entry.body.signal(number)
        elif number not in (SIGCONT, WELL):
            raise MachineError(f"app {instance.identity} is gone")

    # --- the proxy ---

    async def reload_proxy(self) -> None:
        _ = self._network  # it refuses once the cell is closed
        await self._proxy.reload()

    async def restart_proxy(self) -> None:
        _ = self._network
        await self._proxy.restart()

    # --- what happens ---

    def _on_app_line(self, entry: Entry[Child], line: str, at_ns: int) -> None:
        if line.startswith("listening "):
            _, address, *stamp = line.split()
            # Its own stamp tells it better than when we came to read the line.
            told = bool(stamp) and stamp[0].isdecimal() and int(stamp[0]) <= at_ns
            self.listening(entry, address, int(stamp[0]) if told else at_ns)

    def _on_app_end(self, entry: Entry[Child], child: Child) -> None:
        self.gone(entry)
        if not child.expected:
            self.lost(entry)
            self.died(child.obituary())

    def _on_end(self, child: Child) -> None:
        if not child.expected:
            self.died(child.obituary())

    # --- what it is made of ---

    @property
    def dns_queries(self) -> int:
        return self._dns.queries

    def proxy_process(self) -> dict[str, int]:
        return self._proxy.process()

    def processes(self) -> list[OwnProcess]:
        found = [
            OwnProcess(ProcessRole.APP, entry.instance.identity, entry.body.pid)
            for entry in self._entries.values()
            if entry.body is not None and entry.instance is not None and not entry.body.gone
        ]
        if self._proxy.child is not None and not self._proxy.child.gone:
            found.append(OwnProcess(ProcessRole.PROXY, "", self._proxy.child.pid))
        if self._cache is not None and (pid := self._cache.pid()) is not None:
            found.append(OwnProcess(ProcessRole.DNS, "", pid))
        return found

    def is_entry_shared(self) -> bool:
        return self._proxy.is_shared()

    @property
    def _network(self) -> Loopback:
        if self._loopback is None or self._closed:
            raise MachineError(f"cell {self._cell.name} is not standing")
        return self._loopback

    def _spawn(
        self,
        name: str,
        command: Sequence[str],
        variables: dict[str, str],
        *,
        ended: Callable[[Child], None] | None = None,
        **options: Any,
    ) -> Child:
        """Start a labelled child that `close` will end."""
        _ = self._network  # it refuses once the cell is closed

        def on_end(child: Child) -> None:
            self._children.discard(child)
            if ended is not None:
                ended(child)

        environment = os.environ | variables | self._labels
        child = Child(
            name, command, environment=environment, clock=self._clock, ended=on_end, **options
        )
        self._children.add(child)
        priority.raise_session(child.pid)
        return child

    def _app_command(self, instance: Instance) -> list[str]:
        app = self._cell.app
        if app.command:
            return list(app.command)
        where, who = str(instance.address), instance.identity
        options = ["--listen", where, "--identity", who, "--mode", "app"]
        for name, option in STAND_IN.items():
            options += [option, app.env[name]] if name in app.env else []
        if app.healthy_after_s:
            options += ["--healthy-after", str(app.healthy_after_s)]
        return [*server_command(), *options, "--start-delay", str(app.start_delay_s)]


class LocalHolder:
    """A placeholder process that waits for its order, then has the old IP."""

    def __init__(self, child: Child, port: int) -> None:
        self._child = child
        self._port = port

    async def take(self, ip: str) -> None:
        self._child.write(f"take {ip} {self._port}")
        await self._child.says("holding", TAKE_LIMIT_S)
        self._child.expected = False

    async def release(self) -> None:
        await self._child.end(SIGKILL, processes.KILL_S)
