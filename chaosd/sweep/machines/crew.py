"""Who makes which round: a worker has one at a time, and what a lost one had is made again.

A worker is greeted, looked at (has it the same programs and files?) and calibrated before it gets a
round. Only the scheduler knows who is there, so it is asked twice a second. A worker that is gone
costs the round that it had: the same round, with the same seed, goes to the next one that is free.
"""

from __future__ import annotations

import platform
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Event, Thread
from types import FrameType
from typing import Any

from chaosd import __version__
from chaosd.engine import session
from chaosd.errors import Exit, MachineError
from chaosd.history.reader import RunReader
from chaosd.plan.arms import Plan
from chaosd.sweep import rounds
from chaosd.sweep.arms import Arm
from chaosd.sweep.design import Loaded
from chaosd.sweep.machines import bring, sent, worker
from chaosd.sweep.machines.joining import Joined
from chaosd.sweep.machines.task import Greeting, Task, raised
from chaosd.sweep.rounds import ARMS_MAX, SECONDS_MIN, Fault, Prepared, Wanted
from chaosd.sweep.store import Brought, Store
from chaosd.sweep.values import Host
from chaosd.system.clock import SECOND_NS, RealClock
from chaosd.system.stops import STOPS

LOOK_S = 0.5
SILENT_S = 20.0  # without a heartbeat a worker counts as gone; dask sends some each second
ANSWER_S_MAX = 60.0  # of the scheduler
WAIT_S = 60.0  # for the first worker, and for another one where none is left
STOP_S = 60.0  # for rounds to be undone
FAILURES_MAX = 2  # rounds in a row that a worker can't make: then it gets no more
OUTAGES = 10  # that a meter is calibrated by
_LOCAL_RUNTIME = "local"

Say = Callable[[str], None]


def sample(loaded: Loaded, arms: Sequence[Arm], fault: Fault) -> Prepared:
    """A round with an arm of each program."""
    of_program = {(arm.program.version, arm.program.sha256): arm for arm in reversed(arms)}
    wanted = Wanted(
        number=0,
        fault=fault,
        arms=list(of_program.values())[:ARMS_MAX],
        cycles=1,
        replicas=1,
        fresh=False,
        seed=0,
        time_s=None,
    )
    return rounds.prepare(loaded, wanted, 1.0)


@dataclass(kw_only=True)
class _Worker:
    address: str
    name: str = ""  # as people know it, once it was greeted
    boot: str = ""
    host: Host | None = None
    ready: bool = False
    refused: str = ""  # why it gets nothing
    future: Any = None  # what it does now
    then: Callable[[_Worker, dict[str, Any]], None] | None = None
    prepared: Prepared | None = None
    built: Plan | None = None
    stopped: bool = False  # it was told to end what it makes
    since_ns: int = 0
    beat: float = 0.0  # its last heartbeat, by the scheduler's clock
    beat_ns: int = 0  # since when it is known, by ours
    failures: int = 0


class Crew:
    """All workers. `sample` is a round with an arm of each program, by which they are looked at."""

    def __init__(self, joined: Joined, store: Store, sample: Prepared, say: Say) -> None:
        self._client, self._store, self._say = joined.client, store, say
        self._is_local, self._can_isolate = joined.is_local, joined.can_isolate
        self._sample, self._clock = sample, RealClock()
        self._workers: dict[str, _Worker] = {}
        self._silent: dict[str, float] = {}  # by address: the last heartbeat of those that hang
        self._todo: deque[Prepared] = deque()
        self._sender = sent.Sender()
        self._meters: dict[str, dict[str, Any] | None] = {}  # by boot; None: not known yet
        self._woken = Event()
        self._stop_ns: int | None = None
        self._begun_ns = self._clock.now_ns()  # the pass
        self._alone_ns = self._clock.now_ns()  # since when there is nobody
        built = rounds.planned(sample.data, sample.called)
        probe = built.config.probes[0]
        self._rate = f"{probe.rate:g}"
        if not session.is_real(built):  # under virtual time there is no meter
            self._meters = {}
            self._rate = ""

    @property
    def width(self) -> int:
        """At least 2: rounds are cut for several machines, however many there are."""
        return max(2, sum(each.ready for each in self._workers.values()))

    def admit(self) -> None:
        """Wait until all who are there now are ready, or are not taken. Raises MachineError."""
        with self._signals():
            while self._stop_ns is None:
                self._turn()
                every = self._workers.values()
                if every and not any(each.future is not None for each in every):
                    break

    def make(self, some: Sequence[Prepared]) -> bool:
        self._todo.extend(some)
        self._begun_ns = self._clock.now_ns()
        with self._signals():
            while self._todo or any(each.prepared for each in self._workers.values()):
                self._turn()
        return self._stop_ns is not None

    def _turn(self) -> None:
        self._see_who_is_there()
        if self._stop_ns is not None:
            self._todo.clear()
            self._stop_them()
            if self._clock.now_ns() - self._stop_ns > STOP_S * SECOND_NS:
                raise MachineError(f"a round did not end within {STOP_S:.0f} s")
        for each in self._workers.values():
            if each.ready and each.future is None and not each.refused and self._todo:
                self._give(each, self._todo.popleft())
        self._refuse_to_wait()
        self._woken.wait(LOOK_S)
        self._woken.clear()
        for each in list(self._workers.values()):
            if each.future is not None and each.future.done():
                self._take(each)

    # --- who is there ---

    def _see_who_is_there(self) -> None:
        beats, now_ns = self._beats(), self._clock.now_ns()
        self._silent = {where: beat for where, beat in self._silent.items() if where in beats}
        for address, beat in beats.items():
            if self._silent.get(address) == beat:
                continue
            if self._silent.pop(address, None) is not None:
                self._say(f"{address} is heard of again")
            each = self._workers.get(address)
            if each is None:
                each = self._workers[address] = _Worker(address=address)
                self._do(each, self._greeted, worker.greet)
            if beat != each.beat:
                each.beat, each.beat_ns = beat, now_ns
            elif now_ns - each.beat_ns > SILENT_S * SECOND_NS:
                self._silent[address] = beat
                del self._workers[address]
                self._lost(each, f"has not been heard of for {SILENT_S:.0f} s")
        for address in self._workers.keys() - beats.keys():
            self._lost(self._workers.pop(address), "is gone")

    def _beats(self) -> dict[str, float]:
        """The last heartbeat of each worker. Raises MachineError without a scheduler."""
        try:
            found = self._client.sync(
                self._client.scheduler.identity, callback_timeout=ANSWER_S_MAX
            )
        except (OSError, TimeoutError) as error:
            what = str(error) or f"within {ANSWER_S_MAX:.0f} s"
            raise MachineError(f"the scheduler does not answer: {what}") from None
        return {where: each["last_seen"] for where, each in found["workers"].items()}

    def _lost(self, gone: _Worker, why: str) -> None:
        self._sender.forget(gone.address)
        if gone.future is not None:
            gone.future.cancel()
        if gone.boot and self._meters.get(gone.boot, {}) is None:
            del self._meters[gone.boot]
            for other in self._workers.values():  # the first of that machine is calibrated now
                if other.boot == gone.boot and other.future is None and not other.refused:
                    self._looked_at(other, {})
        if gone.prepared is not None:
            number = gone.prepared.begun.number
            self._say(f"{gone.name} {why}: round {number} is made again")
            self._todo.appendleft(gone.prepared)
        elif not gone.refused:
            self._say(f"{gone.name or gone.address} {why}")

    def _refuse_to_wait(self) -> None:
        """Raises MachineError if nobody makes anything, nor will."""
        now_ns = self._clock.now_ns()
        if any(not each.refused for each in self._workers.values()):
            self._alone_ns = now_ns
            return
        if not self._workers and now_ns - self._alone_ns < WAIT_S * SECOND_NS:
            return
        whys = [f"{each.name}: {each.refused}" for each in self._workers.values()]
        nobody = "there is no worker" if not whys else "no worker can be used"
        raise MachineError(nobody, *dict.fromkeys(whys))

    def _do(
        self, each: _Worker, then: Callable[[_Worker, dict[str, Any]], None], what: Any, *data: Any
    ) -> None:
        each.then, each.since_ns = then, self._clock.now_ns()
        each.future = self._client.submit(
            what, *data, workers=[each.address], allow_other_workers=False, pure=False, retries=0
        )
        each.future.add_done_callback(lambda _: self._woken.set())

    def _take(self, each: _Worker) -> None:
        future, then = each.future, each.then
        each.future = each.then = None
        if future.status != "finished":
            error = future.exception() if future.status == "error" else None
            if error is None:  # it is gone, which is seen soon
                return
            found = {"problems": [f"{type(error).__name__}: {error}"[:300]], "exit": Exit.SETUP}
        else:
            found = future.result()
        future.release()
        if then is not None:
            then(each, found)

    def _refuse(self, each: _Worker, why: str) -> None:
        each.refused = why
        self._say(f"not used: {each.name or each.address}: {why}")

    # --- before it gets anything ---

    def _greeted(self, each: _Worker, found: dict[str, Any]) -> None:
        if "problems" in found:
            self._refuse(each, f"chaosd can't be loaded there ({found['problems'][0]})")
            return
        said = Greeting(**found)
        each.name, each.boot = self._name(said), said.boot
        if said.chaosd != __version__:
            self._refuse(each, f"has chaosd {said.chaosd}, and this is {__version__}")
        elif any(e.name == each.name and e is not each for e in self._workers.values()):
            self._refuse(each, "is there already (several workers of one host: `--name` each)")
        else:
            each.host = Host(name=each.name, cores=said.cores, memory_bytes=said.memory_bytes)
            task, _ = self._task(self._sample)
            blobs = self._sender.blobs(each.address, task.files)
            self._do(each, self._looked_at, worker.look, task.tree(), blobs)

    def _name(self, said: Greeting) -> str:
        if self._is_local:
            return f"{platform.node()}/{int(said.name) + 1}"
        return said.name or said.host

    def _looked_at(self, each: _Worker, found: dict[str, Any]) -> None:
        if "problems" in found:
            self._refuse(each, "; ".join(found["problems"]))
        elif not self._rate:
            self._admitted(each)
        elif each.boot not in self._meters:
            self._meters[each.boot] = None
            self._do(each, self._calibrated, worker.calibrate, self._rate, OUTAGES)
        else:
            self._after_calibration(each)

    def _calibrated(self, each: _Worker, found: dict[str, Any]) -> None:
        self._meters[each.boot] = found
        for other in self._workers.values():
            if other.boot == each.boot and other.host is not None and other.future is None:
                self._after_calibration(other)

    def _after_calibration(self, each: _Worker) -> None:
        """Its machine's meter is known, or another worker of that machine looks at it now."""
        found = self._meters[each.boot]
        if found is None or each.ready or each.refused:
            return
        if each.host is not None and "worst_s" in found:
            each.host = replace(each.host, meter_worst_s=found["worst_s"], meter_n=found["n"])
        if found.get("ok") is not True:
            worst = f": it is off by {1e3 * found['worst_s']:.1f} ms" if "worst_s" in found else ""
            self._refuse(each, f"its meter can't be relied on{worst} (chaosd calibrate)")
        else:
            self._admitted(each)

    def _admitted(self, each: _Worker) -> None:
        if each.host is None:
            return
        each.ready = True
        self._store.admit(each.host)
        worst_s = each.host.meter_worst_s
        meter = "" if worst_s is None else f", meter within {1e3 * worst_s:.1f} ms"
        memory = each.host.memory_bytes / (1 << 30)
        self._say(f"worker {each.name}: {each.host.cores:g} cores, {memory:.1f} GB{meter}")

    # --- rounds ---

    def _task(self, prepared: Prepared) -> tuple[Task, Plan]:
        built = rounds.planned(prepared.data, prepared.called)
        files, said = self._sender.parcels(built)
        task = Task(
            data=prepared.data,
            called=str(prepared.called),
            programs=prepared.programs,
            files=files,
            said=said,
            isolated=self._can_isolate and built.runtime_name == _LOCAL_RUNTIME,
        )
        return task, built

    def _give(self, each: _Worker, prepared: Prepared) -> None:
        if prepared.time_s is not None:
            left_s = prepared.time_s - (self._clock.now_ns() - self._begun_ns) / SECOND_NS
            if left_s < SECONDS_MIN:
                return
            prepared = replace(prepared, data=rounds.with_time(prepared.data, left_s))
        task, each.built = self._task(prepared)
        each.prepared = prepared
        self._store.begin(replace(prepared.begun, host=each.name))
        blobs = self._sender.blobs(each.address, task.files)
        self._do(each, self._made, worker.make, prepared.begun.directory, task.tree(), blobs)

    def _made(self, each: _Worker, found: dict[str, Any]) -> None:
        prepared, built = each.prepared, each.built
        each.prepared = each.built = None
        assert prepared is not None  # noqa: S101
        assert built is not None  # noqa: S101
        if "problems" in found and self._stop_ns is not None:
            return  # it had not begun
        if "problems" in found:
            self._sender.forget(each.address)
            error = raised(found)
            if not isinstance(error, MachineError):  # it would be so everywhere
                raise error
            self._todo.appendleft(prepared)
            each.failures += 1
            number = prepared.begun.number
            self._say(f"{each.name} can't make round {number}: {'; '.join(error.problems)}")
            if each.failures >= FAILURES_MAX:
                self._refuse(each, f"{FAILURES_MAX} rounds in a row failed")
            return
        each.failures = 0
        directory = self._store.directory / prepared.begun.directory
        with session.private(built, prepared.called):
            bring.unpack(found["files"], directory)
        manifest = RunReader(directory).manifest
        run_s = float(manifest.get("end_unix", 0.0)) - float(manifest["start_unix"])
        took_s = (self._clock.now_ns() - each.since_ns) / SECOND_NS
        size = sum(map(len, found["files"].values()))
        self._store.bring(
            Brought(
                number=prepared.begun.number,
                host=each.name,
                took_s=took_s,
                run_s=run_s,
                bytes=size,
                given_unix=self._clock.unix_ns() / SECOND_NS - took_s if self._rate else 0.0,
            )
        )
        begun = prepared.begun
        blocks = begun.cycles * begun.replicas
        self._say(
            f"round {begun.number}: {blocks} blocks of {begun.fault} in {took_s:.0f} s on "
            f"{each.name}"
        )

    # --- being stopped ---

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in STOPS}
        for number in STOPS:
            if before[number] is not signal.SIG_IGN or number != signal.SIGHUP:
                signal.signal(number, self._stopping)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stopping(self, number: int, _: FrameType | None) -> None:
        if self._stop_ns is not None:
            return
        self._stop_ns = self._clock.now_ns()
        self._say(f"stopping ({signal.Signals(number).name}): undoing what is under way")
        self._woken.set()

    def _stop_them(self) -> None:
        for each in self._workers.values():
            if each.prepared is not None and not each.stopped:
                each.stopped = True
                stop = partial(self._client.run, worker.stop, each.prepared.begun.directory)
                # One that hangs is not waited for.
                Thread(
                    target=stop,
                    kwargs={"workers": [each.address], "on_error": "ignore"},
                    daemon=True,
                ).start()
