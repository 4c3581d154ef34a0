"""The one loop: cycles in, events out. The only file that decides what happens next.

Theory of operation. Each cell has a task that walks through the merged plan of its faults. For
each planned instant it makes a cycle: the fault is injected while samples keep coming in; a fold
of those samples tells when the observation is over; the fault is healed, whatever happened; then
the cycle's events and samples become one `Cycle`, by the same pure function that `chaosd report`
uses later. Everything is said to the sinks at once, so that what was asked for is stored before it
is done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from chaosd import schedule
from chaosd.analysis import phases
from chaosd.analysis.recovery import Identities, RecoveryFold, Reorder, measure
from chaosd.clock import SECOND_NS, Clock
from chaosd.errors import ChaosdError, MachineError
from chaosd.events import (
    Action,
    Cycle,
    CycleOutcome,
    Event,
    Instance,
    Outcome,
    Reading,
    Sample,
    StreamSpec,
)
from chaosd.plan import Plan
from chaosd.plugins import Fault, Stage
from chaosd.sinks import Sink

T = TypeVar("T")

# Each wait has a limit; these are far beyond what a healthy machine needs.
STEADY_LIMIT_S = 60.0  # from the first probe until the app answers without a gap
INJECT_LIMIT_S = 300.0  # one fault, its grace times included
HEAL_LIMIT_S = 120.0
HEAL_LIMIT_AT_STOP_S = 10.0  # everything is taken down right afterwards anyway
TEAR_DOWN_LIMIT_S = 30.0
POLL_S = 5.0  # how often the proxy's counters and size are read
SET_UP_AT_ONCE = 8  # cells
EVENTS_PER_CYCLE_MAX = 10_000


async def uncancelled(work: Coroutine[Any, Any, T], limit_s: float) -> T:
    """Finish this work even if the caller is cancelled meanwhile, then pass the cancellation on.

    The work runs as a task of its own with its own deadline (TimeoutError after it).
    """
    task = asyncio.get_running_loop().create_task(asyncio.wait_for(work, limit_s))
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:  # noqa: BLE001 - it is the task's, and raised again below
            break
    if cancelled:
        task.exception()  # retrieved: the cancellation outranks it
        raise asyncio.CancelledError
    return task.result()


class CellRecorder:
    """Writes the actions and readings of one cell, with the number of the cycle that goes on."""

    def __init__(self, clock: Clock, cell: str, emit: Callable[[Event], None]) -> None:
        self.clock = clock
        self.cell = cell
        self.cycle = 0  # 0 outside of cycles
        self._emit = emit

    def reading(
        self,
        source: str,
        what: str,
        *,
        at_ns: int | None = None,
        error_ns: int = 0,
        **data: Any,
    ) -> None:
        at_ns = self.clock.now_ns() if at_ns is None else at_ns
        self._emit(
            Reading(
                at_ns=at_ns,
                cell=self.cell,
                cycle=self.cycle,
                source=source,
                what=what,
                error_ns=error_ns,
                data=data,
            )
        )

    @asynccontextmanager
    async def action(self, verb: str, **data: Any) -> AsyncIterator[None]:
        self._edge(verb, "asked", data)
        try:
            yield
        except BaseException as error:
            self._edge(verb, "failed", data | {"error": str(error) or type(error).__name__})
            raise
        self._edge(verb, "done", data)

    def _edge(self, verb: str, edge: str, data: dict[str, Any]) -> None:
        self._emit(
            Action(
                at_ns=self.clock.now_ns(),
                cell=self.cell,
                cycle=self.cycle,
                verb=verb,
                edge=edge,
                data=data,
            )
        )


class CycleRun(CellRecorder):
    """A cycle while it goes on: what its fault sees of it, and what it has gathered so far."""

    def __init__(self, cell: CellRun, fault: Fault, label: str) -> None:
        super().__init__(cell.clock, cell.name, cell.emit)
        self.number = self.cycle = cell.recorder.cycle
        self.control = fault.control
        self.label = label
        self.fold: RecoveryFold | None = None
        self.events: list[Event] = []
        self.samples: list[Sample] = list(cell.recent)
        self.over = asyncio.Event()
        self.over_at_ns: int | None = None
        self._cell = cell

    def expect(self, instance: Instance) -> None:
        self._cell.expect(instance)

    def begin(self, *, old: Instance | None, new: Instance | None) -> None:
        cell = self._cell
        if new is not None and new.identity not in cell.identities:
            cell.expect(new)
        self.reading(
            "engine",
            "begin",
            at_ns=(t0_ns := self.clock.now_ns()),
            fault=self.label,
            control=self.control,
            old=old.identity if old else None,
            old_ip=old.address.host if old else None,
            new=new.identity if new else None,
            new_ip=new.address.host if new else None,
            t0_unix=self.clock.unix_ns() / SECOND_NS,
        )
        self.fold = RecoveryFold(
            t0_ns, new.identity if new else None, cell.identities, cell.plan.settings()
        )


class CellRun:
    """One cell of a run: its topology, its streams, and the cycle that goes on in it."""

    def __init__(self, engine: Engine, name: str, first_stream: int) -> None:
        self.plan, self.clock, self.name = engine.plan, engine.clock, name
        self.recorder = CellRecorder(engine.clock, name, self.emit)
        self.faults = engine.plan.faults()
        self.identities = Identities()
        self.cycle: CycleRun | None = None
        self.number = 0
        # What was asked shortly before T0 belongs to the cycle too: it may still be under way, and
        # the last good answer before the outage is one end of it.
        self.recent: deque[Sample] = deque()
        self.steady_since_ns: int | None = None
        self.stage: Stage | None = None
        self._engine = engine
        self._streams = list(self._specs(first_stream))
        self.main = self._streams[0][0].stream
        self._direct = next((s.stream for s, *_ in self._streams if s.via == "direct"), None)
        self._reorder = Reorder()

    @property
    def streams(self) -> list[int]:
        return [spec.stream for spec, *_ in self._streams]

    def _specs(self, first: int) -> Any:
        config = self.plan.config
        probes = [(probe, "proxy") for probe in config.probes]
        if config.direct is not None:
            probes.append((config.direct_probe(), "direct"))
        for stream, (probe, via) in enumerate(probes, start=first):
            label = "direct" if via == "direct" else probe.label
            yield StreamSpec(stream, self.name, label, via, probe.rate.interval_ns), probe

    # --- setting up ---

    async def set_up(self) -> None:
        engine = self._engine
        spec = self.plan.cell(self.name, engine.directory / self.name)
        async with self.recorder.action("set_up"):
            self.stage = await self.plan.runtime.set_up(spec, self.recorder, engine.fail)
        for instance in self.stage.app:
            self.expect(instance)
        for stream, probe in self._streams:
            self.recorder.reading(
                "engine",
                "stream",
                stream=stream.stream,
                cell=self.name,
                probe=stream.probe,
                type=probe.type,
                via=stream.via,
                interval_ns=stream.interval_ns,
                timeout_ns=int(probe.timeout),
            )
            engine.prober.add(stream, probe.type, probe, "X-Chaosd-Instance")
            if stream.via == "proxy":
                engine.prober.aim(stream.stream, self.stage.entry)

    def expect(self, instance: Instance) -> None:
        recorder = self.cycle or self.recorder
        recorder.reading(
            "engine",
            "instance",
            identity=instance.identity,
            ip=instance.address.host,
            port=instance.address.port,
        )
        if self._direct is not None and self.cycle is not None:
            self._engine.prober.aim(self._direct, instance.address)

    async def steady(self) -> None:
        """Wait until the app has answered through the proxy for a while without a gap."""
        limit_ns = self.clock.now_ns() + round(STEADY_LIMIT_S * SECOND_NS)
        while not self.is_steady():
            if self.clock.now_ns() > limit_ns:
                raise MachineError(
                    f"cell {self.name}: the app never answered steadily through the proxy within "
                    f"{STEADY_LIMIT_S:.0f} s (see the run directory's events.jsonl)"
                )
            await self.clock.sleep_until(self.clock.now_ns() + SECOND_NS // 20)

    def is_steady(self) -> bool:
        since_ns, now_ns = self.steady_since_ns, self.clock.now_ns()
        return since_ns is not None and now_ns - since_ns >= self.plan.config.measure.stable_for

    # --- what comes in ---

    def emit(self, event: Event) -> None:
        self.identities.event(event)
        if self.cycle is not None and len(self.cycle.events) < EVENTS_PER_CYCLE_MAX:
            self.cycle.events.append(event)
        self._engine.emit(event)

    def take(self, sample: Sample) -> None:
        if sample.stream == self.main:
            self._reorder.push(sample)
            self.recent.append(sample)
        if self.cycle is not None:
            self.cycle.samples.append(sample)

    def advance(self, complete_ns: int) -> None:
        """Every sample of the measuring stream scheduled before this instant has come in."""
        cycle = self.cycle
        fold = cycle.fold if cycle is not None else None
        for sample in self._reorder.release(complete_ns):
            good = sample.outcome == Outcome.OK and sample.who in self.identities
            if not good:
                self.steady_since_ns = None
            elif self.steady_since_ns is None:
                self.steady_since_ns = sample.scheduled_ns
            if fold is not None:
                fold.add(sample)
        if cycle is not None and fold is not None and cycle.over_at_ns is None:
            cycle.over_at_ns = fold.over_at_ns(complete_ns)
            if cycle.over_at_ns is not None:
                cycle.over.set()
        if cycle is None:
            lookback_ns = self.plan.settings().lookback_ns
            while self.recent and self.recent[0].scheduled_ns < complete_ns - lookback_ns:
                self.recent.popleft()

    # --- cycles ---

    async def run(self) -> None:
        """Walk through the plan until enough cycles were made."""
        config, clock = self.plan.config, self.clock
        timers_s = self.plan.proxy.timers_s()
        times = schedule.merged(
            [
                schedule.instants(f, clock, self.plan.rng(self.name, f.label), timers_s)
                for f in config.faults
            ]
        )
        made = 0
        for at_ns, place in times:
            if config.until.cycles is not None and made >= config.until.cycles:
                return
            if at_ns < clock.now_ns():
                self._skip(place, at_ns)
                continue
            await clock.sleep_until(at_ns)
            await self._make_cycle(place)
            made += 1

    def _skip(self, place: int, planned_ns: int) -> None:
        """Record that this cycle's time came while the one before it had not settled."""
        clock, label = self.clock, self.plan.config.faults[place].label
        reason = f"cycle {self.number} had not settled"
        self.number += 1
        self.recorder.cycle = self.number
        self.recorder.reading(
            "engine", "skipped", fault=label, reason=reason, planned_ns=planned_ns
        )
        self.recorder.cycle = 0
        planned_unix_ns = clock.unix_ns() - (clock.now_ns() - planned_ns)
        self._engine.finish(
            Cycle(
                cycle=self.number,
                cell=self.name,
                fault=label,
                runtime=self.plan.runtime_name,
                proxy=self.plan.proxy_name,
                outcome=CycleOutcome.SKIPPED,
                t0_unix=planned_unix_ns / SECOND_NS,
                t0_ns=planned_ns,
                end_ns=planned_ns,
                valid_reason=reason,
            )
        )

    async def _make_cycle(self, place: int) -> None:
        fault, label = self.faults[place], self.plan.config.faults[place].label
        self.number += 1
        self.recorder.cycle = self.number
        self.cycle = cycle = CycleRun(self, fault, label)
        invalid: str | None = None
        heal_limit_s = HEAL_LIMIT_S
        try:
            if self.is_steady():
                await self._inject_and_watch(fault, cycle)
            else:
                invalid = "the app did not answer steadily before it"
        except (MachineError, OSError, TimeoutError) as error:
            invalid = str(error) or "the fault took too long"
        except asyncio.CancelledError:
            invalid = "chaosd was stopped in the middle of it"
            heal_limit_s = HEAL_LIMIT_AT_STOP_S
            raise
        finally:
            try:
                await uncancelled(fault.heal(self.stage, cycle), heal_limit_s)
            except TimeoutError:
                what = f"undoing {label} of cycle {cycle.number} took over {heal_limit_s:.0f} s"
                raise MachineError(f"cell {self.name}: {what}") from None
            finally:
                self._finish(cycle, invalid)

    async def _inject_and_watch(self, fault: Fault, cycle: CycleRun) -> None:
        async with asyncio.timeout(INJECT_LIMIT_S):
            await fault.inject(self.stage, cycle)
        if cycle.fold is None:
            raise MachineError("the fault never said when it began")
        config = self.plan.config
        # Only a prober that no longer delivers makes this limit strike.
        limit_s = config.measure.recovery_limit.s + config.measure.stable_for.s
        async with asyncio.timeout(limit_s + config.probes[0].timeout.s + 30):
            await cycle.over.wait()

    def _finish(self, cycle: CycleRun, invalid: str | None) -> None:
        """Turn what was gathered into the cycle's line."""
        settings, direct = self.plan.settings(), self._direct
        if cycle.fold is not None and not cycle.control:
            moved = phases.move(cycle.events, settings, samples=cycle.samples, direct=direct)
            if (predicted := self.plan.proxy.predict(moved)) is not None:
                cycle.reading("engine", "predicted", **asdict(predicted))
        now_ns = self.clock.now_ns()
        end_ns = now_ns if cycle.over_at_ns is None else cycle.over_at_ns
        unix = (self.clock.unix_ns() - now_ns + end_ns) / SECOND_NS
        cycle.reading(
            "engine", "end", at_ns=end_ns, fault=cycle.label, unix=unix, invalid=invalid, poor=None
        )
        self.cycle, self.recorder.cycle = None, 0
        if direct is not None:
            self._engine.prober.aim(direct, None)
        events, samples, who = cycle.events, cycle.samples, self.identities
        self._engine.finish(
            measure(events, samples, who, settings=settings, stream=self.main, direct=direct)
        )


class Engine:
    """A whole run: cells set up, cycles made, everything taken down again."""

    def __init__(self, plan: Plan, directory: Any, sinks: Sequence[Sink], say: Any) -> None:
        self.plan = plan
        self.clock = plan.runtime.clock()
        self.prober = plan.runtime.prober()
        self.directory = directory
        self._sinks = sinks
        self._say = say
        self._failure: asyncio.Future[None] | None = None
        self._cells: list[CellRun] = []
        self._by_stream: dict[int, CellRun] = {}

    # --- what everybody tells it ---

    def emit(self, event: Event) -> None:
        for sink in self._sinks:
            sink.event(event)

    def finish(self, cycle: Cycle) -> None:
        for sink in self._sinks:
            sink.cycle(cycle)

    def fail(self, error: Exception) -> None:
        """Something died that no fault has killed, or can't be stored: the run ends with it."""
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    def _deliver(self, samples: Sequence[Sample], complete: dict[int, int]) -> None:
        try:
            for sink in self._sinks:
                sink.samples(samples)
        except ChaosdError as error:
            self.fail(error)
        for sample in samples:
            self._by_stream[sample.stream].take(sample)
        for stream, complete_ns in complete.items():
            cell = self._by_stream[stream]
            if stream == cell.main:
                cell.advance(complete_ns)

    # --- the run ---

    async def run(self, stop: asyncio.Event) -> str:
        """Run until stopped or done, and say in a few words why it ended.

        Raises the ChaosdError that ended it, after everything was taken down.
        """
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        work = loop.create_task(self._work())
        stopped = loop.create_task(stop.wait())
        limit = self.plan.config.until.time
        try:
            await asyncio.wait(
                [work, stopped, self._failure],
                timeout=limit.s if limit is not None else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._failure.done():
                reason = "failed"
            elif stopped.done():
                reason = "stopped"
            else:
                reason = "done"
        finally:
            stopped.cancel()
            # Whatever was begun is healed before anything is taken down.
            failure = await self._end(work)
            await uncancelled(self._tear_down(), TEAR_DOWN_LIMIT_S * max(1, len(self._cells)))
        if self._failure.done():
            self._failure.result()
        if failure is not None:
            raise failure
        return reason

    async def _end(self, work: asyncio.Task[None]) -> BaseException | None:
        work.cancel()
        await asyncio.wait([work])
        return None if work.cancelled() else work.exception()

    async def _work(self) -> None:
        runtime = self.plan.runtime
        for what in await runtime.sweep():
            self._say(f"removed what a dead run left behind: {what}")
        await self.prober.start(self._deliver, self.fail)
        await self._set_up()
        stops = [
            self.clock.every(1.0, "flush", self._guarded(self._tick)),
            self.clock.every(POLL_S, "poll", self._guarded(self._poll)),
        ]
        try:
            await self._together([cell.steady() for cell in self._cells])
            for sink in self._sinks:
                sink.ready()
            await self._together([cell.run() for cell in self._cells])
        finally:
            for stop in stops:
                stop()

    async def _set_up(self) -> None:
        stream = 1
        for name in self.plan.cell_names:
            cell = CellRun(self, name, stream)
            stream += len(cell.streams)
            self._cells.append(cell)
            self._by_stream |= dict.fromkeys(cell.streams, cell)
        for first in range(0, len(self._cells), SET_UP_AT_ONCE):
            some = self._cells[first : first + SET_UP_AT_ONCE]
            await self._together([cell.set_up() for cell in some])

    async def _together(self, works: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run these side by side until all are done or one fails.

        In a fixed order, also when they are cancelled (a TaskGroup's order is a set's), so that one
        seed gives one history.
        """
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await uncancelled(_all_done(tasks), HEAL_LIMIT_S + TEAR_DOWN_LIMIT_S)
        for task in tasks:
            if not task.cancelled():
                task.result()

    # --- housekeeping ---

    def _guarded(self, work: Callable[[], Any]) -> Callable[[], Any]:
        """Make a failure of recurring work the run's failure, not a line in a scheduler's log."""

        async def job() -> None:
            try:
                result = work()
                if asyncio.iscoroutine(result):
                    await result
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not vanish
                self.fail(error)

        return job

    def _tick(self) -> None:
        for sink in self._sinks:
            sink.tick()

    async def _poll(self) -> None:
        for cell in self._cells:
            stage, recorder = cell.stage, cell.recorder
            if stage is None:
                continue
            if stage.dns_queries is not None:
                recorder.reading("dns", "queries", count=stage.dns_queries)
            if process := stage.proxy_process():
                recorder.reading("proxy.api", "process", **process)
            if stage.api is not None:
                try:
                    said = await self.plan.proxy.read_api(stage.api)
                except OSError:
                    continue  # a proxy that is gone is noticed elsewhere, one that is slow asked again
                recorder.reading("proxy.api", "resolvers", counters=said["resolvers"])

    async def _tear_down(self) -> None:
        await self.prober.close()
        for cell in self._cells:
            if cell.stage is not None:
                async with cell.recorder.action("tear_down"):
                    await cell.stage.close()
        self.clock.close()


async def _all_done(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
