"""Watches the world of a run: how late chaosd itself wakes, who waits for CPU, what gets lost.

A task beats in the event loop that answers DNS and does the deeds; how late it wakes is how late
those are. At every other beat it reads what the scheduler gave to the processes of the cells that
have a cycle going on. At a cycle's end it records the worst of each kind. It decides nothing: what
is too much is for `analysis/world_lag.py`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from chaosd.engine.recorder import CellRecorder
from chaosd.history.causes import Lag, LagKind
from chaosd.history.deeds import Asked, Done, HoldAddress, ReleaseAddress
from chaosd.history.events import (
    AnyEvent,
    Event,
    FaultBegan,
    InstanceListening,
    MachineRead,
    WorldWatched,
)
from chaosd.plugins.runtime import HasProcesses, OwnProcess, ProcessRole, WatchesEntry
from chaosd.system import machine
from chaosd.system.clock import SECOND_NS, Clock, RealClock
from chaosd.system.machine import Counter, ProcessGauge, Scheduled

BEAT_NS = 50_000_000
BEATS_A_SAMPLE, BEATS_A_LOOK = 2, 10  # at processes, and at who listens at the proxy's address
DROPS_EVERY_NS = SECOND_NS
NOTED_NS_MIN = 1_000_000  # what is shorter is the timer's own coarseness
LAGS_KEPT = 2_000  # of a cell, and of the machine: the latest
WORST_KEPT = 3  # of each kind, in a cycle
READINGS_KEPT = 64  # of what a process had run: some seconds
# A recovery takes so many turns of the proxy: it asks, gets an answer for each family, switches,
# and serves a request. Each of them may wait for a CPU.
TURNS = 5
THROTTLED_SHARE = 0.5  # of a time, to say that it stood still: mostly a tenth of a second each
BUSY_SHARE = 0.5  # of a delay that was spent on the CPU, or waiting for one, to call it so

STOPPED = {
    ProcessRole.PROXY: LagKind.PROXY_STOPPED,
    ProcessRole.APP: LagKind.APP_STOPPED,
    ProcessRole.DNS: LagKind.DNS_STOPPED,
    ProcessRole.ENTRY: LagKind.ENTRY_STOPPED,
}
WAITED = {
    ProcessRole.PROXY: LagKind.PROXY_WAITED,
    ProcessRole.APP: LagKind.APP_WAITED,
    ProcessRole.DNS: LagKind.DNS_WAITED,
    ProcessRole.ENTRY: LagKind.ENTRY_WAITED,
}
DROPPED = {
    Counter.CONNTRACK_DROP: LagKind.CONNTRACK_FULL,
    Counter.CONNTRACK_EARLY_DROP: LagKind.CONNTRACK_FULL,
    Counter.LISTEN_OVERFLOW: LagKind.LISTEN_DROPPED,
}
SILENT_HOLDERS = ("blackhole", "tarpit")  # these let a queue overflow on purpose


class ProcessWatch:
    """One process of a cell, from when it is first seen until it ends."""

    def __init__(self, process: OwnProcess, at_ns: int, *, starting: bool) -> None:
        self.process = process
        self._starting = starting  # an instance that does not listen yet
        self._gauge = ProcessGauge(process.pid)
        self._last, self._last_ns = self._gauge.read() or Scheduled(0, 0, 0), at_ns
        # Of its own it had nothing then; its control group is older.
        self._born = Scheduled(0, 0, 0, self._last.throttled_ns)
        self._stands: tuple[LagKind, int] | None = None  # why it does not go on, and since when
        self._ran: deque[tuple[int, int]] = deque([(at_ns, self._last.ran_ns)], READINGS_KEPT)

    def sample(self, at_ns: int) -> list[Lag] | None:
        """What it has suffered since the last time; None if it has ended."""
        found, last, last_ns = self._gauge.read(), self._last, self._last_ns
        if found is None:
            return None
        self._last, self._last_ns = found, at_ns
        self._ran.append((at_ns, found.ran_ns))
        role = self.process.role
        lags = []
        # It has come to this between two samples: in the middle, as far as anybody knows.
        between_ns = last_ns + (at_ns - last_ns) // 2
        # Who lets it go on for a moment now and then, as cpulimit does, stops it none the less.
        throttled_ns, why = found.throttled_ns - last.throttled_ns, None
        if self._gauge.is_stopped(has_run=found.ran_ns != last.ran_ns):
            why = STOPPED[role]
        elif throttled_ns > THROTTLED_SHARE * (at_ns - last_ns) and not self._starting:
            why = WAITED[role]
        if self._stands is not None and self._stands[0] is not why:
            lags.append(_lag(*self._stands, between_ns))
            self._stands = None
        if why is not None and self._stands is None:
            self._stands = why, between_ns
        waited_ns, turns = found.waited_ns - last.waited_ns, found.turns - last.turns
        delay_ns = min(waited_ns, TURNS * waited_ns // max(1, turns))
        if delay_ns >= NOTED_NS_MIN and not self._starting:
            lags.append(_lag(WAITED[role], at_ns - delay_ns, at_ns))
        return lags

    def still_stopped(self, at_ns: int) -> Iterable[Lag]:
        """That it stands still now, if it does."""
        if self._stands is not None:
            yield _lag(*self._stands, at_ns)

    def listens(self, at_ns: int) -> Lag:
        """It was started in this cycle, and did one thing after the other until now."""
        self._starting, found = False, self._gauge.read() or self._last
        held_ns = found.held_ns(self._born)
        return _lag(LagKind.APP_START_WAITED, at_ns - held_ns, at_ns)

    def ran_since(self, at_ns: int) -> int:
        """How long it has run since then, or a little before."""
        found = self._gauge.read() or self._last
        before = [ran_ns for seen_ns, ran_ns in self._ran if seen_ns <= at_ns]
        return found.ran_ns - (before[-1] if before else self._ran[0][1])

    def close(self) -> None:
        self._gauge.close()


class CellWatch:
    """The processes of one cell, and what they have suffered lately."""

    def __init__(self, stage: Any) -> None:
        self._stage = stage
        self._processes: dict[int, ProcessWatch] = {}
        self._listen: set[str] = set()  # instances of this cycle whose process may not be known yet
        self.since_ns: int | None = None  # when the cycle that goes on began
        self.lags: deque[Lag] = deque(maxlen=LAGS_KEPT)
        self.roles: set[ProcessRole] = set()  # of those that could be looked at
        self.shared = False  # whether a stranger was seen at the proxy's address in this cycle

    def begin(self, at_ns: int) -> None:
        """A cycle begins: the processes that exist now were started before it."""
        self.since_ns = at_ns
        self._listen.clear()
        self.sample(at_ns, begins=True)

    def sample(self, at_ns: int, *, begins: bool = False) -> None:
        """Look at all processes; an instance that is seen for the first time has just started."""
        stage = self._stage
        for process in stage.processes() if isinstance(stage, HasProcesses) else ():
            if process.pid not in self._processes:
                try:
                    before = begins or process.name in self._listen
                    starting = process.role is ProcessRole.APP and not before
                    watch = ProcessWatch(process, at_ns, starting=starting)
                    self._processes[process.pid] = watch
                    self.roles.add(process.role)
                except OSError:
                    continue  # it has just ended, or this kernel does not tell
        for pid, watch in list(self._processes.items()):
            found = watch.sample(at_ns)
            if found is None:
                self._processes.pop(pid).close()
            else:
                self.lags += found

    def look_at_entry(self) -> None:
        """See who listens at the proxy's address; a stranger gets a part of the connections."""
        if not self.shared and isinstance(self._stage, WatchesEntry):
            self.shared = self._stage.is_entry_shared()

    def listening(self, identity: str, at_ns: int) -> None:
        """This instance listens from now on: whatever it has waited until then held it up."""
        self.sample(at_ns)
        for watch in self._processes.values():
            if watch.process.role is ProcessRole.APP and watch.process.name == identity:
                self.lags.append(watch.listens(at_ns))
        self._listen.add(identity)

    def looked(self, asked_ns: int, answered_ns: int, own_ns: int) -> None:
        """The proxy was asked by its API, and answered then, or nobody waited any longer.

        What the proxy has worked meanwhile is a result; for `own_ns` chaosd itself ran or waited.
        """
        proxies = [w for w in self._processes.values() if w.process.role is ProcessRole.PROXY]
        ran_ns = sum(watch.ran_since(asked_ns) for watch in proxies)
        silent_ns = answered_ns - asked_ns - ran_ns - own_ns
        if silent_ns >= NOTED_NS_MIN:
            self.lags.append(_lag(LagKind.PROXY_SILENT, answered_ns - silent_ns, answered_ns))

    def now(self, at_ns: int) -> list[Lag]:
        """All that is known, with what goes on at this very moment."""
        self.sample(at_ns)
        return [*self.lags, *(x for w in self._processes.values() for x in w.still_stopped(at_ns))]

    def close(self) -> None:
        for watch in self._processes.values():
            watch.close()
        self._processes.clear()


class WorldWatch:
    """All cells of a run, chaosd itself, and the machine. In a simulated world it does nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_real = isinstance(clock, RealClock)
        self._cells: dict[str, CellWatch] = {}
        self._own: ProcessGauge | None = None
        self._own_last = Scheduled(0, 0, 0)
        self._own_turns: deque[tuple[int, Scheduled]] = deque(maxlen=READINGS_KEPT)
        self._lags: deque[Lag] = deque(maxlen=LAGS_KEPT)  # chaosd's own, and the machine's
        self._drops: dict[Counter, int] = {}
        self._drops_ns = 0
        self._silent: set[str] = set()  # cells in which a queue overflows on purpose

    def start(self, failed: Callable[[Exception], None]) -> Callable[[], None]:
        """Begin to watch; the returned function ends it."""
        if not self._is_real:
            return lambda: None
        try:
            self._own = ProcessGauge(os.getpid(), first_only=True)
        except OSError:
            self._own = None  # then nobody knows why it was late
        self._read_drops(self._clock.now_ns())
        beating = asyncio.get_running_loop().create_task(self._beat())

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                failed(error if isinstance(error, Exception) else RuntimeError(str(error)))

        beating.add_done_callback(ended)

        def stop() -> None:
            beating.cancel()
            for cell in self._cells.values():
                cell.close()
            if self._own is not None:
                self._own.close()

        return stop

    def watch(self, cell: str, stage: Any) -> None:
        """From now on this cell has this stage."""
        if self._is_real:
            self._cells[cell] = CellWatch(stage)

    def event(self, event: AnyEvent) -> None:
        """Whatever is recorded passes here: a cycle begins, an instance listens."""
        cell = self._cells.get(event.cell)
        if cell is None:
            return
        if event.cycle and cell.since_ns is None and isinstance(event.what, Asked | FaultBegan):
            cell.begin(self._clock.now_ns())
        match event.what:
            case FaultBegan():
                self._read_drops(self._clock.now_ns())
            case InstanceListening(identity=identity) if cell.since_ns is not None:
                cell.listening(identity, self._clock.now_ns())
            case Asked(deed=HoldAddress(manner=manner)) if manner in SILENT_HOLDERS:
                self._silent.add(event.cell)
            case Done(deed=ReleaseAddress()):
                self._read_drops(self._clock.now_ns())
                self._silent.discard(event.cell)
            case _:
                pass

    def was_shared(self, cell: str) -> bool:
        """Whether a stranger listened at the proxy's address in the cycle that goes on."""
        found = self._cells.get(cell)
        return found is not None and found.shared

    def looked(self, cell: str, asked_ns: int, answered_ns: int) -> None:
        """The proxy's API was asked."""
        found = self._cells.get(cell)
        if found is None or answered_ns - asked_ns < NOTED_NS_MIN:
            return
        read = self._read_own()
        before = [x for seen_ns, x in self._own_turns if seen_ns <= asked_ns] or [self._own_last]
        own_ns = read.ran_ns - before[-1].ran_ns + read.held_ns(before[-1])
        found.looked(asked_ns, answered_ns, own_ns)

    def tell(self, recorder: CellRecorder) -> None:
        """A cycle is over: record what was late in it. Lags of before are left to the analysis."""
        cell = self._cells.get(recorder.cell)
        if cell is None or cell.since_ns is None:
            return
        now_ns = self._clock.now_ns()
        self._read_drops(now_ns)
        found = [*cell.now(now_ns), *(x for x in self._lags if _end_ns(x) >= cell.since_ns)]
        cell.since_ns, cell.shared = None, False
        cell.lags.clear()
        recorder.record(WorldWatched(lags=tuple(_worst(found, self._kinds(cell), now_ns))))

    def machine(self) -> Event[MachineRead] | None:
        """What is in use of the machine; None where that says nothing."""
        if not self._is_real:
            return None
        memory, tracking = machine.memory(), machine.tracking()
        descriptors = machine.descriptors()
        read = MachineRead(
            memory_available_bytes=memory.available_bytes if memory else None,
            conntrack_entries=tracking.entries if tracking else None,
            conntrack_entries_max=tracking.entries_max if tracking else None,
            fds=descriptors.used if descriptors else None,
        )
        return Event(at_ns=self._clock.now_ns(), cell="", cycle=0, what=read)

    def _kinds(self, cell: CellWatch) -> list[LagKind]:
        """The kinds of which it is known that there was none, if there was none."""
        kinds = [LagKind.DAEMON_STOPPED]
        if self._own is not None:
            kinds += [LagKind.DAEMON_WAITED, LagKind.DAEMON_BUSY]
        for role in cell.roles:
            kinds += [STOPPED[role], WAITED[role]]
        return kinds

    async def _beat(self) -> None:
        beats = 0
        while True:
            due_ns = self._clock.now_ns() + BEAT_NS
            await self._clock.sleep_until(due_ns)
            now_ns, beats = self._clock.now_ns(), beats + 1
            self._daemon_lag(due_ns, now_ns)
            if beats % BEATS_A_SAMPLE == 0:
                for cell in self._cells.values():
                    if cell.since_ns is not None:
                        cell.sample(now_ns)
                        if beats % BEATS_A_LOOK == 0:
                            cell.look_at_entry()
            if now_ns - self._drops_ns >= DROPS_EVERY_NS:
                self._read_drops(now_ns)

    def _read_own(self) -> Scheduled:
        """Of its first thread, but all threads have run: while one computes, the loop waits."""
        found = (self._own.read() if self._own is not None else None) or self._own_last
        return found._replace(ran_ns=time.process_time_ns())

    def _daemon_lag(self, due_ns: int, now_ns: int) -> None:
        """How late this task woke, and whether chaosd ran, waited or stood still meanwhile."""
        found = self._read_own()
        ran_ns = found.ran_ns - self._own_last.ran_ns
        waited_ns = found.held_ns(self._own_last)
        self._own_last, late_ns = found, now_ns - due_ns
        self._own_turns.append((now_ns, found))
        if late_ns < NOTED_NS_MIN:
            return
        kind = LagKind.DAEMON_STOPPED
        if waited_ns >= BUSY_SHARE * late_ns:
            kind = LagKind.DAEMON_WAITED
        elif ran_ns >= BUSY_SHARE * late_ns:
            kind = LagKind.DAEMON_BUSY
        self._lags.append(_lag(kind, due_ns, now_ns))

    def _read_drops(self, at_ns: int) -> None:
        before, since_ns = self._drops, self._drops_ns
        self._drops, self._drops_ns = machine.dropped(), at_ns
        for counter, kind in DROPPED.items():
            count = self._drops.get(counter, 0) - before.get(counter, self._drops.get(counter, 0))
            if count > 0 and not (kind is LagKind.LISTEN_DROPPED and self._silent):
                seconds = (at_ns - since_ns) / SECOND_NS
                self._lags.append(Lag(kind=kind, from_ns=since_ns, seconds=seconds, count=count))


def _lag(kind: LagKind, from_ns: int, to_ns: int) -> Lag:
    return Lag(kind=kind, from_ns=from_ns, seconds=max(0, to_ns - from_ns) / SECOND_NS)


def _end_ns(lag: Lag) -> int:
    return lag.from_ns + round(lag.seconds * SECOND_NS)


def _worst(found: Iterable[Lag], kinds: Iterable[LagKind], now_ns: int) -> Iterable[Lag]:
    """The longest few of each kind; one of no length for a kind of which there was none."""
    by_kind: dict[LagKind, list[Lag]] = {kind: [] for kind in kinds}
    for lag in found:
        by_kind.setdefault(lag.kind, []).append(lag)
    for kind, some in by_kind.items():
        if kind in DROPPED.values():
            yield from some  # each counts
        else:
            some.sort(key=lambda lag: -lag.seconds)
            yield from some[:WORST_KEPT] or [Lag(kind=kind, from_ns=now_ns, seconds=0.0)]
