"""The one loop: cells set up, cycles made, everything taken down again. Plan in, events out.

Theory of operation. Cells are set up until all stand or the machine carries no more (see
`admission.py`). Each cell has a task that walks through the merged plan of its faults (see
`cell.py`). Everything is said to the sinks at once, so that what was asked for is stored before it
is done. Whatever ends a run, a stop, a failure or enough cycles, first the cells undo what they
did, then the prober and the topologies are taken down.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chaosd.analysis.precision import Precision, half_width
from chaosd.engine.admission import Admission, Carried
from chaosd.engine.cell import HEAL_LIMIT_S, INJECT_LIMIT_S, CellRun
from chaosd.engine.easing import Cpu, Easing, Late
from chaosd.engine.predicting import Predictor
from chaosd.engine.sink import Sink
from chaosd.engine.world_watch import WorldWatch
from chaosd.errors import AwayError, ChaosdError, MachineError
from chaosd.history.cycles import Cycle, CycleOutcome, is_only
from chaosd.history.endings import EndKind
from chaosd.history.events import AnyEvent, ProxyMeasured, QueriesCounted, ResolversRead
from chaosd.history.values import Sample
from chaosd.plan import limits
from chaosd.plan.arms import Plan
from chaosd.plan.work import Work
from chaosd.report import words
from chaosd.system import usage
from chaosd.system.clock import SECOND_NS, RealClock
from chaosd.system.tasks import together, uncancelled
from chaosd.units import Duration

# Each wait has a limit; these are far beyond what a healthy machine needs.
TEAR_DOWN_LIMIT_S = 30.0
END_LIMIT_S = HEAL_LIMIT_S + TEAR_DOWN_LIMIT_S
AWAY_LIMIT_S = 15.0  # for all that ends where nothing can be undone any more
TICK_AGE_NS_MAX = 3 * SECOND_NS  # a scheduler on the wall clock stands still when that is set back
POLL_S = 5.0  # how often the proxy's counters and size are read
SET_UP_AT_ONCE = 8  # cells
MEASURED_FIRST = 4  # before there are more of them


class Engine:
    """A whole run: cells set up, cycles made, everything taken down again."""

    def __init__(self, plan: Plan, directory: Path, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.clock = plan.runtime.clock()
        self.prober = plan.runtime.prober()
        self.world = WorldWatch(self.clock)
        self.predictor = Predictor(self.clock)
        self.directory = directory
        self._sinks: Sequence[Sink] = ()
        self.say = say
        self._mute = False
        self._ticked_ns = 0
        self.enough = asyncio.Event()
        precision, goals = plan.config.until.precision, plan.config.slo.objectives()
        self._precision = (
            None
            if precision is None
            else {arm.name: Precision(precision, goals) for arm in plan.arms}
        )
        self._alarmed: set[limits.Limit] = set()  # has been said
        self._easing = Easing(self._cpu, len(plan.cells))
        self._failure: asyncio.Future[None] | None = None
        # Told which cells are left out, and why, once that is known.
        self.admitted: Callable[[Sequence[str], dict[str, Any]], None] = lambda _, __: None
        self._cells: list[CellRun] = []  # those that stand, or are being set up
        self._by_stream: dict[int, CellRun] = {}

    # --- what everybody tells it ---

    def emit(self, event: AnyEvent) -> None:
        self.world.event(event)
        self._tell(lambda sink: sink.event(event))

    def finish(self, cycle: Cycle) -> None:
        self._tell(lambda sink: sink.cycle(cycle))
        if cycle.outcome not in (CycleOutcome.INVALID, CycleOutcome.SKIPPED):
            late = self._easing.ended(cycle.doubt)
            if late is not None:
                self._say_late(late, cycle.proxy)
        if self._precision is None:
            return
        self._precision[cycle.arm].add(cycle)
        reached = [precision.reached for precision in self._precision.values()]
        if all(reached) and not self.enough.is_set():
            widths = [half_width(precision.p95()) or 0.0 for precision in self._precision.values()]
            of_each = " of every arm" if len(widths) > 1 else ""
            self.say(f"p95{of_each} is known to ± {max(widths):.1%}: no more cycles")
            self.enough.set()

    def begins(self, number: int) -> bool:
        """Whether the cycle of this number is begun: fewer are where the machine is late by us."""
        return self._easing.begins(number)

    def _cpu(self) -> Cpu:
        """What has been used: on an engine elsewhere nobody can tell ours from others'."""
        if not isinstance(self.clock, RealClock):
            return Cpu(0.0, 0.0)
        used = usage.used()
        ours = used.cpu_s if self.plan.runtime.runs_programs else used.machine_cpu_s
        return Cpu(ours, used.machine_cpu_s)

    def _say_late(self, late: Late, proxy: str) -> None:
        why = words.doubt(late.latest, proxy)
        what = "this machine does not carry as much, so fewer cycles are made for now"
        if not late.eased:
            what = f"other programs use {1 - late.ours_share:.0%} of the CPU that is used"
        self.say(f"{late.late} of the last {late.judged} cycles are poor ({why}): {what}")

    def _tell(self, say: Callable[[Sink], None]) -> None:
        """Tell every sink. One that can't take it ends the run.

        What can't be stored must not be done, so the first failure is raised; but what was done
        must be undone although it can't be stored any more, so later ones are not.
        """
        for sink in self._sinks:
            try:
                say(sink)
            except ChaosdError as error:
                if not self._mute:
                    self._mute = True
                    self.fail(error)
                    raise

    @property
    def failing(self) -> bool:
        """Whether the run is ending because something went wrong."""
        return self._failure is not None and self._failure.done()

    def fail(self, error: Exception) -> None:
        """Something died that no fault has killed, or can't be stored: the run ends with it."""
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    def _deliver(self, samples: Sequence[Sample], complete: dict[int, int]) -> None:
        if self.clock.now_ns() - self._ticked_ns > TICK_AGE_NS_MAX:
            self._tick()
        samples = [self._by_stream[sample.stream].attributed(sample) for sample in samples]
        with suppress(ChaosdError):  # it has ended the run; the samples still end the cycle
            self._tell(lambda sink: sink.samples(samples))
        for sample in samples:
            self._by_stream[sample.stream].take(sample)
        for stream, complete_ns in complete.items():
            cell = self._by_stream[stream]
            if stream == cell.main:
                cell.advance(complete_ns)

    # --- the run ---

    async def run(self, sinks: Sequence[Sink], stop: asyncio.Event) -> EndKind:
        """Run until stopped or done, and tell which.

        Raises the ChaosdError that ended it, after everything was taken down.
        """
        self._sinks = sinks
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        work = loop.create_task(self._work())
        stopped = loop.create_task(stop.wait())
        endings: list[asyncio.Future[Any]] = [work, stopped, self._failure]
        try:
            await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
            ended = EndKind.STOPPED if stopped.done() else EndKind.DONE
        finally:
            stopped.cancel()
            # Whatever was begun is healed before anything is taken down.
            failure = await self._end(work)
            await self._take_down()
        if self._failure.done():
            self._failure.result()
        if failure is not None:
            raise failure
        wanted = self.plan.config.until.precision
        for name, precision in (self._precision or {}).items():
            if not precision.reached:
                arm = "" if is_only(name) else f" by arm {name}"
                why = words.shortfall(precision.shortfall())
                self.say(f"until.precision ({wanted}) was not reached{arm}: {why}")
        return ended

    def _settle_limit(self) -> Duration:
        """How long a cycle may take from when its fault is planned to when all of it is known."""
        config = self.plan.config
        limit_ns = config.measure.recovery_limit + config.probes[0].timeout
        return Duration(limit_ns + round(INJECT_LIMIT_S * SECOND_NS))

    async def _end(self, work: asyncio.Task[None]) -> BaseException | None:
        work.cancel()
        await self._unless_away(work)
        if not work.done():
            return None
        return None if work.cancelled() else work.exception()

    async def _take_down(self) -> None:
        """Tear down, however this is cancelled meanwhile. Raises what failed first."""
        limit_s = TEAR_DOWN_LIMIT_S * max(1, len(self._cells))
        task = asyncio.get_running_loop().create_task(self._tear_down())
        try:
            await uncancelled(self._unless_away(task), limit_s)
            if task.done():
                task.result()
        except TimeoutError:
            what = f"taking everything down is not done after {limit_s:.0f} s"
            raise MachineError(f"{what}; `chaosd clean` removes what is left") from None
        finally:
            task.cancel()

    async def _unless_away(self, task: asyncio.Task[None]) -> None:
        """Wait for this, and for a few seconds only once what the run lives on is away.

        Each step of it has its own limit, but there are many steps, of many cells.
        """
        assert self._failure is not None  # noqa: S101 - the run has begun
        await asyncio.wait([task, self._failure], return_when=asyncio.FIRST_COMPLETED)
        is_away = self._failure.done() and isinstance(self._failure.exception(), AwayError)
        await asyncio.wait([task], timeout=AWAY_LIMIT_S if is_away else None)

    async def _work(self) -> None:
        runtime = self.plan.runtime
        for what in await runtime.sweep():
            self.say(f"removed what a dead run left behind: {what}")
        await self.prober.start(self._deliver, self.fail)
        stops = [
            self.world.start(self.fail),
            self.clock.every(1.0, "flush", self._guarded(self._tick)),
            self.clock.every(POLL_S, "poll", self._guarded(self._poll)),
        ]
        try:
            await self._turns()
        finally:
            for stop in stops:
                stop()

    async def _turns(self) -> None:
        """Run all cells side by side, or, where there are too many arms for that, in turns."""
        planned = self._plan_cells()
        wanted = len(planned)
        left_out: list[str] = []
        turn = 0
        while planned:
            turn += 1
            standing, lacks = await self._set_up(planned)
            arms = {cell.arm.name for cell in standing}
            rest = [cell for cell in planned if cell.arm.name not in arms]
            names = {cell.name for cell in standing}
            mine = [cell.name for cell in planned if cell.arm.name in arms]
            left_out += [name for name in mine if name not in names]
            if lacks:
                self._say_fewer(standing, planned, rest, lacks)
                facts = {"wanted": wanted, "left_out": len(left_out), "lacks": lacks}
                self.admitted(left_out, facts | {"turns": turn + (1 if rest else 0)})
            await self._run_cells(ready=turn == 1)
            planned = rest
            if rest:
                await self._close_cells(standing)

    def _say_fewer(
        self,
        standing: Sequence[CellRun],
        planned: Sequence[CellRun],
        rest: Sequence[CellRun],
        lacks: str,
    ) -> None:
        """Say in one line what of this is run now, and what becomes of the rest."""
        arms = len({cell.arm.name for cell in planned})
        if rest:
            now = len({cell.arm.name for cell in standing})
            what = f"{now} of {arms} arms at once: the others come after them, with all their time"
        else:
            what = f"{len(standing)} of {len(planned)} cells at once: the others are not started"
        self.say(f"this machine carries {what} (for more it lacks {lacks})")

    async def _run_cells(self, *, ready: bool) -> None:
        """Make the cycles of the cells that stand, for as long as is wanted."""
        await together([cell.steady() for cell in self._cells], END_LIMIT_S)
        if ready:
            self._tell(lambda sink: sink.ready())
        if isinstance(self.clock, RealClock):
            _keep_for_good()
        running = asyncio.get_running_loop().create_task(
            together([cell.run() for cell in self._cells], END_LIMIT_S)
        )
        until = self.plan.config.until.time
        try:
            await asyncio.wait([running], timeout=None if until is None else until.s)
            if not running.done():
                # Time is up: what goes on may settle, for the longest recoveries would be lost.
                self.enough.set()
                await asyncio.wait([running], timeout=self._settle_limit().s)
        finally:
            running.cancel()
            await asyncio.wait([running])
        self.enough.clear()
        if not running.cancelled():
            running.result()

    def _plan_cells(self) -> list[CellRun]:
        cells, stream = [], 1
        for one in self.plan.cells:
            cell = CellRun(self, one, stream)
            stream += len(cell.streams)
            cells.append(cell)
            self._by_stream |= dict.fromkeys(cell.streams, cell)
        return cells

    async def _set_up(self, planned: Sequence[CellRun]) -> tuple[list[CellRun], str]:
        """Set up as many of these as the machine carries; and what it lacks for all of them.

        Of every arm that stands there are equally many, or one arm after the other is left out.
        """
        self._cells = []
        arms = len({cell.arm.name for cell in planned})
        measured = len(planned) > 1 and isinstance(self.clock, RealClock)
        admission, found = None, Carried(len(planned), "")
        if measured:
            admission = Admission(self.clock, elsewhere=not self.plan.runtime.runs_programs)
            await admission.begin()
        while len(self._cells) < min(len(planned), found.cells):
            first = len(self._cells)
            at_once = SET_UP_AT_ONCE if first or not measured else MEASURED_FIRST
            some = planned[first : min(first + at_once, found.cells)]
            self._cells += some
            await together([cell.set_up() for cell in some], END_LIMIT_S)
            if admission is not None and not first:
                admission.set_up(len(some))
            if admission is not None and len(self._cells) < len(planned):
                found = await self._measure(admission, arms)
        if found.cells >= len(planned):
            return self._cells, ""
        whole = max(1, found.cells // arms * arms or found.cells)
        await self._close_cells(self._cells[whole:])
        return self._cells, found.lacks

    async def _measure(self, admission: Admission, arms: int) -> Carried:
        cells = self._cells
        works = [Work.of(cell.arm, at_once=self.plan.is_blocked) for cell in cells]
        dense = admission.bears(works)
        for cell in cells if dense else ():
            cell.pacing.around_fault(dense=True)
        # Of fewer cells than arms there would be no pairs.
        found = await admission.measure(works, dense=dense, least=arms)
        for cell in cells if dense else ():
            cell.pacing.around_fault(dense=False)
        return found

    async def _close_cells(self, cells: Sequence[CellRun]) -> None:
        for cell in list(cells):
            for stream in cell.streams:
                self.prober.aim(stream, None)
            await cell.tear_down()
            self._cells.remove(cell)

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
        self._ticked_ns = self.clock.now_ns()
        with suppress(ChaosdError):  # it has ended the run
            self._tell(lambda sink: sink.tick())

    async def _poll(self) -> None:
        if (read := self.world.machine()) is not None:
            self.emit(read)
            for limit, line in limits.reached():
                if limit not in self._alarmed:
                    self._alarmed.add(limit)
                    self.say(line)
        for cell in self._cells:
            stage, recorder = cell.stage, cell.recorder
            if stage is None:
                continue
            if stage.dns_queries is not None:
                recorder.record(QueriesCounted(count=stage.dns_queries))
            if process := stage.proxy_process():
                recorder.record(ProxyMeasured(**process))
            # What is seen of servers while a cycle lasts is the cycle's.
            heard_by, api = cell.cycle or recorder, stage.api
            if api is not None and await cell.server_poller.look(api, heard_by):
                recorder.record(ResolversRead(counters=cell.server_poller.counters))

    async def _tear_down(self) -> None:
        """Take everything down, also what comes after something that fails. Raises the first."""
        self._mute = True
        failures: list[Exception] = []
        for close in (self.prober.close, *(cell.tear_down for cell in self._cells)):
            try:
                await close()
            except (ChaosdError, OSError) as error:
                failures.append(error)
        self.predictor.close()
        self.clock.close()
        if failures and not self.failing:
            raise failures[0]


def _keep_for_good() -> None:
    """Let no collection of garbage walk through what stands by now.

    A full one takes 30 ms and more, in which nobody answers DNS; what comes later is collected as
    ever, in a millisecond.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
