"""One cell of a run: its topology, its streams, and the cycle that goes on in it.

For each planned instant it makes a cycle: the fault is injected while samples keep coming in; a
fold of those samples tells when the observation is over; the fault is healed, whatever happened;
then the cycle's events and samples become one `Cycle`, by the same pure function that
`chaosd report` uses later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from chaosd.analysis import phases
from chaosd.analysis.recovery import STOPPED, Identities, RecoveryFold, Reorder, measure
from chaosd.engine import schedule
from chaosd.engine.recorder import CellRecorder
from chaosd.engine.server_poller import Watch
from chaosd.errors import ChaosdError, MachineError
from chaosd.history import flight_record
from chaosd.history.events import (
    Action,
    Cycle,
    CycleOutcome,
    Event,
    Instance,
    Outcome,
    Prediction,
    Reading,
    Sample,
    StreamSpec,
)
from chaosd.plan import Plan
from chaosd.plugins.bases import ProbeConfig
from chaosd.plugins.fault import Fault
from chaosd.plugins.probe import Prober
from chaosd.plugins.runtime import IsFound, Stage
from chaosd.system.clock import SECOND_NS, Clock
from chaosd.system.tasks import uncancelled

# Each wait has a limit; these are far beyond what a healthy machine needs.
STEADY_LIMIT_S = 60.0  # from the first probe until the app answers without a gap
STEADY_SAID_S = 5.0  # then it is said that this is being waited for
INJECT_LIMIT_S = 300.0  # one fault, its grace times included
HEAL_LIMIT_S = 180.0
HEAL_LIMIT_AT_STOP_S = 10.0  # everything is taken down right afterwards anyway
EVENTS_PER_CYCLE_MAX = 10_000
KNOWN_AGE_NS_MAX = SECOND_NS  # what is known of the app's answers must not be older than this
FAILED = "the run ended with an error in the middle of it"
IDENTITY_HEADER = "X-Chaosd-Instance"


class Owner(Protocol):
    """What a cell needs of the run that it is part of."""

    plan: Plan
    clock: Clock
    prober: Prober
    directory: Path
    enough: asyncio.Event  # begin no more cycles

    @property
    def failing(self) -> bool: ...

    def say(self, text: str) -> None: ...

    def emit(self, event: Event) -> None: ...

    def finish(self, cycle: Cycle) -> None: ...

    def fail(self, error: Exception) -> None: ...


class CycleRun(CellRecorder):
    """A cycle while it goes on: what its fault sees of it, and what it has gathered so far."""

    def __init__(self, cell: CellRun, fault: Fault, label: str) -> None:
        super().__init__(cell.clock, cell.name, cell.emit)
        self.run = cell.plan.run_id
        self.number = self.cycle = cell.recorder.cycle
        self.control = fault.control
        self.label = label
        self.fold: RecoveryFold | None = None
        self.events: list[Event] = []
        self.samples: list[Sample] = list(cell.recent)
        self.over = asyncio.Event()
        self.over_at_ns: int | None = None
        self.invalid: str | None = None  # why this is no sample
        self.ending = False
        self._begin: Reading | None = None  # not yet written
        self._cell = cell

    def keep(self, event: Event) -> None:
        """Keep it for the measuring, unless the world says far too much."""
        ours = isinstance(event, Action) or event.source == "engine"
        if ours or len(self.events) < EVENTS_PER_CYCLE_MAX:
            self.events.append(event)

    def expect(self, instance: Instance) -> None:
        self._cell.expect(instance)

    def begin(self, *, old: Instance | None, new: Instance | None) -> None:
        cell = self._cell
        if new is not None and new.identity not in cell.identities:
            cell.expect(new)
        data: dict[str, Any] = {
            "fault": self.label,
            "control": self.control,
            "old": old.identity if old else None,
            "old_ip": old.address.host if old else None,
            "new": new.identity if new else None,
            "new_ip": new.address.host if new else None,
            "t0_unix": self.clock.unix_ns() / SECOND_NS,
        }
        # A slow disk must not become part of the recovery: it is written once the deed is done.
        asyncio.get_running_loop().call_soon(self.write_begin)
        t0_ns = self.clock.now_ns()
        self._begin = Reading(
            at_ns=t0_ns, cell=cell.name, cycle=self.number, source="engine", what="begin", data=data
        )
        unknown = new is None and not self.control
        self.fold = RecoveryFold(
            t0_ns, data["new"], cell.identities, cell.plan.settings(), unknown=unknown
        )

    def write_begin(self) -> None:
        """Write down T0, if that has not been done."""
        begin, self._begin = self._begin, None
        if begin is not None:
            with suppress(ChaosdError):  # it has ended the run
                self._cell.emit(begin)


class CellRun:
    """One cell of a run: its topology, its streams, and the cycle that goes on in it."""

    def __init__(self, owner: Owner, name: str, first_stream: int) -> None:
        self.plan, self.clock, self.name = owner.plan, owner.clock, name
        self.recorder = CellRecorder(owner.clock, name, self.emit)
        self.faults = owner.plan.faults()
        self.identities = Identities()
        self.cycle: CycleRun | None = None
        self.number = 0
        # What was asked shortly before T0 belongs to the cycle too: it may still be under way, and
        # the last good answer before the outage is one end of it.
        self.recent: deque[Sample] = deque()
        self.steady_since_ns: int | None = None
        self.stage: Stage | None = None
        self.watch = Watch(self.plan.proxy)
        self._owner = owner
        self._streams = list(self._specs(first_stream))
        self.main = self._streams[0][0].stream
        self._direct = next((s.stream for s, *_ in self._streams if s.via == "direct"), None)
        self._reorder = Reorder()
        self._complete_ns = 0
        self._last_made = 0
        self._hosts: deque[str] = deque(maxlen=self.plan.config.app.remember_ips)

    @property
    def streams(self) -> list[int]:
        return [spec.stream for spec, *_ in self._streams]

    def _specs(self, first: int) -> Iterator[tuple[StreamSpec, ProbeConfig]]:
        config = self.plan.config
        probes = [(probe, "proxy") for probe in config.probes]
        if config.direct is not None:
            probes.append((config.direct_probe(), "direct"))
        for stream, (probe, via) in enumerate(probes, start=first):
            label = "direct" if via == "direct" else probe.label
            yield StreamSpec(stream, self.name, label, via, probe.rate.interval_ns), probe

    # --- setting up ---

    async def set_up(self) -> None:
        owner = self._owner
        spec = self.plan.cell(self.name, owner.directory / self.name)
        async with self.recorder.action("set_up"):
            self.stage = await self.plan.runtime.set_up(spec, self.recorder, owner.fail)
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
            owner.prober.add(stream, probe.type, probe, self._identity_header())
            if stream.via == "proxy":
                owner.prober.aim(stream.stream, self.stage.entry)

    def _identity_header(self) -> str:
        found = self.stage.identity_header if isinstance(self.stage, IsFound) else None
        return found or IDENTITY_HEADER

    def expect(self, instance: Instance) -> None:
        host = instance.address.host
        if self.cycle is not None and not self.cycle.control and host in self._hosts:
            self.cycle.invalid = f"{host} is not a fresh IP: it was in use lately"
        if host not in self._hosts:
            self._hosts.append(host)
        recorder = self.cycle or self.recorder
        recorder.reading(
            "engine",
            "instance",
            identity=instance.identity,
            ip=instance.address.host,
            port=instance.address.port,
        )
        if self._direct is not None and self.cycle is not None:
            self._owner.prober.aim(self._direct, instance.address)

    async def tear_down(self) -> None:
        if self.stage is not None:
            async with self.recorder.action("tear_down"):
                await self.stage.close()

    async def steady(self) -> None:
        """Wait until the app has answered through the proxy for a while without a gap."""
        limit_ns = self.clock.now_ns() + round(STEADY_LIMIT_S * SECOND_NS)
        patience_ns: int | None = self.clock.now_ns() + round(STEADY_SAID_S * SECOND_NS)
        while not self.is_steady():
            if patience_ns is not None and self.clock.now_ns() > patience_ns:
                patience_ns = None
                what = "waiting for the app to answer steadily through the proxy"
                self._owner.say(f"cell {self.name}: {what} ({self._last_answer()})")
            if self.clock.now_ns() > limit_ns:
                raise MachineError(
                    f"cell {self.name}: the app never answered steadily through the proxy within "
                    f"{STEADY_LIMIT_S:.0f} s ({self._last_answer()})"
                )
            await self.clock.sleep_until(self.clock.now_ns() + SECOND_NS // 20)

    def _last_answer(self) -> str:
        if not self.recent:
            return "no probe was sent"
        last = self.recent[-1]
        if last.outcome == Outcome.OK and not last.who:
            return (
                f"it answers, but without the header {self._identity_header()}: send its "
                "environment's CHAOSD_IDENTITY in it, or set app.identity: address"
            )
        status = f" with status {last.status}" if last.status else ""
        who = f" by {last.who}" if last.outcome == Outcome.OK else ""
        return f"the last probe ended as {Outcome(last.outcome).name}{status}{who}"

    def is_steady(self) -> bool:
        """Whether every answer of late was good, as far as is known, and that is not long ago."""
        since_ns, known_ns = self.steady_since_ns, self._complete_ns
        if since_ns is None or self.clock.now_ns() - known_ns > KNOWN_AGE_NS_MAX:
            return False
        return known_ns - since_ns >= self.plan.config.measure.stable_for

    # --- what comes in ---

    def emit(self, event: Event) -> None:
        self.identities.event(event)
        if self.cycle is not None:
            self.cycle.keep(event)
            if isinstance(event, Reading) and event.what == "disturbed":
                self.cycle.invalid = event.data["reason"]  # not by the fault: it is no sample
        self._owner.emit(event)

    def take(self, sample: Sample) -> None:
        if sample.stream == self.main:
            self._reorder.push(sample)
            self.recent.append(sample)
        if self.cycle is not None and sample.stream in (self.main, self._direct):
            self.cycle.samples.append(sample)

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
        if cycle is not None and fold is not None and cycle.over_at_ns is None:
            cycle.over_at_ns = fold.over_at_ns(complete_ns)
            if cycle.over_at_ns is not None:
                cycle.over.set()
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
            late = at_ns < clock.now_ns()
            if await self._enough_before(at_ns):
                return
            if late:
                self._skip(place, at_ns)
                continue
            await self._make_cycle(place)
            made += 1

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

    def _skip(self, place: int, planned_ns: int) -> None:
        """Record that this cycle's time came while the one before it had not settled."""
        clock, label = self.clock, self.plan.config.faults[place].label
        reason = f"cycle {self._last_made} had not settled"
        if not self._last_made:
            reason = f"its time had passed by {(clock.now_ns() - planned_ns) / SECOND_NS:.3f} s"
        self.number += 1
        self.recorder.cycle = self.number
        self.recorder.reading(
            "engine", "skipped", fault=label, reason=reason, planned_ns=planned_ns
        )
        self.recorder.cycle = 0
        planned_unix_ns = clock.unix_ns() - (clock.now_ns() - planned_ns)
        self._owner.finish(
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
        self.recorder.cycle = self._last_made = self.number
        self.cycle = cycle = CycleRun(self, fault, label)
        if self._direct is not None and isinstance(self.stage, IsFound):
            self._owner.prober.aim(self._direct, self.stage.direct)
        try:
            if self.is_steady():
                api = self.stage.api if self.stage is not None else None
                async with self.watch.closely(api, cycle):
                    await self._inject_and_watch(fault, cycle)
            else:
                cycle.invalid = "the app did not answer steadily before it"
        except (MachineError, OSError) as error:
            cycle.invalid = str(error) or type(error).__name__
        except asyncio.CancelledError:
            cycle.invalid = FAILED if self._owner.failing else f"{STOPPED} in the middle of it"
            cycle.ending = True
            raise
        except Exception as error:
            cycle.invalid = f"{type(error).__name__}: {error}"
            raise
        finally:
            try:
                await self._heal(fault, cycle)
            finally:
                self._finish(cycle)

    async def _inject_and_watch(self, fault: Fault, cycle: CycleRun) -> None:
        config = self.plan.config
        limit_s = INJECT_LIMIT_S + 2 * config.app.ready_timeout.s
        try:
            async with asyncio.timeout(limit_s):
                await fault.inject(self.stage, cycle)
        except TimeoutError:
            raise MachineError(f"the fault took more than {limit_s:.0f} s") from None
        if cycle.fold is None:
            raise MachineError("the fault never said when it began")
        if cycle.fold.unknown:
            now_ns = self.clock.now_ns()
            cycle.reading("engine", "injected", at_ns=now_ns)
            cycle.fold.injected(now_ns)
        limit_s = config.measure.recovery_limit.s + config.measure.stable_for.s
        try:
            async with asyncio.timeout(limit_s + config.probes[0].timeout.s + 30):
                await cycle.over.wait()
        except TimeoutError:
            self._owner.fail(
                MachineError(f"cell {self.name}: the prober delivers nothing any more")
            )
            raise MachineError("the prober delivers nothing any more") from None

    async def _heal(self, fault: Fault, cycle: CycleRun) -> None:
        """Undo what the fault did, whatever happened. Raises MachineError if that fails."""
        limit_s = HEAL_LIMIT_AT_STOP_S if cycle.ending else HEAL_LIMIT_S
        try:
            await uncancelled(fault.heal(self.stage, cycle), limit_s)
        except (MachineError, OSError, TimeoutError) as error:
            why = str(error) or f"it took over {limit_s:.0f} s"
            cycle.invalid = cycle.invalid or f"it could not be undone: {why}"
            if not cycle.ending:  # else all is taken down now anyway
                what = f"cell {self.name}: cycle {cycle.number}: {cycle.label} can't be undone"
                raise MachineError(f"{what}: {why}") from None

    def _finish(self, cycle: CycleRun) -> None:
        """Turn what was gathered into the cycle's line."""
        cycle.write_begin()
        settings, direct, invalid = self.plan.settings(), self._direct, cycle.invalid
        if cycle.fold is not None and not cycle.control:
            moved = phases.move(
                cycle.events,
                missing_class=self.plan.config.dns.missing,
                dns_s=self.plan.config.dns.delay.s,
                samples=cycle.samples,
                direct=direct,
            )
            predicted = self.plan.proxy.predict(moved)
            if isinstance(predicted, Prediction):
                cycle.reading("engine", "predicted", **asdict(predicted))
        now_ns = self.clock.now_ns()
        end_ns = cycle.over_at_ns
        if end_ns is None:  # cut off: what was still under way does not count
            end_ns = now_ns if cycle.fold is None else max(cycle.fold.t0_ns, self._complete_ns)
        unix = (self.clock.unix_ns() - now_ns + end_ns) / SECOND_NS
        cycle.reading("engine", "end", at_ns=end_ns, fault=cycle.label, unix=unix, invalid=invalid)
        self.cycle, self.recorder.cycle = None, 0
        if direct is not None:
            self._owner.prober.aim(direct, None)
        events, samples, who = cycle.events, cycle.samples, self.identities
        measured = measure(events, samples, who, settings=settings, stream=self.main, direct=direct)
        self._owner.finish(measured)
        if flight_record.reason(measured) is not None:
            flight_record.write(self._owner.directory, measured, events, samples)
