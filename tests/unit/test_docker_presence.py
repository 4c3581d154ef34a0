"""An engine that hangs: found out by pings, known to all, and nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import IPv4Network
from random import Random
from types import SimpleNamespace

import pytest

from chaosd.errors import MachineError
from chaosd.runtimes.docker import DockerRuntime, presence
from chaosd.runtimes.docker.endpoint import Endpoint, EngineAwayError
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.members import Members
from chaosd.runtimes.docker.network import Network
from chaosd.runtimes.docker.presence import EngineHangsError, Presence, in_thread, watched
from chaosd.runtimes.docker.stage import DockerStage
from chaosd.system.clock import RealClock

LIMIT_S = 10


class FakeEngine:
    """Calls to it end when it is let; it answers pings as long as it lives."""

    def __init__(self) -> None:
        self.lives, self.let = True, threading.Event()

    def call(self) -> str:
        assert self.let.wait(LIMIT_S)
        return "done"


@pytest.fixture
def fake(monkeypatch):
    made = FakeEngine()
    monkeypatch.setattr(presence, "ping", lambda _: made.lives)
    for name, value in (("SLOW_S", 0.01), ("SILENT_S", 0.05), ("PING_PAUSE_S", 0.01)):
        monkeypatch.setattr(presence, name, value)
    yield made
    made.let.set()


def run(scenario) -> None:
    asyncio.run(asyncio.wait_for(scenario, LIMIT_S))


def known(wait_s: float = 0.1) -> Presence:
    return Presence(Endpoint(), RealClock(), wait_s=wait_s)


def test_a_slow_engine_is_waited_for(fake) -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().call_later(0.2, fake.let.set)
        silent = pytest.fail  # it answers pings
        assert await known().answer(in_thread(fake.call), silent) == "done"

    run(scenario())
    assert watched(Endpoint(), lambda: "at once") == "at once"


def test_an_engine_that_was_silent_for_a_while_and_went_on_is_told(fake, monkeypatch) -> None:
    pinged, silences = threading.Event(), []
    monkeypatch.setattr(presence, "ping", lambda _: pinged.wait(LIMIT_S))
    monkeypatch.setattr(presence, "PROMPT_S", 0.05)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, pinged.set)
        loop.call_later(0.3, fake.let.set)
        answered = known().answer(in_thread(fake.call), lambda a, b: silences.append((b - a) / 1e9))
        assert await answered == "done"

    run(scenario())
    (silence_s,) = silences
    assert 0.15 < silence_s < LIMIT_S


def test_one_that_hangs_is_given_up_with_a_line(fake) -> None:
    fake.lives = False

    async def scenario() -> None:
        with pytest.raises(EngineHangsError, match=r"engine at unix://.*`chaosd clean`"):
            await known().answer(in_thread(fake.call))

    run(scenario())
    with pytest.raises(EngineHangsError, match="`chaosd clean`"):
        watched(Endpoint(), fake.call)


def test_what_one_cell_has_found_out_the_others_need_not(fake, monkeypatch) -> None:
    monkeypatch.setattr(Endpoint, "client", lambda *_: object())
    fake.lives = False
    told = []

    async def scenario() -> None:
        shared = known()
        shared.watch(lambda: told.append(1))
        unwatch = shared.watch(lambda: told.append(2))
        unwatch()
        engines = [Engine(shared, RealClock()) for _ in range(60)]
        first = asyncio.create_task(engines[0].now(lambda _: fake.call()))
        with pytest.raises(EngineHangsError):
            await first
        await asyncio.sleep(0)
        assert told == [1]
        for engine in engines:
            with pytest.raises(EngineHangsError):
                await engine.now(lambda _: pytest.fail("asked in vain"))
            await engine.idle(LIMIT_S)
        with pytest.raises(EngineAwayError, match=r"did not return in 0.1 s .*`chaosd clean`"):
            await engines[1].do(lambda _: None)
        assert not await shared.returns()
        fake.lives = True
        assert await shared.answers()
        assert await engines[2].do(lambda _: "back") == "back"

    run(scenario())
    assert threading.active_count() < 20


def test_a_watcher_is_told_also_of_one_that_refuses_and_does_not_return(fake) -> None:
    fake.lives = False
    told = []

    async def scenario() -> None:
        shared = known(wait_s=0.0)
        shared.watch(lambda: told.append(1))
        assert not await shared.returns()
        assert not await shared.returns()
        await asyncio.sleep(0)

    run(scenario())
    assert len(told) == 2


def test_what_the_call_raises_is_passed_on(fake) -> None:
    def broken() -> None:
        raise MachineError("no such thing")

    async def scenario() -> None:
        with pytest.raises(MachineError, match="no such thing"):
            await known().answer(in_thread(broken))

    run(scenario())
    with pytest.raises(MachineError, match="no such thing"):
        watched(Endpoint(), broken)


def stage(shared: Presence, name: str, recorded: list, failed: list) -> DockerStage:
    """One that stands, of a cell of a run."""
    cell = SimpleNamespace(run_id="r", name=name, seed="1", app=SimpleNamespace(remember_ips=1))
    recorder = SimpleNamespace(
        clock=RealClock(), record=lambda what, **_: recorded.append((name, what))
    )
    config, here = DockerRuntime.Config(), "127.0.0.1"
    found = DockerStage(config, shared, cell, recorder, failed.append, publish=here)
    found._standing = True
    found._net = Network("n", IPv4Network("10.213.7.0/24"), Random(1))
    (host,) = found._hosts
    host.members = Members(host.engine, found._net, {})
    return found


def test_cells_do_not_tell_each_other_again_and_again_that_it_is_lost(fake) -> None:
    """Each told all others, which told each other: a loop that left no time for anything else."""
    fake.lives = False
    recorded, failed = [], []

    async def scenario() -> None:
        shared = known(wait_s=0.05)
        stages = [stage(shared, f"c{number}", recorded, failed) for number in range(6)]
        with pytest.raises(EngineAwayError):
            await stages[0]._hosts[0].engine.do(lambda _: fake.call())
        await asyncio.sleep(0.2)
        with pytest.raises(EngineAwayError):  # one that undoes what it did
            await stages[1]._hosts[0].engine.do(lambda _: fake.call())
        await asyncio.sleep(0.2)
        assert {name for name, _ in recorded} == {f"c{number}" for number in range(6)}
        assert len(recorded) == len(failed) == len(stages)

    run(scenario())
