"""The simulated world by itself: what its stage and its prober promise, without an engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import stored

from chaosd.engine.recorder import CellRecorder
from chaosd.errors import ConfigError
from chaosd.history.values import Outcome, Sample, StreamSpec
from chaosd.plugins.bases import ProbeConfig
from chaosd.plugins.runtime import AppSpec, CellSpec, DnsSpec
from chaosd.plugins.timeline import move as moved
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.config import Config
from chaosd.runtimes.sim import SimConfig, SimRuntime, SimStage
from chaosd.system.clock import SECOND_NS, VirtualLoop, sleep

MS = 1_000_000
PROXY, DIRECT = 1, 2
INTERVAL_NS = 10 * MS


def cell(
    *,
    app: dict[str, Any] | None = None,
    dns: dict[str, Any] | None = None,
    seed: str = "1 c1",
    **proxy: Any,
) -> CellSpec:
    plain_app = {
        "image": "http-server",
        "port": 8080,
        "start_delay_s": 0.0,
        "replicas": 1,
        "command": (),
        "env": {},
        "remember_ips": 8,
        "ready_timeout_s": 5.0,
    }
    plain_dns = {
        "name": "app.chaosd",
        "missing": "nxdomain",
        "publish": "start",
        "ttl_s": 0,
        "delay_s": 0.0,
    }
    return CellSpec(
        cells=1,
        name="c1",
        run_id="r",
        directory=Path("/nowhere"),
        app=AppSpec(**(plain_app | (app or {}))),
        dns=DnsSpec(**(plain_dns | (dns or {}))),
        proxy=HAProxy(Config.model_validate({"type": "haproxy"} | proxy)),
        seed=seed,
    )


class World:
    """A cell that stands, its readings, and the samples of two probes."""

    def __init__(self, spec: CellSpec, weather: SimConfig) -> None:
        self.spec = spec
        self.runtime = SimRuntime(weather)
        self.clock = self.runtime.clock()
        self.events: list[Any] = []
        self.samples: list[Sample] = []
        self.complete: dict[int, int] = {}
        self.stage: SimStage
        self.prober = self.runtime.prober()

    def deliver(self, samples: Sequence[Sample], complete: dict[int, int]) -> None:
        for sample in samples:
            # The promise of the batch before: nothing scheduled earlier comes later.
            assert sample.scheduled_ns >= self.complete.get(sample.stream, 0)
            assert sample.done_ns <= self.clock.now_ns()
        for stream, at_ns in complete.items():
            assert at_ns >= self.complete.get(stream, 0)
        self.samples += samples
        self.complete = dict(complete)

    async def wait(self, seconds: float) -> None:
        await sleep(self.clock, seconds)

    def of(self, stream: int, since_ns: int = 0) -> list[Sample]:
        found = [s for s in self.samples if s.stream == stream and s.scheduled_ns >= since_ns]
        return sorted(found, key=lambda sample: sample.scheduled_ns)

    def said(self, source: str, what: str, since_ns: int = 0) -> list[stored.Line]:
        return [
            e
            for e in stored.lines(self.events)
            if (e.source, e.what) == (source, what) and e.at_ns >= since_ns
        ]

    async def recreate(self, manner: str = "refuse", gap_s: float = 0.2) -> tuple[int, str]:
        """Move the app as the fault does; T0 and the new identity."""
        stage = self.stage
        holder = await stage.hold(manner)  # type: ignore[arg-type]
        (old,) = stage.app
        t0_ns = self.clock.now_ns()
        await stage.stop(old, "KILL", 1.0)
        await holder.take(old.address.host)
        await self.wait(gap_s)
        new = await stage.start(stage.next_identity())
        await stage.ready(new)
        self.prober.aim(DIRECT, new.address)
        return t0_ns, new.identity


@contextlib.asynccontextmanager
async def standing(spec: CellSpec, weather: dict[str, Any], patience: str) -> AsyncIterator[World]:
    world = World(spec, SimConfig.model_validate({"type": "sim"} | weather))
    recorder = CellRecorder(world.clock, "c1", world.events.append)
    failures: list[Exception] = []
    await world.prober.start(world.deliver, failures.append)
    world.stage = await world.runtime.set_up(spec, recorder, failures.append)
    for stream, via in ((PROXY, "proxy"), (DIRECT, "direct")):
        row = StreamSpec(stream, "c1", "http", via, INTERVAL_NS)
        probe = ProbeConfig.model_validate({"type": "http", "timeout": patience})
        world.prober.add(row, "http", probe, "X-Chaosd-Instance")
    world.prober.aim(PROXY, world.stage.entry)
    world.prober.aim(DIRECT, world.stage.app[0].address)
    try:
        yield world
    finally:
        await world.prober.close()
        await world.stage.close()
        assert not failures


def simulate(
    script: Callable[[World], Awaitable[None]],
    *,
    weather: dict[str, Any] | None = None,
    patience: str = "2s",
    **spec: Any,
) -> World:
    """Run this script in a world and return the world as it was at its end."""
    worlds: list[World] = []

    async def run() -> None:
        async with standing(cell(**spec), weather or {}, patience) as world:
            worlds.append(world)
            await script(world)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
    return worlds[0]


# --- standing -------------------------------------------------------------------------------------


async def settle(world: World) -> None:
    await world.wait(3.0)


def test_it_stands_and_answers() -> None:
    world = simulate(settle)
    (identity,) = [e.data["identity"] for e in world.said("app", "listening")]
    assert [e.data["ips"] for e in world.said("dns", "published")] == [
        [world.stage.app[0].address.host]
    ]
    assert [e.what for e in stored.lines(world.events) if e.source == "proxy.log"] == [
        *("address_changed", "up", "ready")
    ]
    samples = world.of(PROXY, SECOND_NS)
    assert {(s.outcome, s.status, s.who) for s in samples} == {(Outcome.OK, 200, identity)}
    assert {s.done_ns - s.sent_ns for s in samples} <= set(range(120_000, 181_000))
    assert all(0 < s.sent_ns - s.scheduled_ns < MS for s in samples)
    assert 2 <= world.stage.dns_queries <= 5
    assert world.stage.api is None


def test_samples_lie_on_a_grid_without_holes() -> None:
    world = simulate(settle)
    for stream in (PROXY, DIRECT):
        samples = world.of(stream)
        assert {
            after.scheduled_ns - before.scheduled_ns for before, after in pairwise(samples)
        } == {INTERVAL_NS}
        assert len(samples) == pytest.approx(300, abs=3)


def test_a_paused_stream_comes_back_on_its_own_grid() -> None:
    async def pause(world: World) -> None:
        await world.wait(1.0)
        world.prober.aim(PROXY, None)
        await world.wait(1.0037)
        assert world.complete[PROXY] >= world.clock.now_ns() - 60 * MS  # nothing is missing
        world.prober.aim(PROXY, world.stage.entry)
        await world.wait(1.0)

    samples = simulate(pause).of(PROXY)
    assert len({sample.scheduled_ns % INTERVAL_NS for sample in samples}) == 1
    gaps = [b.scheduled_ns - a.scheduled_ns for a, b in pairwise(samples)]
    assert sum(gap > INTERVAL_NS for gap in gaps) == 1
    assert max(gaps) == pytest.approx(SECOND_NS, abs=2 * INTERVAL_NS)


def test_weather_is_what_the_config_says() -> None:
    weather = {"latency": "5ms", "dns_latency": "20ms", "app_start": "500ms"}
    world = simulate(settle, weather=weather)
    assert world.said("app", "listening")[0].at_ns == pytest.approx(500 * MS, rel=0.21)
    assert world.said("dns", "answer")[0].data["took_ns"] == pytest.approx(20 * MS, rel=0.21)
    took = [s.done_ns - s.sent_ns for s in world.of(PROXY, SECOND_NS)]
    assert all(4 * MS <= t <= 6 * MS for t in took)


def test_one_seed_gives_one_history_and_another_another() -> None:
    async def moves(world: World) -> None:
        await world.wait(3.0)
        for manner in ("refuse", "imposter", "blackhole"):
            await world.recreate(manner)
            await world.wait(4.0)

    first, again, other = (simulate(moves, seed=seed) for seed in ("1 c1", "1 c1", "2 c1"))
    assert first.events == again.events
    assert first.samples == again.samples
    assert first.samples != other.samples
    assert first.events != other.events


# --- moving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manner", "bad"),
    [
        ("refuse", {(Outcome.HTTP_ERROR, 503), (Outcome.TIMEOUT, 0)}),
        ("imposter", {(Outcome.OK, 200)}),
        ("blackhole", {(Outcome.TIMEOUT, 0)}),
        ("vacant", {(Outcome.TIMEOUT, 0)}),
        ("tarpit", {(Outcome.TIMEOUT, 0)}),
    ],
)
def test_a_move_shows_what_is_at_the_old_ip(manner: str, bad: set[tuple[int, int]]) -> None:
    begun: list[tuple[int, str]] = []

    async def move(world: World) -> None:
        await world.wait(4.0)
        begun.append(await world.recreate(manner))
        await world.wait(8.0)

    world = simulate(move)
    ((t0_ns, new),) = begun
    samples = [s for s in world.of(PROXY) if s.done_ns >= t0_ns]
    good = [s for s in samples if s.who == new]
    recovery_s = (min(s.done_ns for s in good) - t0_ns) / SECOND_NS
    (published,) = world.said("dns", "published", t0_ns)
    (listening,) = world.said("app", "listening", t0_ns)
    (withdrawn,) = world.said("dns", "withdrawn", t0_ns)
    band = world.spec.proxy.predict(
        moved(
            published_s=(published.at_ns - t0_ns) / SECOND_NS,
            listening_s=(listening.at_ns - t0_ns) / SECOND_NS,
            missing_s=(withdrawn.at_ns - t0_ns) / SECOND_NS,
            missing="nxdomain",
            old_ip=manner,
        )
    )
    assert band is not None
    assert band.lower_s <= recovery_s <= band.upper_s + INTERVAL_NS / SECOND_NS
    ill = {
        (s.outcome, s.status) for s in samples if s.who != new and s.scheduled_ns > t0_ns + 5 * MS
    }
    assert ill <= bad
    assert ill
    if manner == "imposter":
        assert {s.who for s in samples if s.who != new} == {"imposter"}
    if manner == "blackhole":  # retries end in 4 s, long after the probe's own timeout
        assert all(s.done_ns - s.scheduled_ns == 2 * SECOND_NS for s in samples if not s.who)
    # The direct probe sees the app itself: refused while nobody is there, then the new instance.
    direct = world.of(DIRECT, listening.at_ns)
    assert direct
    assert {s.who for s in direct[2:]} == {new}


def test_retries_mask_a_short_outage() -> None:
    """With `redispatch 1` a request that found nobody gets to the new instance a second later."""
    begun: list[tuple[int, str]] = []

    async def move(world: World) -> None:
        await world.wait(4.0)
        begun.append(await world.recreate())
        await world.wait(5.0)

    world = simulate(move, patience="5s", redispatch=1, server={"inter": "10s"})
    ((t0_ns, new),) = begun
    after = [
        s for s in world.of(PROXY) if s.done_ns >= t0_ns and s.scheduled_ns < t0_ns + SECOND_NS
    ]
    assert {s.outcome for s in after} == {Outcome.OK}
    slow = [s for s in after if s.done_ns - s.scheduled_ns > 500 * MS]
    assert len(slow) > 10
    assert {s.who for s in slow} == {new}


def test_fresh_ips_are_none_of_the_last_ones() -> None:
    ips: list[str] = []

    async def start(world: World) -> None:
        for _ in range(300):
            new = await world.stage.start(world.stage.next_identity())
            ips.append(new.address.host)
            await world.stage.stop(new, "KILL", 1.0)

    simulate(start, app={"remember_ips": 200})
    assert all(ip not in ips[max(0, place - 200) : place] for place, ip in enumerate(ips))


@pytest.mark.parametrize(
    ("signal", "gone_ms"),
    [("KILL", 1), ("TERM", 5)],
)
def test_stop_takes_the_app_away_then_its_name(signal: Any, gone_ms: int) -> None:
    async def stop(world: World) -> None:
        await world.wait(2.0)
        (old,) = world.stage.app
        t0_ns = world.clock.now_ns()
        await world.stage.stop(old, signal, 1.0)
        (gone,) = world.said("app", "gone")
        (withdrawn,) = world.said("dns", "withdrawn")
        assert gone.at_ns - t0_ns == gone_ms * MS
        assert withdrawn.at_ns == gone.at_ns
        await world.wait(0.1)
        late = [s for s in world.of(DIRECT) if s.sent_ns > t0_ns]
        assert {s.outcome for s in late} == {Outcome.REFUSED}

    simulate(stop)


@pytest.mark.parametrize(
    ("missing", "rcode"),
    [
        ("nxdomain", "NXDOMAIN"),
        ("servfail", "SERVFAIL"),
        ("refused", "REFUSED"),
        ("empty", "NOERROR"),
        ("drop", ""),
        ("stale", None),
    ],
)
def test_a_missing_name_is_answered_as_configured(missing: str, rcode: str | None) -> None:
    async def stop(world: World) -> None:
        await world.wait(2.0)
        await world.stage.stop(world.stage.app[0], "KILL", 1.0)
        await world.wait(3.0)

    world = simulate(stop, dns={"missing": missing})
    answers = [(e.data["rcode"], e.data["ips"]) for e in world.said("dns", "answer", 2 * SECOND_NS)]
    if rcode is None:
        assert answers == []
        assert world.said("dns", "withdrawn") == []
    else:
        assert (rcode, []) in answers


# --- what can't be --------------------------------------------------------------------------------


def test_an_own_file_or_a_proxy_without_a_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"my\.cfg: your own file can't be simulated"):
        simulate(settle, config="my.cfg")
    spec = cell()
    other = CellSpec(**{name: getattr(spec, name) for name in spec.__slots__} | {"proxy": object()})

    async def run() -> None:
        async with standing(other, {}, "2s"):
            pass

    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        pytest.raises(ConfigError, match="this proxy can't be simulated"),
    ):
        runner.run(run())


def test_the_simulated_version_is_the_proxys_version() -> None:
    world = simulate(settle, weather={"version": "2.2.9"})
    assert world.spec.proxy.version() == "2.2.9"
    # Where the config names one it is that: two arms of two versions were one and the same.
    world = simulate(settle, weather={"version": "2.2.9"}, version="2.6")
    assert world.spec.proxy.version() == "2.6"
