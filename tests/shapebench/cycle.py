"""One cycle: a fresh HAProxy, a scenario, and what its users met, request by request.

Requests are open-loop, each on a connection of its own. Times are in seconds after T0.
"""

from __future__ import annotations

import asyncio
import functools
import json
import operator
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import cast

from chaosd.dns.rules import Rule
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy import api
from chaosd.proxies.haproxy.builds import Build
from chaosd.proxies.haproxy.model.backend import Happening
from chaosd.runtimes.local.loopback import Loopback
from shapebench.catalogue import Shape
from shapebench.world import CHECK_PORT, PORT, Instance, Nameservers, Proxy

NEW, IMPOSTER = "new", "imposter"
RATE = 40.0  # requests per second
LAG_LOOK_S, LAG_S, LAGS_MAX = 0.005, 0.005, 20_000  # looked at so often; noted if above
LOOK_S = 0.1  # between two looks at the servers
READY_S_MAX = 5.0  # until every server is where it should be
SETTLE_S = 1.0  # then checks have passed
PHASE_S = 2.0  # and T0 comes anywhere in so long
BEFORE_S = 0.4  # requests begin so long before T0
STRAGGLER_S = 2.0  # and the last one has so long to end
REQUEST = b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
TROUBLE, DEAD = "trouble", "dead"  # the owners of rules


@dataclass(slots=True)
class Sample:
    """One request. `outcome` is an instance's identity, an HTTP status, or why there is neither."""

    scheduled_s: float
    sent_s: float
    done_s: float
    outcome: str


@dataclass(slots=True, kw_only=True)
class Observation:
    """All that was seen in one cycle."""

    shape: str
    version: str
    samples: list[Sample]
    queries: list[tuple[float, int, str, str, str]]  # when, nameserver, name, type, rcode
    trace: list[tuple[float, str, str | None, str]]  # when, server, address, health
    began_s: float  # when HAProxy was ready, before T0
    late_s: float  # by how much the bench itself was late, at worst
    lags: list[tuple[float, float]] = field(default_factory=list)  # when, and by how much
    trouble: str = ""  # why it is not to be judged
    said: str = ""  # by HAProxy, where there was trouble

    def encode(self) -> str:
        samples = [
            {
                "scheduled_s": s.scheduled_s,
                "sent_s": s.sent_s,
                "done_s": s.done_s,
                "outcome": s.outcome,
            }
            for s in self.samples
        ]
        return json.dumps(asdict(replace(self, samples=[])) | {"samples": samples})


def decode(line: str) -> Observation:
    """An observation from its line."""
    found = Observation(**json.loads(line))
    found.samples = [Sample(**sample) for sample in found.samples]  # type: ignore[arg-type]
    return found


class Lag:
    """How late the bench's own timers are: so are its nameserver and its instances."""

    def __init__(self) -> None:
        self.seen: deque[tuple[float, float]] = deque(maxlen=LAGS_MAX)

    async def watch(self) -> None:
        while True:
            asked_s = time.monotonic()
            await asyncio.sleep(LAG_LOOK_S)
            now_s = time.monotonic()
            if (late_s := now_s - asked_s - LAG_LOOK_S) > LAG_S:
                self.seen.append((now_s, late_s))


class _Probe(asyncio.Protocol):
    """One request on its connection."""

    def __init__(self, done: Callable[[str], None]) -> None:
        self._done = done
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._got += data

    def connection_lost(self, error: Exception | None) -> None:
        head, _, body = self._got.partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        status = words[1].decode() if len(words) > 1 else "closed"
        self._done(body.decode() if status == "200" else status)


@dataclass(slots=True)
class Stage:
    """What stands during a cycle."""

    shape: Shape
    network: Loopback
    names: Nameservers
    proxy: Proxy
    instances: dict[str, list[Instance]]  # by their name in DNS
    entry: tuple[str, int]
    new: Instance
    loop: asyncio.AbstractEventLoop
    t0_s: float = 0.0
    late_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    trace: list[tuple[float, str, str | None, str]] = field(default_factory=list)

    def now_s(self) -> float:
        return time.monotonic() - self.t0_s

    async def until(self, at_s: float) -> None:
        await asyncio.sleep(self.t0_s + at_s - time.monotonic())
        self.late_s = max(self.late_s, self.now_s() - at_s)


async def run(shape: Shape, build: Build, network: Loopback, rng: Random, lag: Lag) -> Observation:
    """One cycle of this shape on this build."""
    async with _stage(shape, build, network) as stage:
        began_s = time.monotonic()
        stage.t0_s = began_s
        trouble = await _ready(stage)
        if not trouble:
            stage.t0_s = time.monotonic() + SETTLE_S + rng.uniform(0, PHASE_S)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_happen(stage))
                tasks.create_task(_ask(stage, rng.random() / RATE))
                watching = tasks.create_task(_watch(stage))
                await stage.until(shape.horizon_s + STRAGGLER_S)
                watching.cancel()
        else:
            stage.t0_s = time.monotonic()
        first_ns = round(stage.t0_s * 1e9)
        return Observation(
            shape=shape.name,
            version=build.version,
            samples=sorted(stage.samples, key=lambda sample: sample.scheduled_s),
            queries=[
                (round((q.at_ns - first_ns) / 1e9, 4), place, q.name, q.qtype, q.rcode)
                for place, q in stage.names.queries
            ],
            trace=stage.trace,
            began_s=began_s - stage.t0_s,
            late_s=round(stage.late_s, 4),
            lags=[
                (round(at_s - stage.t0_s, 3), round(late_s, 4))
                for at_s, late_s in lag.seen
                if at_s > stage.t0_s
            ],
            trouble=trouble,
            said=stage.proxy.said() if trouble else "",
        )


@asynccontextmanager
async def _stage(shape: Shape, build: Build, network: Loopback) -> AsyncIterator[Stage]:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as undo:
        directory = Path(undo.enter_context(TemporaryDirectory(prefix="chaosd-shape-")))
        hosts = [network.address(2 + place) for place in range(shape.nameservers)]
        names = Nameservers(hosts, additional=shape.scenario.additional, service_port=PORT)
        undo.push_async_callback(names.close)
        await names.start()
        for server in names.servers[shape.nameservers - shape.scenario.dead :]:
            server.rules.set(DEAD, [Rule(answer="drop")])
        ports = (PORT, CHECK_PORT) if shape.check_port else (PORT,)
        instances = {
            name: [Instance(f"{name}-{n}", network.fresh(PORT), ports) for n in range(count)]
            for name, count in shape.names
        }
        new = Instance(NEW, network.fresh(PORT), ports)
        for instance in (*functools.reduce(operator.iadd, instances.values(), []), new):
            undo.callback(instance.stop)
        for name, there in instances.items():
            for instance in there:
                await instance.listen()
            names.publish(name, [instance.ip for instance in there])
        entry = (network.address(1), PORT)
        words = {
            "api": str(directory / "api"),
            "entry": f"{entry[0]}:{entry[1]}",
            "ns": f"{hosts[0]}:5300",
            "ns2": f"{network.address(3)}:5300",
            "old": instances[shape.app][0].ip,
        }
        proxy = Proxy(build.binary, directory, shape.config.format(**words))
        undo.push_async_callback(proxy.stop)
        await proxy.start()
        yield Stage(shape, network, names, proxy, instances, entry, new, loop)


async def _ready(stage: Stage) -> str:
    """Wait until as many servers are up as should be; else say what is wrong."""
    until_s = time.monotonic() + READY_S_MAX
    up = 0
    while time.monotonic() < until_s:
        with suppress(OSError):
            up = await _look(stage)
            if up >= stage.shape.ready:
                return ""
        await asyncio.sleep(0.05)
    return f"{up} servers up, not {stage.shape.ready}"


async def _look(stage: Stage) -> int:
    """Add what has changed to the trace; how many servers are up."""
    asked_s = stage.now_s()
    found = api.look(await api.read(stage.proxy.api)).servers
    latest = {server: (address, health) for _, server, address, health in stage.trace}
    for state in found:
        if latest.get(state.server) != (state.address, state.health):
            row = (round(asked_s, 3), state.server, state.address, state.health)
            stage.trace.append(row)
    return sum(state.health == "up" for state in found)


async def _watch(stage: Stage) -> None:
    stage.trace.clear()
    while True:
        with suppress(OSError):
            await _look(stage)
        await asyncio.sleep(LOOK_S)


async def _happen(stage: Stage) -> None:
    """The scenario, deed by deed."""
    scenario = stage.shape.scenario
    await stage.until(0.0)
    if scenario.happening == Happening.DNS_TROUBLE:
        rule = Rule(answer=(scenario.missing or Failure.SILENCE).value, qtype=scenario.family)
        troubled = stage.names.servers[: scenario.nameservers]
        for server in troubled:
            server.rules.set(TROUBLE, [rule])
        await stage.until(scenario.published_s)
        for server in troubled:
            server.rules.set(TROUBLE, [])
        return
    deeds = [
        (0.0, _leave),
        (scenario.published_s, _publish),
        (scenario.listening_s, _listen),
        (scenario.healthy_s, _heal),
    ]
    if scenario.happening == Happening.SHRINKS:
        deeds = deeds[:1]
    for at_s, deed in sorted(deeds, key=lambda deed: deed[0]):
        await stage.until(at_s)
        await deed(stage)


def _grows(stage: Stage) -> bool:
    return stage.shape.scenario.happening == Happening.GROWS


def _rest(stage: Stage) -> list[str]:
    """The addresses of the instances that stay."""
    there = stage.instances[stage.shape.app]
    return [each.ip for each in there[not _grows(stage) :]]


async def _leave(stage: Stage) -> None:
    scenario = stage.shape.scenario
    if _grows(stage):
        return
    old = stage.instances[stage.shape.app][0]
    if scenario.happening == Happening.NODE_LOST:
        old.vanish()
    elif scenario.happening == Happening.TAKEN:
        old.identity = IMPOSTER
    else:
        old.stop()
    if scenario.missing is None:
        return
    if _rest(stage):
        stage.names.publish(stage.shape.app, _rest(stage))
    else:
        stage.names.withdraw(stage.shape.app, scenario.missing.value)


async def _publish(stage: Stage) -> None:
    stage.names.publish(stage.shape.app, [*_rest(stage), stage.new.ip])


async def _listen(stage: Stage) -> None:
    stage.new.healthy = stage.shape.scenario.healthy_s <= stage.shape.scenario.listening_s
    await stage.new.listen()


async def _heal(stage: Stage) -> None:
    stage.new.healthy = True


async def _ask(stage: Stage, phase_s: float) -> None:
    """Send requests at their times, whatever became of those before."""
    pending: set[asyncio.Task[None]] = set()
    try:
        for number in range(round((BEFORE_S + stage.shape.horizon_s) * RATE)):
            at_s = number / RATE + phase_s - BEFORE_S
            await stage.until(at_s)
            task = asyncio.create_task(_request(stage, at_s))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await stage.until(stage.shape.horizon_s + STRAGGLER_S - 0.1)
    finally:
        for task in pending:
            task.cancel()


async def _request(stage: Stage, at_s: float) -> None:
    sample = Sample(round(at_s, 4), round(stage.now_s(), 4), -1.0, "unanswered")
    stage.samples.append(sample)
    ended = asyncio.Event()

    def done(outcome: str) -> None:
        sample.done_s, sample.outcome = round(stage.now_s(), 4), outcome
        ended.set()

    try:
        transport, _ = await stage.loop.create_connection(lambda: _Probe(done), *stage.entry)
    except OSError:
        done("not connected")
        return
    try:
        await ended.wait()
    finally:
        transport.abort()
