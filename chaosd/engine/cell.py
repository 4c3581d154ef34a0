"""One cell of a run: its topology, its streams, and the cycle that goes on in it.

For each planned instant it makes a cycle, as cycle_machine.py says: the fault is injected while
samples keep coming in; a fold of those samples tells when the observation is over; the fault is
undone, whatever happened; then the cycle's events and samples become one `Cycle`, by the same pure
function that `chaosd report` uses later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from chaosd.analysis.expected_requests import surprises
from chaosd.analysis.recovery import Identities, measure
from chaosd.analysis.reorder import Reorder
from chaosd.engine import schedule
from chaosd.engine.complaints import Complaints
from chaosd.engine.cycle import CompanionRun, CycleRun
from chaosd.engine.cycle_driver import CycleDriver
from chaosd.engine.cycle_machine import CycleMachine, End, Limits, Span
from chaosd.engine.disturbance import Disturbance
from chaosd.engine.pacing import Pacing
from chaosd.engine.predicting import Answer, Predictor, question
from chaosd.engine.recorder import CellRecorder
from chaosd.engine.server_poller import ServerPoller
from chaosd.engine.world_watch import WorldWatch
from chaosd.errors import MachineError
from chaosd.history import flight_record
from chaosd.history.causes import Cause, CauseKind
from chaosd.history.cycles import Cycle, CycleKind, CycleOutcome, Prediction
from chaosd.history.deeds import SetUp, TearDown
from chaosd.history.events import (
    AnyEvent,
    CycleEnded,
    CycleSkipped,
    Disturbed,
    InstancePlaced,
    InstanceRetired,
    QueriesCounted,
    RecoveryPredicted,
    ServerChanged,
    StreamOpened,
    Teller,
)
from chaosd.history.values import RETIRED, Address, Instance, Outcome, Sample, StreamSpec
from chaosd.plan.arms import Cell, Plan
from chaosd.plan.work import DENSE_BEFORE_NS
from chaosd.plugins.bases import FaultConfig, ProbeConfig, WindowedFaultConfig
from chaosd.plugins.probe import Prober
from chaosd.plugins.runtime import IsFound, Stage, WatchesEntry
from chaosd.report import words
from chaosd.system.clock import SECOND_NS, Clock

# Each wait has a limit; these are far beyond what a healthy machine needs.
STEADY_LIMIT_S = 60.0  # from the first probe until the app answers without a gap
STEADY_SAID_S = 5.0  # then it is said that this is being waited for
INJECT_LIMIT_S = 300.0  # one fault, its grace times included
HEAL_LIMIT_S = 180.0
HEAL_LIMIT_AT_STOP_S = 10.0  # everything is taken down right afterwards anyway
DELIVERY_LIMIT_NS = 30 * SECOND_NS  # until the prober has delivered the last sample of a cycle
KNOWN_AGE_NS_MAX = SECOND_NS  # what is known of the app's answers must not be older than this
IDENTITY_HEADER = "X-Chaosd-Instance"
RETIRED_MAX = 1000  # instances: each lives on for seconds


class Owner(Protocol):
    """What a cell needs of the run that it is part of."""

    plan: Plan
    clock: Clock
    prober: Prober
    directory: Path
    enough: asyncio.Event  # begin no more cycles
    world: WorldWatch
    predictor: Predictor

    @property
    def failing(self) -> bool: ...

    def begins(self, number: int) -> bool: ...

    def say(self, text: str) -> None: ...

    def emit(self, event: AnyEvent) -> None: ...

    def finish(self, cycle: Cycle) -> None: ...

    def fail(self, error: Exception) -> None: ...


class CellRun:
    """One cell of a run: its topology, its streams, and the cycle that goes on in it."""

    def __init__(self, owner: Owner, cell: Cell, first_stream: int) -> None:
        self.plan, self.clock, self.name = owner.plan, owner.clock, cell.name
        self.arm, self.config, self.settings = cell.arm, cell.arm.config, cell.arm.settings()
        self.recorder = CellRecorder(owner.clock, cell.name, self.emit)
        self.faults = cell.arm.faults()
        self._companions = [cell.arm.companions(place) for place in range(len(self.faults))]
        self.identities = Identities()
        self._complaints = Complaints()
        self.cycle: CycleRun | None = None
        self.number = 0
        # What was asked shortly before T0 belongs to the cycle too: it may still be under way, and
        # the last good answer before the outage is one end of it.
        self.recent: deque[Sample] = deque()
        self.steady_since_ns: int | None = None
        self.stage: Stage | None = None
        self.server_poller = ServerPoller(self.arm.proxy, partial(owner.world.looked, cell.name))
        self._owner, self._cell = owner, cell
        self._streams = list(self._specs(first_stream))
        specs = [spec for spec, _ in self._streams]
        stable_for_ns = self.settings.stable_for_ns
        self.pacing = Pacing(specs, owner.prober, self.recorder, stable_for_ns)
        self.main = self._streams[0][0].stream
        self._direct = next((s.stream for s, *_ in self._streams if s.via == "direct"), None)
        self._reorder = Reorder()
        self._complete_ns = 0
        self._last_made = 0
        self._hosts: deque[str] = deque(maxlen=self.config.app.remember_ips)
        self._retired_ns: dict[str, int] = {}  # since when an instance is retired, of the latest

    @property
    def streams(self) -> list[int]:
        return [spec.stream for spec, *_ in self._streams]

    def _specs(self, first: int) -> Iterator[tuple[StreamSpec, ProbeConfig]]:
        config = self.config
        probes = [(probe, "proxy") for probe in config.probes]
        if config.direct is not None:
            probes.append((config.direct_probe(), "direct"))
        for stream, (probe, via) in enumerate(probes, start=first):
            label = "direct" if via == "direct" else probe.label
            interval_ns = probe.rate.interval_ns
            idle_every = (probe if via == "proxy" else config.probes[0]).idle_every
            yield StreamSpec(stream, self.name, label, via, interval_ns, idle_every), probe

    # --- setting up ---

    async def set_up(self) -> None:
        owner = self._owner
        spec = self.plan.spec(self._cell, owner.directory / self.name)
        async with self.recorder.deed(SetUp()):
            try:
                self.stage = await self.plan.runtime.set_up(spec, self.recorder, owner.fail)
            except MachineError as error:
                if said := self._complaints.said(self.clock.now_ns()):
                    raise MachineError(f"{error}; {said}") from None
                raise
        owner.world.watch(self.name, self.stage)
        for stream, probe in self._streams:
            opened = StreamOpened(
                stream=stream.stream,
                cell=self.name,
                probe=stream.probe,
                probe_type=probe.type,
                via=stream.via,
                interval_ns=stream.interval_ns,
                timeout_ns=int(probe.timeout),
                idle_every=stream.idle_every if stream.idle_every > 1 else None,
            )
            self.recorder.record(opened)
            owner.prober.add(stream, probe.type, probe, self._identity_header())
            if stream.via == "proxy":
                owner.prober.aim(stream.stream, self.stage.entry)

    def _identity_header(self) -> str:
        found = self.stage.identity_header if isinstance(self.stage, IsFound) else None
        return found or IDENTITY_HEADER

    def _judge(self, placed: InstancePlaced) -> None:
        """An instance has its address: whether it is a fresh one, and the direct probe is due."""
        host, cycle = placed.ip, self.cycle
        failover = cycle is not None and cycle.kind is CycleKind.FAILOVER
        if failover and host in self._hosts:
            cause = Cause(kind=CauseKind.NOT_FRESH, detail=host)
            self.recorder.record(Disturbed(cause=cause))  # stored now: it may never come to its end
        if host not in self._hosts:
            self._hosts.append(host)
        if cycle is None:
            return
        instance = Instance(placed.identity, Address(host, placed.port))
        cycle.placed(placed.expected or instance.identity, instance)
        if self._direct is not None:
            self.pacing.until_answered(dense=True)
            self._owner.prober.aim(self._direct, instance.address)

    async def tear_down(self) -> None:
        if self.stage is not None:
            async with self.recorder.deed(TearDown()):
                await self.stage.close()

    async def steady(self) -> None:
        """Wait until the app has answered through the proxy for a while without a gap."""
        limit_ns = self.clock.now_ns() + round(STEADY_LIMIT_S * SECOND_NS)
        patience_ns: int | None = self.clock.now_ns() + round(STEADY_SAID_S * SECOND_NS)
        while not self.is_steady():
            if patience_ns is not None and self.clock.now_ns() > patience_ns:
                patience_ns = None
                what = "waiting for the app to answer steadily through the proxy"
                self._owner.say(f"cell {self.name}: {what} ({self._unsteady()})")
            if self.clock.now_ns() > limit_ns:
                raise MachineError(
                    f"cell {self.name}: the app never answered steadily through the proxy within "
                    f"{STEADY_LIMIT_S:.0f} s ({self._unsteady()})"
                )
            await self.clock.sleep_until(self.clock.now_ns() + SECOND_NS // 20)

    def _unsteady(self) -> str:
        """Why it is not, as far as is known: what probes saw, and the proxy's own words.

        A server that the proxy complains of may have nothing to do with it.
        """
        said = self._complaints.said(self.clock.now_ns())
        return f"{self._last_answer()}; the proxy says: {said}" if said else self._last_answer()

    def _last_answer(self) -> str:
        """The last bad one, if there was one of late."""
        if not self.recent:
            return "no probe was sent"
        bad = (each for each in reversed(self.recent) if each.outcome != Outcome.OK or not each.who)
        last = next(bad, self.recent[-1])
        if last.outcome == Outcome.OK and not last.who:
            return (
                f"it answers, but without the header {self._identity_header()}: send its "
                "environment's CHAOSD_IDENTITY in it, or set app.identity: address"
            )
        status = f" with status {last.status}" if last.status else ""
        who = f" by {last.who}" if last.outcome == Outcome.OK else ""
        which = "last probe" if last.outcome == Outcome.OK else "last bad probe"
        return f"the {which} ended as {Outcome(last.outcome).name}{status}{who}"

    def is_steady(self) -> bool:
        """Whether every answer of late was good, as far as is known, and that is not long ago."""
        since_ns, known_ns = self.steady_since_ns, self._complete_ns
        if since_ns is None or self.clock.now_ns() - known_ns > KNOWN_AGE_NS_MAX:
            return False
        return known_ns - since_ns >= self.config.measure.stable_for

    # --- what comes in ---

    def emit(self, event: AnyEvent) -> None:
        self.identities.event(event)
        self._complaints.take(event)
        if self.cycle is not None:
            self.cycle.keep(event)
            if isinstance(event.what, Disturbed):  # not by the fault: it is no sample
                self.cycle.spoil(event.what.cause)
        if isinstance(event.what, ServerChanged) and event.what.told_by is Teller.LOG:
            self.server_poller.log_tells = True
        self._owner.emit(event)
        if isinstance(event.what, InstancePlaced):
            self._judge(event.what)
        if isinstance(event.what, InstanceRetired):
            self._retired_ns[event.what.identity] = event.at_ns
            if len(self._retired_ns) > RETIRED_MAX:
                del self._retired_ns[next(iter(self._retired_ns))]

    def attributed(self, sample: Sample) -> Sample:
        """The same sample; what a retired instance answered is not the app's any more.

        That holds for requests that were scheduled since then, and is stored with them.
        """
        retired_ns = self._retired_ns.get(sample.who)
        if retired_ns is None or sample.scheduled_ns < retired_ns:
            return sample
        return sample._replace(who=sample.who + RETIRED)

    def take(self, sample: Sample) -> None:
        if sample.stream == self.main:
            self._reorder.push(sample)
            self.recent.append(sample)
        cycle = self.cycle
        if cycle is None or sample.stream not in (self.main, self._direct):
            return
        cycle.samples.append(sample)
        new = None if cycle.fold is None else cycle.fold.new
        if new is None:
            return
        if sample.stream == self.main:
            good = sample.outcome == Outcome.OK and sample.who in self.identities
            self.pacing.heard(sample, good=good, new=good and sample.who == new)
        elif sample.who == new:
            self.pacing.until_answered(dense=False)

    def advance(self, complete_ns: int) -> None:
        """Every sample of the measuring stream scheduled before this instant has come in."""
        self._complete_ns = complete_ns
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
        if cycle is not None:
            cycle.advance(complete_ns)
        lookback_ns = self.settings.lookback_ns
        while self.recent and self.recent[0].scheduled_ns < complete_ns - lookback_ns:
            self.recent.popleft()

    # --- cycles ---

    async def run(self) -> None:
        """Walk through the plan until enough cycles were made."""
        config, clock = self.config, self.clock
        made = 0
        for at_ns, place in self._times():
            if config.until.cycles is not None and made >= config.until.cycles:
                return
            cause = self._overlap(at_ns) if at_ns < clock.now_ns() else None
            if await self._enough_before(at_ns - DENSE_BEFORE_NS):
                return
            if cause is None and not self._owner.begins(self.number + 1):
                cause = Cause(kind=CauseKind.MACHINE_LATE)
            self.pacing.around_fault(dense=cause is None)
            if await self._enough_before(at_ns):
                return
            if cause is not None:
                self._skip(place, at_ns, cause)
                continue
            await self._make_cycle(place)
            made += 1

    def _times(self) -> Iterator[tuple[int, int]]:
        """When each fault comes, by its place in the config.

        Where arms are compared, the first cells of all arms have one schedule, and their cycles of
        one number are a block; the second cells have another one, independent of it. In a block
        cells begin shortly after each other, in an order that is drawn anew.
        """
        plan = self.plan
        blocked = plan.is_blocked
        arms = plan.arms if blocked else (self.arm,)
        timers_s = [arm.proxy.timers_s() for arm in arms]
        who, names, place = plan.schedule_of(self.name)
        # By the run's labels: an arm's may differ, by what comes with a fault.
        times = schedule.merged(
            [
                schedule.instants(f, self.clock, plan.rng(who, f.label), timers_s, place)
                for f in plan.config.faults
            ]
        )
        if not blocked:
            return times
        return schedule.staggered(times, names, self.name, plan.rng("order", who))

    async def _enough_before(self, at_ns: int) -> bool:
        """Sleep until then, unless the run has had enough before: then say so."""
        loop = asyncio.get_running_loop()
        waits: list[asyncio.Task[Any]] = [
            loop.create_task(self.clock.sleep_until(at_ns)),
            loop.create_task(self._owner.enough.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._owner.enough.is_set()

    def _overlap(self, planned_ns: int) -> Cause:
        """Why a cycle is skipped whose time has passed: mostly, the one before had not settled."""
        if self._last_made:
            return Cause(kind=CauseKind.NOT_SETTLED, cycle=self._last_made)
        passed_s = (self.clock.now_ns() - planned_ns) / SECOND_NS
        return Cause(kind=CauseKind.TIME_PASSED, seconds=passed_s)

    def _skip(self, place: int, planned_ns: int, cause: Cause) -> None:
        """Record that this planned cycle is not made."""
        clock, label = self.clock, self.config.faults[place].label
        self.number += 1
        self.recorder.cycle = self.number
        self.recorder.record(CycleSkipped(fault=label, planned_ns=planned_ns, cause=cause))
        self.recorder.cycle = 0
        planned_unix_ns = clock.unix_ns() - (clock.now_ns() - planned_ns)
        self._owner.finish(
            Cycle(
                cycle=self.number,
                cell=self.name,
                fault=label,
                runtime=self.plan.runtime_name,
                proxy=self.settings.proxy,
                outcome=CycleOutcome.SKIPPED,
                t0_unix=planned_unix_ns / SECOND_NS,
                t0_ns=planned_ns,
                end_ns=planned_ns,
                kind=self.faults[place].kind,
                arm=self.arm.name,
                cause=cause,
            )
        )

    async def _make_cycle(self, place: int) -> None:
        fault, part = self.faults[place], self.config.faults[place]
        company = part.companions
        self.number += 1
        self.recorder.cycle = self._last_made = self.number
        self._count_queries()
        self.cycle = cycle = CycleRun(self, fault, part.label, tuple(c.label for c in company))
        if self._direct is not None and isinstance(self.stage, IsFound):
            self._owner.prober.aim(self._direct, self.stage.direct)
        machine = CycleMachine([_span(each) for each in (part, *company)], self._limits())
        disturbances = [Disturbance(fault, self.stage, cycle)]
        for which, (other, each) in enumerate(
            zip(self._companions[place], company, strict=True), start=1
        ):
            seen = CompanionRun(cycle, each.label, which, self)
            disturbances.append(Disturbance(other, self.stage, seen))
        driver = CycleDriver(cycle, machine, disturbances, self._owner)
        api = self.stage.api if self.stage is not None else None
        if (shared := self._entry_shared()) is not None:
            self.recorder.record(Disturbed(cause=shared))  # it may never come to its end
        try:
            unsteady = None if self.is_steady() else self._unsteady()
            await driver.run(unsteady=unsteady, poller=self.server_poller, api=api)
            self._count_queries()
        finally:
            spoilt = driver.end.cause or shared or self._entry_shared() or cycle.outlasted()
            end_ns, predicted = self._close(cycle, driver.end)
            try:
                if not predicted.done():
                    await asyncio.shield(asyncio.wrap_future(predicted))
            finally:  # it has its line, even if the model fails
                answer = None if predicted.exception() else predicted.result()
                self._finish(cycle, end_ns, answer, spoilt)
            predicted.result()

    def _count_queries(self) -> None:
        """Store the count at a cycle's edges, too: what it costs is told from what rest costs."""
        if self.stage is not None and self.stage.dns_queries is not None:
            self.recorder.record(QueriesCounted(count=self.stage.dns_queries))

    def _limits(self) -> Limits:
        config = self.config
        observe_ns = config.measure.recovery_limit + config.measure.stable_for
        return Limits(
            enter_ns=round(INJECT_LIMIT_S * SECOND_NS) + 2 * config.app.ready_timeout,
            observe_ns=observe_ns + config.probes[0].timeout + DELIVERY_LIMIT_NS,
            undo_ns=round(HEAL_LIMIT_S * SECOND_NS),
            undo_at_stop_ns=round(HEAL_LIMIT_AT_STOP_S * SECOND_NS),
        )

    def _entry_shared(self) -> Cause | None:
        """Why no answer can be trusted: a stranger gets a part of the probes' connections."""
        stage = self.stage
        if not isinstance(stage, WatchesEntry):
            return None
        if not self._owner.world.was_shared(self.name) and not stage.is_entry_shared():
            return None
        return Cause(kind=CauseKind.ENTRY_SHARED, detail=str(stage.entry))

    def _close(self, cycle: CycleRun, end: End) -> tuple[int, Future[Answer]]:
        """Gather no more for it. Returns when it ended, and what is predicted for it."""
        cycle.write_begin()
        self._owner.world.tell(cycle)
        end_ns = end.over_ns
        if end_ns is None:  # cut off: what was still under way does not count
            fold, now_ns = cycle.fold, self.clock.now_ns()
            end_ns = now_ns if fold is None else max(fold.t0_ns, self._complete_ns)
        self.cycle, self.recorder.cycle = None, 0
        self.pacing.around_fault(dense=False)
        if self._direct is not None:
            self._owner.prober.aim(self._direct, None)
        asked = question(cycle, end_ns, self.arm, main=self.main, direct=self._direct)
        return end_ns, self._owner.predictor.submit(asked)

    def _finish(
        self, cycle: CycleRun, end_ns: int, predicted: Answer, spoilt: Cause | None
    ) -> None:
        """Turn what was gathered into the cycle's line."""
        if isinstance(predicted, Prediction):
            cycle.add(RecoveryPredicted(prediction=predicted), at_ns=self.clock.now_ns())
        unix = (self.clock.unix_ns() - self.clock.now_ns() + end_ns) / SECOND_NS
        cycle.add(CycleEnded(fault=cycle.label, unix=unix, cause=spoilt), at_ns=end_ns)
        events, samples, who = cycle.events, cycle.samples, self.identities
        measured = measure(
            events, samples, who, settings=self.settings, stream=self.main, direct=self._direct
        )
        self._owner.finish(measured)
        surprising = bool(surprises(measured))
        kind = flight_record.suspicion(measured, surprising=surprising)
        if kind is not None:
            where, why = self._owner.directory, words.suspicion(kind)
            flight_record.write(where, measured, kind, events, samples, why=why)


def _span(part: FaultConfig) -> Span:
    window = part.window if isinstance(part, WindowedFaultConfig) else None
    return Span(at_ns=part.offset, window_ns=window)
