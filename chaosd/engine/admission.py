"""How many cells this machine carries at once: measured on the first ones that stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from chaosd.plan.work import Work
from chaosd.system import usage
from chaosd.system.clock import SECOND_NS, Clock, sleep
from chaosd.system.usage import Limits, Used

# So much of the machine is used at most: above it the world is late now and then.
CPU_SHARE, MEMORY_SHARE, OTHER_SHARE = 0.8, 0.7, 0.8
CELL_CORES_MIN = 0.001  # what is measured may be nothing where others do less than before
CYCLE_DESCRIPTORS = 12  # of a cell, while it has a cycle: new processes, looks at the API
MEASURE_S = 1.0
DENSE_SHARE_MAX = 0.6  # of the cores, for asking all that stand densely at once to measure it
LOOKS_MORE = 2  # where there seems to be too little CPU
CPU = "CPU"  # among what may be lacking
BEAT_S = 0.02
LATE_S_MAX = 0.02  # median of the beats that come that late: nothing may be added


class Carried(NamedTuple):
    """How many cells are carried, and what there would not be enough of for more."""

    cells: int
    lacks: str


def carried(
    standing: int, cell_cores: float, grown: tuple[Used, Used], limits: Limits, others: float = 0.0
) -> Carried:
    """How many cells there is room for, where `standing` ones made what we use grow so.

    `cell_cores` is what each of them will take, `others` the cores that are not ours. `limits` are
    read now: its memory is what is left.
    """
    before, now = grown

    def each(what: str) -> float:
        return max(1.0, float(getattr(now, what) - getattr(before, what)) / standing)

    found = {
        CPU: max(0.0, CPU_SHARE * limits.cores - others) / max(cell_cores, CELL_CORES_MIN),
        "memory": standing + MEMORY_SHARE * limits.memory_bytes / each("memory_bytes"),
        "processes": (OTHER_SHARE * limits.processes - before.processes) / each("processes"),
        "descriptors": (OTHER_SHARE * limits.descriptors - before.descriptors)
        / (each("descriptors") + CYCLE_DESCRIPTORS),
    }
    lacks = min(found, key=lambda what: found[what])
    return Carried(cells=max(1, int(found[lacks])), lacks=lacks)


class Admission:
    """Measures what the first cells take, and says how many there may be.

    With `elsewhere` they live on an engine, whose processes are not ours: then all that the machine
    does, but for what it did before, is taken for theirs.
    """

    def __init__(self, clock: Clock, *, elsewhere: bool) -> None:
        self._clock, self._elsewhere = clock, elsewhere
        self._free_bytes = usage.limits().memory_bytes
        self._before, self._before_ns = usage.used(), clock.now_ns()
        self._probe_s = self._failover_s = self._others = 0.0

    async def begin(self) -> None:
        """Before the first cell is set up: see what others do, where nobody can tell later."""
        if self._elsewhere:
            looked = await self._look()
            self._others = looked.all_cores
            self._before, self._before_ns = looked.used, self._clock.now_ns()

    def set_up(self, cells: int) -> None:
        """The first cells have just been set up.

        It takes an engine about as much as a failover does: here two containers are made and two
        are removed, there three are made, and a network.
        """
        if self._elsewhere:
            took_s = (self._clock.now_ns() - self._before_ns) / SECOND_NS
            used_s = usage.used().machine_cpu_s - self._before.machine_cpu_s
            self._failover_s = max(0.0, used_s - took_s * self._others) / cells

    def bears(self, works: Sequence[Work]) -> bool:
        """Whether all of these can be asked densely at once, as far as is known."""
        cores = self._probe_s * sum(work.probes for work in works)
        return cores <= DENSE_SHARE_MAX * usage.limits().cores

    async def measure(self, works: Sequence[Work], *, dense: bool, least: int = 1) -> Carried:
        """Look for a while at the cells that stand, of which each does such work.

        `dense`: they are asked at their full rate meanwhile; without it only what was found then is
        held against what is used now. Where there seems to be no CPU for `least` cells it is looked
        at twice again, as others may be busy for a moment: the look in the middle counts.
        """
        looks = [await self._measure(works, dense=dense)]
        if looks[0].cells < least and looks[0].lacks == CPU:
            looks += [await self._measure(works, dense=dense) for _ in range(LOOKS_MORE)]
        return sorted(looks, key=lambda look: look.cells)[len(looks) // 2]

    async def _measure(self, works: Sequence[Work], *, dense: bool) -> Carried:
        looked, limits = await self._look(), usage.limits()
        used, others = looked.used, self._others
        if self._elsewhere:
            ours = max(0.0, looked.all_cores - others)
            grown = self._before.memory_bytes + max(0, self._free_bytes - limits.memory_bytes)
            used = replace(used, memory_bytes=grown)
        else:
            ours = looked.our_cores
            others = max(0.0, looked.all_cores - ours)
        if dense:
            self._probe_s = ours / sum(work.probes for work in works)
        cores = sum(work.cpu(self._probe_s, self._failover_s) for work in works) / len(works)
        found = carried(len(works), cores, (self._before, used), limits, others)
        if looked.late_s > LATE_S_MAX:
            return Carried(cells=min(found.cells, len(works)), lacks=CPU)
        return found

    async def _look(self) -> _Look:
        """What is used in the next second."""
        start, start_ns = usage.used(), self._clock.now_ns()
        late_s = []
        while self._clock.now_ns() < start_ns + MEASURE_S * SECOND_NS:
            due_ns = self._clock.now_ns() + round(BEAT_S * SECOND_NS)
            await sleep(self._clock, BEAT_S)
            late_s.append((self._clock.now_ns() - due_ns) / SECOND_NS)
        used, took_s = usage.used(), (self._clock.now_ns() - start_ns) / SECOND_NS
        return _Look(
            used=used,
            our_cores=(used.cpu_s - start.cpu_s) / took_s,
            all_cores=(used.machine_cpu_s - start.machine_cpu_s) / took_s,
            late_s=median(late_s),
        )


class _Look(NamedTuple):
    used: Used  # at its end
    our_cores: float
    all_cores: float
    late_s: float  # the median of how late our own timers were
