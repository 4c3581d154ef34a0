"""How many cells this machine carries at once: measured on the first ones that stand."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from chaosd.plan.work import Work
from chaosd.system import resources
from chaosd.system.clock import SECOND_NS, Clock, sleep
from chaosd.system.resources import Limits, Used

# So much of the machine is used at most: above it the world is late now and then.
CPU_SHARE, MEMORY_SHARE, OTHER_SHARE = 0.8, 0.7, 0.8
ELSEWHERE_FAILOVER_S = 0.3  # CPU of an engine that makes a container, on top
CYCLE_DESCRIPTORS = 12  # of a cell, while it has a cycle: new processes, looks at the API
MEASURE_S = 1.0
DENSE_SHARE_MAX = 0.6  # of the cores, for asking all that stand densely at once to measure it
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
        "CPU": max(0.0, CPU_SHARE * limits.cores - others) / cell_cores,
        "memory": standing + MEMORY_SHARE * limits.memory_bytes / each("memory_bytes"),
        "processes": (OTHER_SHARE * limits.processes - before.processes) / each("processes"),
        "descriptors": (OTHER_SHARE * limits.descriptors - before.descriptors)
        / (each("descriptors") + CYCLE_DESCRIPTORS),
    }
    lacks = min(found, key=lambda what: found[what])
    return Carried(cells=max(1, int(found[lacks])), lacks=lacks)


class Admission:
    """Measures what the first cells take, and says how many there may be."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._before = resources.used()
        self._probe_s = 0.0

    def bears(self, works: Sequence[Work]) -> bool:
        """Whether all of these can be asked densely at once, as far as is known."""
        cores = self._probe_s * sum(work.probes for work in works)
        return cores <= DENSE_SHARE_MAX * resources.limits().cores

    async def measure(self, works: Sequence[Work], *, dense: bool, elsewhere: bool) -> Carried:
        """Look for a while at the cells that stand, of which each does such work.

        `dense`: they are asked at their full rate meanwhile; without it only what was found then is
        held against what is used now. `elsewhere`: on an engine, whose processes are not ours.
        """
        start, start_ns = resources.used(), self._clock.now_ns()
        late_s = []
        while self._clock.now_ns() < start_ns + MEASURE_S * SECOND_NS:
            due_ns = self._clock.now_ns() + round(BEAT_S * SECOND_NS)
            await sleep(self._clock, BEAT_S)
            late_s.append((self._clock.now_ns() - due_ns) / SECOND_NS)
        end, took_s = resources.used(), (self._clock.now_ns() - start_ns) / SECOND_NS
        machine = (end.machine_cpu_s - start.machine_cpu_s) / took_s
        ours = machine if elsewhere else (end.cpu_s - start.cpu_s) / took_s
        if dense:
            self._probe_s = ours / sum(work.probes for work in works)
        failover_s = ELSEWHERE_FAILOVER_S if elsewhere else 0.0
        cores = sum(work.cpu(self._probe_s, failover_s) for work in works) / len(works)
        limits = resources.limits()
        others = 0.0 if elsewhere else max(0.0, machine - ours)
        found = carried(len(works), cores, (self._before, end), limits, others)
        if median(late_s) > LATE_S_MAX:
            return Carried(cells=min(found.cells, len(works)), lacks="CPU")
        return found
