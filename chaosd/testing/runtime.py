"""The conformance suite of runtimes: what every runtime must pass, ours and third parties'.

One cell is set up in the runtime's own world, its app is moved by what the runtime's abilities
allow, and it is taken down. What an ability promises is asked of it; one that the runtime does not
have is not.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from chaosd import plugins
from chaosd.config.shape import Config
from chaosd.engine.recorder import CellRecorder
from chaosd.errors import MachineError
from chaosd.history.events import (
    AnyEvent,
    Event,
    InstanceGone,
    InstanceListening,
    InstancePlaced,
    NamePublished,
    NameWithdrawn,
)
from chaosd.history.values import Instance
from chaosd.plan import build
from chaosd.plan.arms import Plan
from chaosd.plugins.runtime import CanHoldAddress, CanMove, CanReloadProxy, Stage
from chaosd.system.clock import Clock, sleep
from chaosd.testing.abilities import check_more

EVENT_LIMIT_S = 15.0  # for what a runtime stores by itself, a little after the deed
PAUSE_S = 0.02
SET_UP_LIMIT_S = 120.0


def check_runtime(part: dict[str, Any], **keys: Any) -> None:
    """Check this runtime (its part of a config); `keys` are other parts, such as `proxy`.

    Its stages have the abilities that it names, its instances are stored when they are placed,
    listen, and are gone, with their names; its addresses are fresh, and nothing is left once it is
    closed. An app that does not listen in time is said in a line, and nothing is left of it either:
    where the app is made, and not found.
    """
    _run(_check, {"runtime": part} | keys)
    if not plugins.find("runtimes", part["type"]).makes_topology:
        return
    late = {"start_delay": "60s", "ready_timeout": "300ms"}
    _run(_check_late_app, {"runtime": part} | keys | {"app": keys.get("app", {}) | late})


def _run(check: Callable[[Plan, Path], Coroutine[Any, Any, None]], keys: dict[str, Any]) -> None:
    # A fault that any runtime can do: the one of an empty config takes more than some have.
    faults = [{"type": "noop", "every": "10s"}]
    config = Config.model_validate({"name": "conformance", "seed": 1, "faults": faults} | keys)
    plan = build(config, lambda where, what: f"{where}: {what}")
    with (
        tempfile.TemporaryDirectory(prefix="chaosd-conformance-") as directory,
        asyncio.Runner(loop_factory=plan.runtime.loop_factory()) as runner,
    ):
        runner.run(check(plan, Path(directory)))


class _Cell:
    """A cell under test, and what it has stored so far."""

    def __init__(self, plan: Plan, clock: Clock, stage: Stage, events: list[AnyEvent]) -> None:
        self.plan, self.clock, self.stage, self._events = plan, clock, stage, events
        self.found = stage.app  # who served first

    def stored(self, kind: type, wanted: Callable[[Any], bool]) -> list[Event[Any]]:
        return [e for e in self._events if isinstance(e.what, kind) and wanted(e.what)]

    async def until_stored(self, kind: type, instance: Instance) -> int:
        """When this was stored of an instance. Fails if it is not."""
        identity, (ip, _) = instance

        def of_it(what: Any) -> bool:
            return ip in what.ips if kind is NamePublished else bool(what.identity == identity)

        missing = f"{kind.__name__} of {identity} is not stored"
        await self.until(lambda: bool(self.stored(kind, of_it)), missing)
        return self.stored(kind, of_it)[0].at_ns

    async def until(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Return when this is so. Fails if it never is."""
        limit_ns = self.clock.now_ns() + round(EVENT_LIMIT_S * 1e9)
        while not condition():
            assert self.clock.now_ns() < limit_ns, otherwise
            await sleep(self.clock, PAUSE_S)


async def _check(plan: Plan, directory: Path) -> None:
    runtime, clock = plan.runtime, plan.runtime.clock()
    events: list[AnyEvent] = []
    failures: list[Exception] = []
    recorder = CellRecorder(clock, "c1", events.append)
    spec = plan.spec(plan.cells[0], directory / "c1")
    spec = replace(spec, renews_proxy=CanReloadProxy in runtime.abilities())
    async with asyncio.timeout(SET_UP_LIMIT_S):
        stage = await runtime.set_up(spec, recorder, failures.append)
    cell = _Cell(plan, clock, stage, events)
    try:
        assert isinstance(stage, Stage), "set_up returns no Stage"
        assert stage.entry.port > 0, "the entry has no port"
        for ability in runtime.abilities():
            assert isinstance(stage, ability), f"its stages lack {ability.__name__}"
        for instance in stage.app:
            await cell.until_stored(InstancePlaced, instance)
        if isinstance(stage, CanMove) and CanMove in runtime.abilities():
            await _check_moves(cell, stage)
        if isinstance(stage, CanHoldAddress) and CanHoldAddress in runtime.abilities():
            await _check_held_addresses(cell, stage)
        await check_more(stage, runtime.abilities(), cell.stored)
        assert not failures, f"what nobody has killed died: {failures[0]}"
    finally:
        await stage.close()
        await stage.close()
    if isinstance(stage, CanMove):
        with suppress(MachineError):
            await stage.start(stage.next_identity())
            raise AssertionError("a closed stage starts an instance")
    await _check_swept(plan)
    clock.close()


async def _check_late_app(plan: Plan, directory: Path) -> None:
    runtime, clock = plan.runtime, plan.runtime.clock()
    failures: list[Exception] = []
    recorder = CellRecorder(clock, "c1", lambda _: None)
    said = ""
    try:
        async with asyncio.timeout(SET_UP_LIMIT_S):
            spec = plan.spec(plan.cells[0], directory / "c1")
            stage = await runtime.set_up(spec, recorder, failures.append)
        await stage.close()
    except MachineError as error:
        said = str(error)
    assert said, "a cell stands whose app does not listen within app.ready_timeout"
    assert "\n" not in said, f"more than one line: {said}"
    assert "app.ready_timeout" in said, f"app.ready_timeout is not named: {said}"
    assert not failures, f"set_up has raised, and says a second time: {failures[0]}"
    await _check_swept(plan)
    clock.close()


async def _check_swept(plan: Plan) -> None:
    """Nothing carries this run's label any more."""
    left = [what for what in await plan.runtime.sweep() if plan.run_id in what]
    assert not left, f"closed, and there is still {', '.join(left)}"


async def _check_moves(cell: _Cell, stage: CanMove) -> None:
    count = len(stage.app)
    assert count == cell.plan.config.app.replicas, f"{count} instances serve"
    for instance in stage.app:
        await _check_came_up(cell, instance)
    old = stage.app[0]
    await stage.stop(old, "TERM", 5.0)
    await stage.stop(old, "TERM", 5.0)  # it is gone already
    await _check_went(cell, stage, old)
    try:
        await stage.ready(old)
    except MachineError:
        pass
    else:
        raise AssertionError("an instance that was stopped is ready")
    identity = stage.next_identity()
    assert identity != stage.next_identity(), "two instances have one identity"
    starting = asyncio.ensure_future(stage.start(identity))
    await asyncio.wait([starting], timeout=0)
    starting.cancel()
    await asyncio.wait([starting])
    if starting.cancelled():  # then it can be started again, under the same identity
        assert len(stage.app) == count - 1, "an instance whose start was cancelled serves"
        new = await stage.start(identity)
    else:
        new = starting.result()
    assert stage.app[-1] == new, "the newest instance is not the last of `app`"
    assert new.address.host != old.address.host, "the address is not a fresh one"
    await stage.ready(new)
    await _check_came_up(cell, new)
    await _check_cancelled_stop(cell, stage)


async def _check_came_up(cell: _Cell, instance: Instance) -> None:
    """It was placed, then it listened, and its name was published when the config wants it."""
    made = cell.plan.runtime.makes_topology or instance not in cell.found
    ours = instance.identity.startswith("@") or cell.plan.run_id in instance.identity
    assert ours or not made, f"the identity {instance.identity} may be another run's"
    placed_ns = await cell.until_stored(InstancePlaced, instance)
    listening_ns = await cell.until_stored(InstanceListening, instance)
    published_ns = await cell.until_stored(NamePublished, instance)
    assert placed_ns <= listening_ns, "it listens before it is placed"
    if cell.plan.config.dns.publish == "ready":
        assert published_ns >= listening_ns, "dns.publish is `ready`: its name comes too early"


async def _check_went(cell: _Cell, stage: CanMove, old: Instance) -> None:
    """It does not serve, and its name has the addresses of the others, or is missing."""
    assert old not in stage.app, "it is stopped, and still in `app`"
    gone_ns = await cell.until_stored(InstanceGone, old)
    rest = {instance.address.host for instance in stage.app}
    if rest:
        await cell.until(
            lambda: set(cell.stored(NamePublished, lambda _: True)[-1].what.ips) == rest,
            f"the name has not the addresses {', '.join(sorted(rest))} alone",
        )
    elif cell.plan.config.dns.missing == "stale":
        await sleep(cell.clock, PAUSE_S)
        assert not cell.stored(NameWithdrawn, lambda _: True), "a stale name is withdrawn"
    else:
        await cell.until(
            lambda: bool(cell.stored(NameWithdrawn, lambda _: True)),
            f"{old.identity} is gone at {gone_ns}, and its name is not withdrawn",
        )


async def _check_cancelled_stop(cell: _Cell, stage: CanMove) -> None:
    """The task that stops an instance may be cancelled; the instance goes all the same."""
    old = stage.app[0]
    stopping = asyncio.ensure_future(stage.stop(old, "TERM", 5.0))
    await asyncio.wait([stopping], timeout=0)
    stopping.cancel()
    await asyncio.wait([stopping])
    await _check_went(cell, stage, old)
    new = await stage.start(stage.next_identity())
    await stage.ready(new)


async def _check_held_addresses(cell: _Cell, stage: CanHoldAddress) -> None:
    manners = cell.plan.runtime.old_ip()
    assert manners, "it can hold addresses, and in no manner"
    unused = await stage.hold(manners[0])
    await unused.release()
    await unused.release()
    for manner in manners:
        old = stage.app[0]
        holder = await stage.hold(manner)
        await stage.stop(old, "KILL", 1.0)
        await holder.take(old.address.host)
        new = await stage.start(stage.next_identity())
        assert new.address != old.address, f"the address that is held ({manner}) is given out"
        await stage.ready(new)
        await holder.release()
        await holder.release()
    old = stage.app[0]
    await stage.stop(old, "KILL", 1.0)
    again = await stage.start(stage.next_identity(), old.address.host)
    assert again.address == old.address, "it does not come back at its own address"
    assert again.identity != old.identity, "it comes back under the identity that it had"
    await stage.ready(again)
