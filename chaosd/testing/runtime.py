"""The conformance suite of runtimes: what every runtime must pass, ours and third parties'.

One cell is set up in the runtime's own world, its app is moved by what the runtime's abilities
allow, and it is taken down. What an ability promises is asked of it; one that the runtime does not
have is not.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaosd.config.shape import Config
from chaosd.engine.recorder import CellRecorder
from chaosd.errors import MachineError
from chaosd.history.events import (
    AnyEvent,
    InstanceGone,
    InstanceListening,
    InstancePlaced,
    NamePublished,
)
from chaosd.history.values import Instance
from chaosd.plan import build
from chaosd.plan.arms import Plan
from chaosd.plugins.runtime import CanHoldAddress, CanMove, Stage
from chaosd.system.clock import Clock, sleep

EVENT_LIMIT_S = 15.0  # for what a runtime stores by itself, a little after the deed
PAUSE_S = 0.02
SET_UP_LIMIT_S = 120.0


def check_runtime(part: dict[str, Any], **keys: Any) -> None:
    """Check this runtime (its part of a config); `keys` are other parts, such as `proxy`.

    Its stages have the abilities that it names, its instances are stored when they are placed,
    listen, and are gone, its addresses are fresh, and nothing is left once it is closed.
    """
    config = Config.model_validate({"name": "conformance", "runtime": part, "seed": 1} | keys)
    plan = build(config, lambda where, what: f"{where}: {what}")
    with (
        tempfile.TemporaryDirectory(prefix="chaosd-conformance-") as directory,
        asyncio.Runner(loop_factory=plan.runtime.loop_factory()) as runner,
    ):
        runner.run(_check(plan, Path(directory)))


class _Cell:
    """A cell under test, and what it has stored so far."""

    def __init__(self, plan: Plan, clock: Clock, stage: Stage, events: list[AnyEvent]) -> None:
        self.plan, self.clock, self.stage, self._events = plan, clock, stage, events

    def stored(self, kind: type, wanted: Callable[[Any], bool]) -> list[AnyEvent]:
        return [e for e in self._events if isinstance(e.what, kind) and wanted(e.what)]

    async def until_stored(self, kind: type, instance: Instance) -> int:
        """When this was stored of an instance. Fails if it is not."""
        identity, (ip, _) = instance

        def of_it(what: Any) -> bool:
            return ip in what.ips if kind is NamePublished else bool(what.identity == identity)

        limit_ns = self.clock.now_ns() + round(EVENT_LIMIT_S * 1e9)
        while not (found := self.stored(kind, of_it)):
            assert self.clock.now_ns() < limit_ns, f"{kind.__name__} of {identity} is not stored"
            await sleep(self.clock, PAUSE_S)
        return found[0].at_ns


async def _check(plan: Plan, directory: Path) -> None:
    runtime, clock = plan.runtime, plan.runtime.clock()
    events: list[AnyEvent] = []
    failures: list[Exception] = []
    recorder = CellRecorder(clock, "c1", events.append)
    spec = plan.spec(plan.cells[0], directory / "c1")
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
        assert not failures, f"what nobody has killed died: {failures[0]}"
    finally:
        await stage.close()
        await stage.close()
    if isinstance(stage, CanMove):
        with suppress(MachineError):
            await stage.start(stage.next_identity())
            raise AssertionError("a closed stage starts an instance")
    left = [what for what in await runtime.sweep() if plan.run_id in what]
    assert not left, f"closed, and there is still {', '.join(left)}"
    clock.close()


async def _check_moves(cell: _Cell, stage: CanMove) -> None:
    count = len(stage.app)
    assert count == cell.plan.config.app.replicas, f"{count} instances serve"
    old = stage.app[0]
    await stage.stop(old, "TERM", 5.0)
    await stage.stop(old, "TERM", 5.0)  # it is gone already
    assert old not in stage.app, "it is stopped, and still in `app`"
    await cell.until_stored(InstanceGone, old)
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
    placed_ns = await cell.until_stored(InstancePlaced, new)
    assert placed_ns <= await cell.until_stored(InstanceListening, new)
    await cell.until_stored(NamePublished, new)


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
