"""The topology on this machine's loopback: real processes, real packets, no privileges.

In the /24 of a cell .1 is the proxy's door, .2 the DNS server and the log receiver, and the app's
instances live from .10 on. There is no `vacant` old IP: on Linux every address of 127.0.0.0/8 is
there, so that a host that is gone can't be played.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from signal import SIGKILL, SIGTERM
from typing import Any, ClassVar, Literal, NamedTuple

from chaosd.dns.server import DnsServer
from chaosd.errors import MachineError
from chaosd.history.values import Address, Instance
from chaosd.plugins.bases import KeyPath, OldIp, RuntimeConfig
from chaosd.plugins.proxy import Proxy, ProxyHost
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CanReplace, CellSpec, Holder, Pace
from chaosd.runtimes.answers import Answers
from chaosd.runtimes.local import loopback
from chaosd.runtimes.local.loopback import Loopback
from chaosd.runtimes.local.proxychild import ProxyChild
from chaosd.runtimes.realtime import RealTime
from chaosd.system import processes
from chaosd.system.clock import SECOND_NS, sleep
from chaosd.system.processes import Child
from chaosd.system.shipped import shipped

DOOR, SERVICES = 1, 2  # the last byte of their addresses
ASK_LIMIT_S = 1.0  # how long a program of the user's may take to let somebody in
ASK_PAUSE_S = 0.005  # between two looks whether it does
ARM_LIMIT_S = 10.0
TAKE_LIMIT_S = 3.0
OWN_IMAGE = "http-server"
OLD_IP: tuple[OldIp, ...] = ("refuse", "imposter", "blackhole", "tarpit")
SIGNALS = {"KILL": SIGKILL, "TERM": SIGTERM}


class LocalRuntime(RealTime):
    """Where HAProxy, the DNS server and the app are processes of this machine."""

    class Config(RuntimeConfig):
        type: Literal["local"] = "local"

    has_proxy_program: ClassVar[bool] = True
    pace: ClassVar[Pace] = Pace(0.0, 0.0, 0.05, None)

    def __init__(self, config: Config) -> None:
        self.config = config

    def unavailable(self) -> str | None:
        if sys.platform != "linux":
            return "it needs Linux: only there every address of 127.0.0.0/8 exists"
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return "it needs Linux 5.3 or later (process handles)"
        return None

    def lacks(self, proxy: Proxy, app_image: str) -> str | None:
        if proxy.image is not None:
            return f"the proxy's image {proxy.image} needs `runtime: docker`"
        return None

    def proxy_host(self, proxy: Proxy) -> ProxyHost | None:
        return None

    def abilities(self) -> Sequence[type]:
        return (CanReplace,)

    def old_ip(self) -> Sequence[OldIp]:
        return OLD_IP

    def problems(self, cell: CellSpec) -> list[tuple[KeyPath, str]]:
        if cell.app.command and cell.app.start_delay_s:
            what = f"your own command has its own start; start_delay is for {OWN_IMAGE}"
            return [(("app", "start_delay"), f"{what} (leave one of the two out)")]
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
        stage = LocalStage(cell, recorder, failed)
        try:
            await stage.set_up()
        except BaseException:
            await stage.close()
            raise
        return stage


class Incarnation(NamedTuple):
    """One instance of the app with its process."""

    instance: Instance
    child: Child
    listens: asyncio.Future[str]  # the address that it says; "" if it died before


class LocalStage:
    """One cell: an app, a proxy, and the name between them."""

    way_in = "loopback"

    def __init__(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> None:
        self.app: tuple[Instance, ...] = ()
        self.entry = Address("", 0)  # known once the proxy is started, like `api`
        self.api: str | None = None
        self._cell = cell
        self._recorder = recorder
        self._clock = recorder.clock
        self._failed = failed
        self._standing = False
        self._closed = False
        self._trouble = ""  # what died before the cell was standing
        self._labels = processes.labels(cell.run_id)
        self._children: set[Child] = set()
        self._incarnations: dict[str, Incarnation] = {}  # by identity, the oldest first
        self._published: dict[str, str] = {}  # identity to IP
        self._reserved = 0
        self._dns = DnsServer(
            self._clock,
            Answers(recorder, cell.dns.name).heard,
            missing=cell.dns.missing,
            ttl_s=cell.dns.ttl_s,
            delay_s=cell.dns.delay_s,
        )
        self._loopback: Loopback | None = None
        self._proxy = ProxyChild(cell, recorder, self._spawn)

    # --- setting up and taking down ---

    async def set_up(self) -> None:
        """Bring everything up, in the order in which it needs each other."""
        cell = self._cell
        cell.directory.mkdir(parents=True, exist_ok=True)
        rng = Random(cell.seed)  # noqa: S311 - addresses, not secrets
        self._loopback = await loopback.claim(rng, cell.app.remember_ips)
        dns = await self._dns.start(self._loopback.address(SERVICES))
        instances = [self.reserve() for _ in range(cell.app.replicas)]
        for instance in instances:
            await self.start(instance)
        for instance in instances:
            await self.ready(instance)
        await self._proxy.start(self._loopback.address(DOOR), dns, self._on_end)
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
        await self._dns.close()
        self._proxy.close()
        if self._loopback is not None:
            self._loopback.close()
        if stubborn:
            names = ", ".join(f"{child.name} (pid {child.pid})" for child in stubborn)
            raise MachineError(f"these do not die of SIGKILL: {names}")

    # --- replacing instances ---

    def reserve(self, at: str | None = None) -> Instance:
        cell = self._cell
        self._reserved += 1
        ip = at or self._network.fresh(cell.app.port)
        identity = cell.app.identity(f"{cell.run_id}.{cell.name}.{self._reserved}", ip)
        return Instance(identity, Address(ip, cell.app.port))

    async def start(self, instance: Instance) -> None:
        identity = instance.identity
        listens: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        child = self._spawn(
            f"app {identity}",
            self._app_command(instance),
            self._cell.app.env
            | {
                "CHAOSD_LISTEN": str(instance.address),
                "CHAOSD_IDENTITY": identity,
                "CHAOSD_START_DELAY": str(self._cell.app.start_delay_s),
            },
            heard=partial(self._on_app_line, identity),
            ended=partial(self._on_app_end, identity, listens),
        )
        self._incarnations[identity] = Incarnation(instance, child, listens)
        self._count_app()
        if self._cell.dns.publish == "start":
            self._publish(instance)

    async def ready(self, instance: Instance) -> None:
        incarnation = self._incarnations.get(instance.identity)
        if incarnation is None:
            raise MachineError(f"app {instance.identity} is gone before it was ready")
        limit_s = self._cell.app.ready_timeout_s
        if self._cell.app.command:
            await self._ask_until_it_listens(incarnation, limit_s)
        else:
            await asyncio.wait([incarnation.listens], timeout=limit_s)
        if not incarnation.listens.done():
            raise MachineError(
                f"app {instance.identity} does not listen on {instance.address} "
                f"within {limit_s:g} s (app.ready_timeout)"
            )
        address = incarnation.listens.result()
        if not address:
            raise MachineError(incarnation.child.obituary())
        if address != str(instance.address):
            raise MachineError(
                f"app {instance.identity} listens on {address}, not on {instance.address}"
            )

    async def stop(
        self, instance: Instance, signal: Literal["KILL", "TERM"], grace_s: float
    ) -> None:
        # T0 has just been declared: nothing is awaited before the signal.
        incarnation = self._incarnations.pop(instance.identity, None)
        if incarnation is None:
            return
        self._count_app()
        try:
            await incarnation.child.end(SIGNALS[signal], grace_s)
        finally:
            self._withdraw(instance)

    async def hold(self, manner: OldIp) -> Holder:
        if manner not in OLD_IP:
            raise MachineError(f"the local runtime can't make an old IP `{manner}`")
        command = [*_server(), "--armed", "--mode", manner]
        child = self._spawn(
            f"{manner} placeholder", command, {}, ended=self._on_end, stdin=subprocess.PIPE
        )
        child.expected = True  # until it holds something, its end is for who waits for it
        try:
            await child.says("armed", ARM_LIMIT_S)
        except BaseException:
            child.signal(SIGKILL)
            raise
        return LocalHolder(child, self._cell.app.port)

    # --- what happens ---

    def _on_app_line(self, identity: str, line: str, at_ns: int) -> None:
        if line.startswith("listening "):
            _, address, *stamp = line.split()
            # Its own stamp tells it better than when we came to read the line.
            told = bool(stamp) and stamp[0].isdecimal() and int(stamp[0]) <= at_ns
            self._on_listening(identity, address, int(stamp[0]) if told else at_ns, 0)

    def _on_listening(self, identity: str, address: str, at_ns: int, error_ns: int) -> None:
        incarnation = self._incarnations.get(identity)
        if incarnation is None or incarnation.listens.done():
            return
        incarnation.listens.set_result(address)
        self._recorder.reading(
            "app", "listening", at_ns=at_ns, error_ns=error_ns, identity=identity
        )
        if self._cell.dns.publish == "ready":
            self._publish(incarnation.instance)

    def _on_app_end(self, identity: str, listens: asyncio.Future[str], child: Child) -> None:
        self._recorder.reading("app", "gone", identity=identity)
        if not listens.done():
            listens.set_result("")
        if child.expected:
            return
        instance = self._incarnations.pop(identity).instance
        self._count_app()
        self._withdraw(instance)
        self._fail(child)

    def _on_end(self, child: Child) -> None:
        if not child.expected:
            self._fail(child)

    def _fail(self, child: Child) -> None:
        self._trouble = self._trouble or child.obituary()
        if self._standing and not self._closed:
            self._failed(MachineError(child.obituary()))

    # --- what it is made of ---

    @property
    def dns_queries(self) -> int:
        return self._dns.queries

    def proxy_process(self) -> dict[str, int]:
        return self._proxy.process()

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
        return child

    def _app_command(self, instance: Instance) -> list[str]:
        app = self._cell.app
        if app.command:
            return list(app.command)
        where, who = str(instance.address), instance.identity
        options = ["--listen", where, "--identity", who, "--mode", "app"]
        return [*_server(), *options, "--start-delay", str(app.start_delay_s)]

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
        self.app = tuple(incarnation.instance for incarnation in self._incarnations.values())

    def _publish(self, instance: Instance) -> None:
        self._published[instance.identity] = instance.address.host
        self._answer_with(list(self._published.values()))

    def _withdraw(self, instance: Instance) -> None:
        if self._published.pop(instance.identity, None) is None:
            return
        ips = list(self._published.values())
        if ips or self._cell.dns.missing != "stale":
            self._answer_with(ips)

    def _answer_with(self, ips: list[str]) -> None:
        name = self._cell.dns.name
        if ips:
            self._dns.publish(name, ips)
            self._recorder.reading("dns", "published", ips=ips)
        else:
            self._dns.withdraw(name)
            self._recorder.reading("dns", "withdrawn")


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


def _server() -> list[str]:
    # Without site-packages and the user's settings it starts in half the time.
    return [sys.executable, "-I", "-S", str(shipped("http-server/server.py"))]
