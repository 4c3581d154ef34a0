"""The conformance suite: what every fault must pass, ours and third parties'.

No test framework is imported, so anybody can call it: each check returns when all is well and
raises AssertionError otherwise. Faults are run in the simulated world, under virtual time.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from chaosd.config.shape import Config
from chaosd.engine.disturbance import Disturbance
from chaosd.engine.recorder import CellRecorder
from chaosd.history.codec import encode_event
from chaosd.history.deeds import Asked, Done, Failed
from chaosd.history.events import AnyEvent
from chaosd.history.values import Instance
from chaosd.plan import build
from chaosd.system.clock import VirtualLoop

STEPS_MAX = 2_000  # more turns of the event loop than any fault needs
LIMIT_S = 600.0
EDGES = (Asked, Done, Failed)


@dataclass
class Outcome:
    """What one injection and its healing came to."""

    events: list[AnyEvent]
    began: bool
    cancelled: bool
    instances: int
    steps: int
    deeds: int  # edges of actions before it was healed


class _Cycle(CellRecorder):
    """A cycle without an engine: it only keeps what it is told."""

    def __init__(self, clock: Any, events: list[AnyEvent]) -> None:
        super().__init__(clock, "c1", events.append)
        self.run, self.number, self.cycle = "conformance", 1, 1
        self.ending = False
        self.label = self.chance = "conformance"
        self.began_ns: int | None = None
        self.expected: list[str] = []
        self.began: list[tuple[Instance | None, str | None]] = []

    def expect(self, identity: str) -> None:
        self.expected.append(identity)

    def begin(self, *, old: Instance | None, new: str | None, lasts: bool = False) -> None:
        self.began_ns = self.clock.now_ns()
        self.began.append((old, new))


def check_fault(part: dict[str, Any]) -> None:
    """Inject this fault (its part of a config) whole, and cut off at every point, and heal it.

    Whatever happened: as many instances serve as before, every deed has both edges, T0 was
    declared once, and a new instance was declared before it was started.
    """
    config = Config.model_validate(
        {"name": "conformance", "runtime": "sim", "seed": 1, "faults": [{"every": "10s"} | part]}
    )
    whole = _run(config, cut_at=None)
    assert whole.began, "it was injected without calling cycle.begin"
    _check(whole)
    for step in range(1, whole.steps + 1):
        _check(_run(config, cut_at=step))


def _check(outcome: Outcome) -> None:
    lines = [json.loads(encode_event(e)) for e in outcome.events if isinstance(e.what, EDGES)]
    edges = [(line["verb"], line["edge"]) for line in lines]
    done = [" ".join(edge) for edge in edges[: outcome.deeds]]
    after = f"after `{done[-1]}`" if done else "before its first deed"
    where = f"cut off {after}" if outcome.cancelled else "injected"
    assert outcome.instances == 1, f"{where} and healed, {outcome.instances} instances serve, not 1"
    asked = sorted(verb for verb, edge in edges if edge == "asked")
    ended = sorted(verb for verb, edge in edges if edge != "asked")
    assert asked == ended, f"{where} and healed, deeds without an end: {asked} {ended}"


def _run(config: Config, cut_at: int | None) -> Outcome:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(asyncio.wait_for(_inject_and_heal(config, cut_at), LIMIT_S))


async def _inject_and_heal(config: Config, cut_at: int | None) -> Outcome:
    plan = build(config, lambda where, what: f"{where}: {what}")
    events: list[AnyEvent] = []
    cycle = _Cycle(plan.runtime.clock(), events)
    with tempfile.TemporaryDirectory() as directory:
        stage: Any = await plan.runtime.set_up(
            plan.spec(plan.cells[0], Path(directory)), cycle, lambda error: None
        )
        fault = plan.arms[0].faults()[0]
        disturbance = Disturbance(fault, stage, cycle)
        steps, cancelled = await _cut(disturbance.begin(), cut_at)
        deeds = sum(isinstance(event.what, EDGES) for event in events)
        await disturbance.end(LIMIT_S)
        instances = len(stage.app)
        for _, new in cycle.began:
            assert new is None or new in cycle.expected, "begin before cycle.expect(new)"
        assert len(cycle.began) <= 1, "cycle.begin was called twice"
        await stage.close()
    return Outcome(events, bool(cycle.began), cancelled, instances, steps, deeds)


async def _cut(work: Any, cut_at: int | None) -> tuple[int, bool]:
    """Step through this coroutine's awaits and cancel it at one of them."""
    task = asyncio.ensure_future(work)
    steps = 0
    while not task.done():
        steps += 1
        assert steps < STEPS_MAX, "injecting does not come to an end"
        if steps == cut_at:
            task.cancel()
        # A random pause lands between the fault's own sleeps; virtual time makes it free.
        await asyncio.wait([task], timeout=Random(steps).uniform(0, 0.01))  # noqa: S311
    return steps, task.cancelled()
