"""A world without a world: the proxy's model, a name, an app and its probes under virtual time.

Theory of operation. Each cell is a `SimCell` that knows only what is due and when: planned changes
(an instance begins to listen, a name is published), the proxy's model, and the probes. It is
advanced to now before it is touched, so that everything happens in the order of its time although
probes are only looked at every 50 ms. Nothing here asks for real time, and all randomness comes
from the cell's seed: one seed gives one history.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from chaosd.dns.rules import Rule
from chaosd.errors import ConfigError, MachineError
from chaosd.history.values import Address, Instance, Sample, StreamSpec
from chaosd.plugins.bases import KeyPath, OldIp, ProbeConfig, RuntimeConfig
from chaosd.plugins.dns_trouble import meaning
from chaosd.plugins.probe import Deliver
from chaosd.plugins.proxy import Launches, Proxy, ProxyHost, TakesOwnFile
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
    CanReschedule,
    CanRestartProxy,
    CanSwitch,
    CellSpec,
    Holder,
    Pace,
)
from chaosd.plugins.simulation import NEVER_NS, CanSimulate, Model
from chaosd.plugins.timeline import Meets
from chaosd.runtimes.roster import Entry, Roster, Signal
from chaosd.runtimes.sim.cell import SimCell, Stream, about
from chaosd.system.clock import SECOND_NS, Clock, VirtualClock, VirtualLoop, sleep
from chaosd.units import Duration

BATCH_NS = 50_000_000  # how often samples are delivered
KILL_NS, TERM_NS = 1_000_000, 5_000_000  # from the signal to the process being gone
TAKE_NS = 1_000_000  # until a placeholder is ready, and until it has an IP
FIRST_PORT = 20_000
OWN_IMAGE = "http-server"
NO_MODEL = "this proxy can't be simulated"
OLD_IP: tuple[OldIp, ...] = get_args(OldIp)


class SimConfig(RuntimeConfig):
    """The weather of the simulated world."""

    type: Literal["sim"]
    version: str = Field(
        "3.0.11",
        pattern=r"^\d+\.\d+(\.\d+)?$",
        description="the HAProxy that is simulated, where `proxy.version` names none",
    )
    app_start: Duration = Field(Duration(30_000_000), description="from start to listening")
    latency: Duration = Field(Duration(150_000), description="of a good answer")
    dns_latency: Duration = Field(Duration(200_000), description="of a DNS answer")


class SimStage(Roster[None]):
    """One cell of the simulated world, as an engine meets it."""

    way_in = "simulated"
    api: str | None = None  # the model's log tells it all
    virtual_ip: str | None = None

    def __init__(
        self,
        world: SimCell,
        weather: SimConfig,
        entry: Address,
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__(world.cell, world.recorder, failed)
        self.entry = entry
        self._world, self._weather = world, weather
        self._recent_ips: deque[str] = deque(maxlen=world.cell.app.remember_ips)
        self._timer: asyncio.TimerHandle | None = None
        self._model: Callable[[int], Model] | None = None  # starts the proxy at an instant

    @property
    def dns_queries(self) -> int:
        return self._world.dns_queries

    def proxy_process(self) -> dict[str, int]:
        return {}

    async def set_up(self, model: Callable[[int], Model]) -> None:
        await self._set_up_app()
        self._model = model
        self._world.model = model(self._now_ns())
        self._arm()

    async def close(self) -> None:
        self._closed = True
        self._world.streams.clear()
        if self._timer is not None:
            self._timer.cancel()

    # --- time ---

    def _now_ns(self) -> int:
        """Bring the world to now. Whatever is changed is changed after this."""
        now_ns = self._clock.now_ns()
        self._world.advance(now_ns)
        return now_ns

    def _arm(self) -> None:
        """Wake at the next thing that happens by itself, so that it is told when it happens."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed and (at_ns := self._world.next_ns()) < NEVER_NS:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(at_ns / SECOND_NS, self._wake, at_ns)

    def _wake(self, at_ns: int) -> None:
        self._world.advance(at_ns)
        self._arm()

    # --- moving instances ---

    def _fresh_ip(self) -> str:
        rng, in_use = self._world.rng, {*self._world.at_ip, *self._recent_ips}
        while (ip := f"10.64.{rng.randrange(256)}.{rng.randrange(1, 255)}") in in_use:
            pass
        self._recent_ips.append(ip)
        return ip

    async def _create(self, entry: Entry[None]) -> Instance:
        world, now_ns = self._world, self._now_ns()
        instance = self.place(entry, entry.at or self._fresh_ip())
        start_ns = about(world.rng, self._weather.app_start)
        start_ns += round(world.cell.app.start_delay_s * SECOND_NS)

        def listens(at_ns: int) -> None:
            if self._find(instance) is entry:
                world.at_ip[instance.address.host] = (Meets.LISTENING, instance.identity)
                self.listening(entry, str(instance.address), at_ns)

        world.plan(now_ns + start_ns, listens)
        self._arm()
        return instance

    async def _kill(self, entry: Entry[None], signal: Signal, grace_s: float) -> None:
        now_ns = self._now_ns()
        if entry.instance is not None:
            self._world.at_ip.pop(entry.instance.address.host, None)
        last_ns = KILL_NS if signal == "KILL" else min(TERM_NS, round(grace_s * SECOND_NS))
        try:
            await self._clock.sleep_until(now_ns + last_ns)
        finally:
            self._now_ns()  # its name is withdrawn now, and what comes before that has happened
            self.gone(entry)

    def _obituary(self, entry: Entry[None]) -> str:
        return f"app {entry.name} died"

    def _readiness(self) -> Literal["said"]:
        return "said"

    def _answer_with(self, ips: list[str]) -> None:
        self._world.answer_with(ips)

    async def answer_by(self, rules: Sequence[Rule], owner: str = "") -> None:
        self._now_ns()
        if any(meaning(rule) is None for rule in rules):
            raise MachineError(
                "the simulated nameserver has no messages to spoil so (use runtime local or docker)"
            )
        self._world.rules.set(owner, rules)

    async def reschedule(
        self,
        identity: str,
        by: Literal["update", "drain"],
        order: Literal["stop-first", "start-first"],
    ) -> Instance:
        """As an orchestrator does; a drain is the same here, for there are no nodes."""
        old = self.app[0]
        if order == "stop-first":
            await self.stop(old, "TERM", 1.0)
            return await self.start(identity)
        new = await self.start(identity)
        await self.ready(new)
        await self.stop(old, "TERM", 1.0)
        return new

    async def settle(self) -> None:
        count = self._cell.app.replicas
        while len(self.app) > count:
            await self.stop(self.app[0], "TERM", 1.0)
        while len(self.app) < count:
            await self.start(self.next_identity())
        for instance in self.app:
            await self.ready(instance)

    async def switch(self, old: Instance, new: Instance) -> None:
        self._now_ns()
        await super().switch(old, new)

    # --- what happens to an instance where it is ---

    async def pause(self, instance: Instance) -> None:
        self._impair(instance, Meets.TARPIT)  # what waits is not answered later, as it really is

    async def hang(self, instance: Instance) -> None:
        self._impair(instance, Meets.TARPIT)

    async def cut_off(self, instance: Instance) -> None:
        self._impair(instance, Meets.BLACKHOLE)

    async def resume(self, instance: Instance) -> None:
        self._impair(instance, None)

    unhang = rejoin = resume

    def _impair(self, instance: Instance, meets: Meets | None) -> None:
        """Let connects to it meet this; None: itself again, if it is still there."""
        self._now_ns()
        entry, ip = self._find(instance), instance.address.host
        if entry is None and meets is not None:
            raise MachineError(f"app {instance.identity} is gone")
        if entry is not None and ip in self._world.at_ip:
            self._world.at_ip[ip] = (meets or Meets.LISTENING, instance.identity)

    # --- the proxy ---

    async def reload_proxy(self) -> None:
        await self.restart_proxy()  # in no time, and nobody ends what the old one had begun

    async def restart_proxy(self) -> None:
        now_ns = self._now_ns()
        if self._model is not None:
            self._world.model = self._model(now_ns)
        self._arm()

    async def move_nameserver(self, *, away: bool) -> None:
        # The proxy asks where nobody is any more.
        await self.answer_by([Rule(answer="drop")] if away else [], "nameserver")

    async def hold(self, manner: OldIp) -> Holder:
        self._refuse_if_closed()
        await sleep(self._clock, TAKE_NS / SECOND_NS)
        return _SimHolder(self, manner)

    async def occupy(self, ip: str, manner: OldIp) -> None:
        await sleep(self._clock, TAKE_NS / SECOND_NS)
        self._now_ns()
        self._world.at_ip[ip] = (Meets(manner), "imposter")

    def vacate(self, ip: str) -> None:
        self._now_ns()
        self._world.at_ip.pop(ip, None)


class _SimHolder:
    def __init__(self, stage: SimStage, manner: OldIp) -> None:
        self._stage, self._manner = stage, manner
        self._ip: str | None = None

    async def take(self, ip: str) -> None:
        await self._stage.occupy(ip, self._manner)
        self._ip = ip

    async def release(self) -> None:
        ip, self._ip = self._ip, None
        if ip is not None:
            self._stage.vacate(ip)


class SimProber:
    """Delivers what the worlds' probes came to."""

    def __init__(self, worlds: dict[str, SimCell], clock: Clock) -> None:
        self._worlds, self._clock = worlds, clock
        self._streams: dict[int, Stream] = {}
        self._deliver: Deliver | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, deliver: Deliver, failed: Callable[[Exception], None]) -> None:
        self._deliver = deliver
        self._task = asyncio.get_running_loop().create_task(self._run(failed))

    def add(
        self,
        spec: StreamSpec,
        probe_type: str,
        config: ProbeConfig,
        identity_header: str,
    ) -> None:
        self._streams[spec.stream] = Stream(spec, int(config.timeout))

    def aim(self, stream: int, target: Address | None) -> None:
        row = self._streams[stream]
        world, now_ns = self._worlds[row.spec.cell], self._clock.now_ns()
        world.advance(now_ns)
        if row not in world.streams:
            world.streams.append(row)
        row.aim(now_ns, target, world.cell.seed)

    def pace(self, stream: int, *, dense: bool) -> None:
        row = self._streams[stream]
        now_ns = self._clock.now_ns()
        self._worlds[row.spec.cell].advance(now_ns)
        row.pace(now_ns, dense=dense)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
            self._hand_over()

    async def _run(self, failed: Callable[[Exception], None]) -> None:
        batch, start_ns = 0, self._clock.now_ns()
        try:
            while True:
                batch += 1
                await self._clock.sleep_until(start_ns + batch * BATCH_NS)
                self._hand_over()
        except Exception as error:  # noqa: BLE001 - a run without probes must end
            failed(error)

    def _hand_over(self) -> None:
        now_ns = self._clock.now_ns()
        for world in self._worlds.values():
            world.advance(now_ns)
        samples: list[Sample] = []
        complete = {}
        for number, stream in self._streams.items():
            done, complete[number] = stream.collect(now_ns)
            samples += done
        if self._deliver is not None and complete:
            self._deliver(samples, complete)


class SimRuntime:
    """Where HAProxy, the DNS server, the app and time itself are simulated."""

    Config = SimConfig
    has_proxy_program: ClassVar[bool] = False
    makes_topology: ClassVar[bool] = True
    runs_programs: ClassVar[bool] = False
    default_proxy: ClassVar[str | None] = None
    pace: ClassVar[Pace] = Pace(0.0, 0.0, 0.05, None)

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self._clock = VirtualClock()
        self._worlds: dict[str, SimCell] = {}  # by cell

    def unavailable(self) -> str | None:
        return None

    def lacks(self, proxy: Proxy, app_image: str) -> str | None:
        return None

    def proxy_host(self, proxy: Proxy) -> ProxyHost | None:
        return None

    def asks_directly(self) -> bool:
        return True

    def abilities(self) -> Sequence[type]:
        own = (CanSwitch, CanPause, CanHang, CanPartition, CanReloadProxy, CanRestartProxy)
        can = (CanMove, CanHoldAddress, CanReschedule, CanFaultDns, CanMoveNameserver)
        return (*can, *own)

    def old_ip(self) -> Sequence[OldIp]:
        return OLD_IP

    def problems(self, cell: CellSpec) -> list[tuple[KeyPath, str]]:
        """What is for real programs and real entries, of which there are none here."""
        if isinstance(cell.proxy, TakesOwnFile) and cell.proxy.own_file is not None:
            what = "your own file can't be simulated"
            right = "set resolvers, server, … in the YAML, or use the local runtime"
            return [(("proxy", "config"), f"{what} ({right})")]  # what it brings with it can't, too
        app, remedy = cell.app, "leave it out, or take another runtime"
        no_program = "the simulated app is no program"
        found: list[tuple[KeyPath, str]] = []
        if cell.dns.cache is not None:
            what = f"the simulated proxy asks no {cell.dns.cache}"
            found.append((("dns", "cache"), f"{what} ({remedy})"))
        if app.image != OWN_IMAGE:
            what = f"the simulated app is always {OWN_IMAGE}, not `{app.image}`"
            found.append((("app", "image"), f"{what} ({remedy})"))
        if app.command:
            found.append((("app", "command"), f"{no_program} and runs no command ({remedy})"))
        if app.healthy_after_s:
            found.append((("app", "healthy_after"), f"{no_program} and is well at once ({remedy})"))
        if app.env:
            found.append((("app", "env"), f"{no_program} and has no environment ({remedy})"))
        if isinstance(cell.proxy, Launches) and cell.proxy.listen is not None:
            what = "the simulated proxy has no entry that others could find"
            found.append((("proxy", "listen"), f"{what} ({remedy})"))
        if not isinstance(cell.proxy, CanSimulate):
            found.append((("proxy", "type"), f"{NO_MODEL} (use the local runtime)"))
        return found

    def loop_factory(self) -> Callable[[], Any]:
        return VirtualLoop

    def clock(self) -> Clock:
        return self._clock

    def prober(self) -> SimProber:
        return SimProber(self._worlds, self._clock)

    async def sweep(self) -> list[str]:
        return []

    async def set_up(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> SimStage:
        proxy = cell.proxy
        if not isinstance(proxy, CanSimulate):
            raise ConfigError(f"proxy.type: {NO_MODEL} (use the local runtime)")
        world = self._worlds[cell.name] = SimCell(
            cell,
            recorder,
            latency_ns=self.config.latency,
            dns_latency_ns=self.config.dns_latency,
        )
        entry = Address("10.64.0.1", FIRST_PORT + len(self._worlds))
        stage = SimStage(world, self.config, entry, failed)

        def model(start_ns: int) -> Model:
            return proxy.simulate(
                version=self.config.version,
                world=world,
                rng=Random(f"{cell.seed} proxy"),  # noqa: S311 - repeatable is the point
                start_ns=start_ns,
                servers=cell.app.replicas,
            )

        try:
            await stage.set_up(model)
        except BaseException:
            await stage.close()
            raise
        return stage
