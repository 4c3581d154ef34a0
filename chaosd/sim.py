"""A world without a world: the proxy's model, a name, an app and its probes under virtual time.

Theory of operation. Each cell is a `_World` that knows only what is due and when: planned changes
(an instance begins to listen, a name is published), the proxy's model, and the probes. Whoever
touches it advances it to now first, so that everything happens in the order of its time although
probes are only looked at every 50 ms. Nothing here asks for real time, and all randomness comes
from the cell's seed: one seed gives one history.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

from pydantic import Field

from chaosd.clock import SECOND_NS, Clock, VirtualClock, VirtualLoop, sleep
from chaosd.errors import ConfigError, MachineError
from chaosd.events import Address, Instance, Outcome, Sample, StreamSpec
from chaosd.plugins import (
    CanReplace,
    CellSpec,
    Deliver,
    Holder,
    OldIp,
    ProbeConfig,
    Recorder,
    RuntimeConfig,
)
from chaosd.units import Duration

NEVER_NS = 2**63 - 1
BATCH_NS = 50_000_000  # how often samples are delivered
KILL_NS, TERM_NS = 1_000_000, 5_000_000  # from the signal to the process being gone
TAKE_NS = 1_000_000  # until a placeholder is ready, and until it has an IP
FIRST_PORT = 20_000
OLD_IP: tuple[OldIp, ...] = get_args(OldIp)
NOBODY = ("nobody", "")

# How a name is answered that has no address; "" is no answer.
_RCODES = {
    "nxdomain": "NXDOMAIN",
    "servfail": "SERVFAIL",
    "refused": "REFUSED",
    "empty": "NOERROR",
    "stale": "NXDOMAIN",  # before it ever had one
    "drop": "",
}
# What is at an IP, and what becomes of a connection to it. At an IP that nobody has taken since
# its instance is gone, connections are refused, as on loopback; `vacant` is a host that is gone.
_FOUND: dict[str, Connected] = {
    "app": "ok",
    "imposter": "ok",
    "nobody": "refused",
    "refuse": "refused",
    "blackhole": "timeout",
    "vacant": "timeout",
    "tarpit": "silent",
}


class Model(Protocol):
    """A proxy's model, as the simulated world needs it."""

    def next_ns(self) -> int: ...

    def advance(self, now_ns: int) -> None: ...

    def request(self, now_ns: int, ended: Callable[[Request], None]) -> None: ...


@runtime_checkable
class CanSimulate(Protocol):
    """A proxy plugin that has a model of itself."""

    def simulate(
        self, *, version: str, world: World, rng: Random, start_ns: int, servers: int
    ) -> Model:
        """Start it in this world."""


class SimConfig(RuntimeConfig):
    """The weather of the simulated world."""

    type: Literal["sim"]
    version: str = Field(
        "3.0.11", pattern=r"^\d+\.\d+(\.\d+)?$", description="the HAProxy that is simulated"
    )
    app_start: Duration = Field(Duration(30_000_000), description="from start to listening")
    latency: Duration = Field(Duration(150_000), description="of a good answer")
    dns_latency: Duration = Field(Duration(200_000), description="of a DNS answer")


def _about(rng: Random, value_ns: int) -> int:
    """This much, give or take a fifth."""
    return value_ns * rng.randrange(800, 1201) // 1000


class _Shot:
    """One probe that has been sent and not been delivered yet."""

    __slots__ = ("over", "scheduled_ns", "sent_ns")

    def __init__(self, scheduled_ns: int, sent_ns: int) -> None:
        self.scheduled_ns, self.sent_ns, self.over = scheduled_ns, sent_ns, False


class _Stream:
    """One row of probes: its grid, and the shots that are under way."""

    def __init__(self, spec: StreamSpec, timeout_ns: int) -> None:
        self.spec, self.timeout_ns = spec, timeout_ns
        self.rng = Random()  # noqa: S311 - seeded below, once the cell's seed is known
        self.target: Address | None = None
        self.sent_ns = NEVER_NS  # when the next one is sent
        self._scheduled_ns = NEVER_NS
        self._origin_ns: int | None = None
        self._shots: deque[_Shot] = deque()
        self._ended: list[Sample] = []

    def aim(self, now_ns: int, target: Address | None, seed: str) -> None:
        """Send it there from now on, always on the same grid."""
        resumed = self.target is None and target is not None
        self.target = target
        if target is None:
            self.sent_ns = self._scheduled_ns = NEVER_NS
        elif resumed:
            interval_ns = self.spec.interval_ns
            if self._origin_ns is None:
                self.rng.seed(f"{seed} {self.spec.probe} {self.spec.via}")
                self._origin_ns = now_ns + self.rng.randrange(interval_ns)
            steps = max(0, -((self._origin_ns - now_ns) // interval_ns))
            self._schedule(self._origin_ns + steps * interval_ns)

    def fire(self) -> _Shot:
        """Take the next one, which is sent now."""
        shot = _Shot(self._scheduled_ns, self.sent_ns)
        self._shots.append(shot)
        self._schedule(self._scheduled_ns + self.spec.interval_ns)
        return shot

    def _schedule(self, at_ns: int) -> None:
        self._scheduled_ns, self.sent_ns = at_ns, at_ns + self.rng.randrange(10_000, 60_000)

    def end(
        self, shot: _Shot, done_ns: int, outcome: Outcome, status: int = 0, who: str = ""
    ) -> None:
        if shot.over:  # it has timed out
            return
        shot.over = True
        deadline_ns = shot.scheduled_ns + self.timeout_ns
        if done_ns >= deadline_ns:
            done_ns, outcome, status, who = deadline_ns, Outcome.TIMEOUT, 0, ""
        self._ended.append(
            Sample(
                self.spec.stream, shot.scheduled_ns, shot.sent_ns, done_ns, outcome, status, who
            )
        )

    def collect(self, now_ns: int) -> tuple[list[Sample], int]:
        """Take what has ended by now; and before which instant nothing is missing."""
        shots = self._shots
        while shots and (shots[0].over or shots[0].scheduled_ns + self.timeout_ns <= now_ns):
            self.end(shots.popleft(), NEVER_NS, Outcome.TIMEOUT)
        done = [sample for sample in self._ended if sample.done_ns <= now_ns]
        done.sort(key=lambda sample: (sample.done_ns, sample.scheduled_ns))
        self._ended = [sample for sample in self._ended if sample.done_ns > now_ns]
        missing_ns = [sample.scheduled_ns for sample in self._ended]
        missing_ns += [shots[0].scheduled_ns] if shots else []
        return done, min([*missing_ns, self._scheduled_ns, now_ns])


class _World:
    """One cell: who is at which IP, what the name says, and what is due when."""

    def __init__(self, cell: CellSpec, weather: SimConfig, recorder: Recorder) -> None:
        self.cell, self.recorder = cell, recorder
        self.rng = Random(f"{cell.seed} world")  # noqa: S311 - repeatable is the point
        self.streams: list[_Stream] = []
        self.at_ip: dict[str, tuple[str, str]] = {}  # what is there, and its identity
        self.dns_queries = 0
        self.model: Model | None = None
        self.latency_ns = int(weather.latency)
        self._dns_latency_ns = int(weather.dns_latency) + round(cell.dns.delay_s * SECOND_NS)
        self._published: dict[str, str] = {}  # identity to IP
        self._zone: tuple[str, ...] = ()
        self._answers: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._plans: list[tuple[int, int, Callable[[int], None]]] = []
        self._planned = 0

    # --- time ---

    def plan(self, at_ns: int, change: Callable[[int], None]) -> None:
        """Let this happen at that instant."""
        self._planned += 1
        heapq.heappush(self._plans, (at_ns, self._planned, change))

    def next_ns(self) -> int:
        """When something happens next, probes left aside."""
        at_ns = self._plans[0][0] if self._plans else NEVER_NS
        return at_ns if self.model is None else min(at_ns, self.model.next_ns())

    def advance(self, now_ns: int) -> None:
        """Let everything happen that is due by now, in the order of its time."""
        while True:
            at_ns = self.next_ns()
            stream = min(self.streams, key=_sent_ns, default=None)
            if stream is not None and stream.sent_ns < at_ns:
                if stream.sent_ns > now_ns:
                    return
                self._fire(stream)
            elif at_ns > now_ns:
                return
            elif self._plans and self._plans[0][0] == at_ns:
                heapq.heappop(self._plans)[2](at_ns)
            elif self.model is not None:
                self.model.advance(at_ns)

    # --- the name ---

    def publish(self, at_ns: int, instance: Instance) -> None:
        self._published[instance.identity] = instance.address.host
        self._answer_with(at_ns)

    def withdraw(self, at_ns: int, instance: Instance) -> None:
        """What is left of the name; with `stale`, a name that would be missing stays as it is."""
        if self._published.pop(instance.identity, None) is None:
            return
        if self._published or self.cell.dns.missing != "stale":
            self._answer_with(at_ns)

    def _answer_with(self, at_ns: int) -> None:
        self._zone = tuple(self._published.values())
        if self._zone:
            self.recorder.reading("dns", "published", at_ns=at_ns, ips=list(self._zone))
        else:
            self.recorder.reading("dns", "withdrawn", at_ns=at_ns)

    def resolve(self, now_ns: int, qtype: str) -> Answer | None:
        """Answer a query of the proxy's model."""
        self.dns_queries += 1
        rcode = "NOERROR" if self._zone else _RCODES[self.cell.dns.missing]
        ips = self._zone if qtype == "A" else ()
        took_ns = _about(self.rng, self._dns_latency_ns)
        if self._answers.get(qtype) != (rcode, ips):
            self._answers[qtype] = (rcode, ips)
            said = {"qtype": qtype, "rcode": rcode, "ips": list(ips), "took_ns": took_ns}
            self.recorder.reading("dns", "answer", at_ns=now_ns, **said)
        return Answer(rcode, ips, took_ns) if rcode else None

    # --- who is where ---

    def connect(self, now_ns: int, ip: str) -> Connected:
        """Say what the proxy's model finds there; this world is always at `now_ns`."""
        _ = now_ns
        return _FOUND[self.at_ip.get(ip, NOBODY)[0]]

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        """Store what the proxy's model would have logged."""
        self.recorder.reading("proxy.log", what, at_ns=at_ns, **data)

    # --- probes ---

    def _fire(self, stream: _Stream) -> None:
        shot = stream.fire()
        if stream.spec.via == "proxy" and self.model is not None:
            self.model.request(shot.sent_ns, lambda request: self._ended(stream, shot, request))
        elif stream.target is not None:
            kind, who = self.at_ip.get(stream.target.host, NOBODY)
            done_ns = shot.sent_ns + _about(stream.rng, self.latency_ns)
            if _FOUND[kind] == "ok":
                stream.end(shot, done_ns, Outcome.OK, 200, who)
            elif _FOUND[kind] == "refused":
                stream.end(shot, done_ns, Outcome.REFUSED)

    def _ended(self, stream: _Stream, shot: _Shot, request: Request) -> None:
        done_ns = request.end_ns + _about(stream.rng, self.latency_ns)
        if request.ip is None:
            stream.end(shot, done_ns, Outcome.HTTP_ERROR, request.status)
        else:
            stream.end(shot, done_ns, Outcome.OK, 200, self.at_ip[request.ip][1])


def _sent_ns(stream: _Stream) -> int:
    return stream.sent_ns


class SimStage:
    """One cell of the simulated world, as an engine meets it."""

    way_in = "simulated"
    api: str | None = None  # the model's log tells it all

    def __init__(self, world: _World, weather: SimConfig, entry: Address) -> None:
        self.app: tuple[Instance, ...] = ()
        self.entry = entry
        self._world, self._weather = world, weather
        self._clock = world.recorder.clock
        self._reserved = 0
        self._recent_ips: deque[str] = deque(maxlen=world.cell.app.remember_ips)
        self._listening: dict[str, asyncio.Event] = {}  # by identity, from start to stop
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def dns_queries(self) -> int:
        return self._world.dns_queries

    def proxy_process(self) -> dict[str, int]:
        return {}

    async def set_up(self, model: Callable[[int], Model]) -> None:
        instances = [self.reserve() for _ in range(self._world.cell.app.replicas)]
        for instance in instances:
            await self.start(instance)
        for instance in instances:
            await self.ready(instance)
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

    # --- replacing instances ---

    def reserve(self) -> Instance:
        world = self._world
        in_use = {*world.at_ip, *self._recent_ips}
        while (ip := f"10.64.{world.rng.randrange(256)}.{world.rng.randrange(1, 255)}") in in_use:
            pass
        self._recent_ips.append(ip)
        self._reserved += 1
        identity = f"{world.cell.run_id}.{world.cell.name}.{self._reserved}"
        return Instance(identity, Address(ip, world.cell.app.port))

    async def start(self, instance: Instance) -> None:
        world, now_ns = self._world, self._now_ns()
        listening = self._listening[instance.identity] = asyncio.Event()
        self.app = (*self.app, instance)
        start_ns = _about(world.rng, self._weather.app_start)
        start_ns += round(world.cell.app.start_delay_s * SECOND_NS)

        def listens(at_ns: int) -> None:
            if self._listening.get(instance.identity) is listening:
                world.at_ip[instance.address.host] = ("app", instance.identity)
                world.recorder.reading(
                    "app", "listening", at_ns=at_ns, identity=instance.identity
                )
                if world.cell.dns.publish == "ready":
                    world.publish(at_ns, instance)
                listening.set()

        world.plan(now_ns + start_ns, listens)
        if world.cell.dns.publish == "start":
            world.publish(now_ns, instance)
        self._arm()

    async def ready(self, instance: Instance) -> None:
        limit_s = self._world.cell.app.ready_timeout_s
        listening = self._listening.get(instance.identity)
        if listening is None:
            raise MachineError(f"app {instance.identity} is gone before it was ready")
        try:
            await asyncio.wait_for(listening.wait(), limit_s)
        except TimeoutError:
            raise MachineError(
                f"app {instance.identity} does not listen on {instance.address} "
                f"within {limit_s:g} s (app.ready_timeout)"
            ) from None

    async def stop(
        self, instance: Instance, signal: Literal["KILL", "TERM"], grace_s: float
    ) -> None:
        world, now_ns = self._world, self._now_ns()
        if self._listening.pop(instance.identity, None) is None:
            return
        self.app = tuple(other for other in self.app if other != instance)
        world.at_ip.pop(instance.address.host, None)
        last_ns = KILL_NS if signal == "KILL" else min(TERM_NS, round(grace_s * SECOND_NS))
        try:
            await self._clock.sleep_until(now_ns + last_ns)
            world.recorder.reading("app", "gone", identity=instance.identity)
        finally:
            world.withdraw(self._now_ns(), instance)

    async def hold(self, manner: OldIp) -> Holder:
        await sleep(self._clock, TAKE_NS / SECOND_NS)
        return _SimHolder(self, manner)

    async def occupy(self, ip: str, manner: OldIp) -> None:
        await sleep(self._clock, TAKE_NS / SECOND_NS)
        self._now_ns()
        self._world.at_ip[ip] = (manner, "imposter")

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

    def __init__(self, worlds: dict[str, _World], clock: Clock) -> None:
        self._worlds, self._clock = worlds, clock
        self._streams: dict[int, _Stream] = {}
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
        _ = probe_type, identity_header  # all probes are alike here
        self._streams[spec.stream] = _Stream(spec, int(config.timeout))

    def aim(self, stream: int, target: Address | None) -> None:
        row = self._streams[stream]
        world, now_ns = self._worlds[row.spec.cell], self._clock.now_ns()
        world.advance(now_ns)
        if row not in world.streams:
            world.streams.append(row)
        row.aim(now_ns, target, world.cell.seed)

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
    uses_local_binary: ClassVar[bool] = False

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self._clock = VirtualClock()
        self._worlds: dict[str, _World] = {}  # by cell

    def unavailable(self) -> str | None:
        return None

    def abilities(self) -> Sequence[type]:
        return (CanReplace,)

    def old_ip(self) -> Sequence[OldIp]:
        return OLD_IP

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
        _ = failed  # nothing dies here that no fault has killed
        proxy = cell.proxy
        if not isinstance(proxy, CanSimulate):
            raise ConfigError("proxy.type: this proxy can't be simulated (use the local runtime)")
        world = self._worlds[cell.name] = _World(cell, self.config, recorder)
        entry = Address("10.64.0.1", FIRST_PORT + len(self._worlds))
        stage = SimStage(world, self.config, entry)

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
