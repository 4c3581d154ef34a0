"""How many cells this machine carries at once: measured on the first ones that stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from chaosd.config.shape import Config
from chaosd.engine.pacing import MARGIN_NS
from chaosd.plan.arms import Arm
from chaosd.plugins.bases import Between
from chaosd.system import usage
from chaosd.system.clock import SECOND_NS, Clock, sleep
from chaosd.system.usage import Limits, Used

# So much of the machine is used at most: above it the world is late now and then.
CPU_SHARE, MEMORY_SHARE, OTHER_SHARE = 0.8, 0.7, 0.8
FAILOVER_PROBES = 60  # a failover costs as much CPU as so many probes, besides those it is asked
DIRECT_SHARE = 0.6  # of a probe's cost that one past the proxy has
IDLE_DIRECT_SHARE = 0.1  # of the control probes that are sent where it idles, too
ELSEWHERE_FAILOVER_S = 0.3  # CPU of an engine that makes a container, on top
CYCLE_DESCRIPTORS = 12  # of a cell, while it has a cycle: new processes, looks at the API
CRON_EVERY_S = 60.0
MEASURE_S = 1.0
DENSE_SHARE_MAX = 0.6  # of the cores, for asking all that stand densely at once to measure it
BEAT_S = 0.02
LATE_S_MAX = 0.02  # median of the beats that come that late: nothing may be added


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one cell does, a second: what its arm's config comes to."""

    probes: float  # while it is asked densely
    busy_share: float  # of the time in which it is
    idle_share: float  # of the probes that are sent otherwise
    direct: float  # control probes, on average
    failovers: float

    @staticmethod
    def of(arm: Arm, *, at_once: bool = False) -> Work:
        """What a cell of this arm does. `at_once`: all cells have their failovers together."""
        config = arm.config
        failovers = sum(1 / _every_s(config, place) for place in range(len(config.faults)))
        timers_s = list(arm.proxy.timers_s())
        # A little longer than stable: until what has come in is known to say so.
        lasts_s = MARGIN_NS / SECOND_NS + max([1.0, *timers_s[:1]]) + config.measure.stable_for.s
        busy = 1.0 if at_once else min(1.0, failovers * lasts_s)
        probes = sum(probe.rate for probe in config.probes)
        idle = sum(probe.rate / probe.idle_every for probe in config.probes)
        direct = 0.0 if config.direct is None else busy * config.direct.rate
        if config.probes[0].idle_every > 1:
            direct *= IDLE_DIRECT_SHARE
        return Work(
            probes=probes,
            busy_share=busy,
            idle_share=idle / probes,
            direct=direct,
            failovers=failovers,
        )

    def cpu(self, probe_s: float, failover_s: float = 0.0) -> float:
        """Cores that it takes, where one probe takes so many seconds of CPU."""
        probes = self.probes * (self.busy_share + (1 - self.busy_share) * self.idle_share)
        probes += DIRECT_SHARE * self.direct + FAILOVER_PROBES * self.failovers
        return probe_s * probes + failover_s * self.failovers


def _every_s(config: Config, place: int) -> float:
    every = config.faults[place].every
    if every is None:
        return CRON_EVERY_S
    return (every.min.s + every.max.s) / 2 if isinstance(every, Between) else every.s


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
        self._before = usage.used()
        self._probe_s = 0.0

    def bears(self, works: Sequence[Work]) -> bool:
        """Whether all of these can be asked densely at once, as far as is known."""
        cores = self._probe_s * sum(work.probes for work in works)
        return cores <= DENSE_SHARE_MAX * usage.limits().cores

    async def measure(self, works: Sequence[Work], *, dense: bool, elsewhere: bool) -> Carried:
        """Look for a while at the cells that stand, of which each does such work.

        `dense`: they are asked at their full rate meanwhile; without it only what was found then is
        held against what is used now. `elsewhere`: on an engine, whose processes are not ours.
        """
        start, start_ns = usage.used(), self._clock.now_ns()
        late_s = []
        while self._clock.now_ns() < start_ns + MEASURE_S * SECOND_NS:
            due_ns = self._clock.now_ns() + round(BEAT_S * SECOND_NS)
            await sleep(self._clock, BEAT_S)
            late_s.append((self._clock.now_ns() - due_ns) / SECOND_NS)
        end, took_s = usage.used(), (self._clock.now_ns() - start_ns) / SECOND_NS
        machine = (end.machine_cpu_s - start.machine_cpu_s) / took_s
        ours = machine if elsewhere else (end.cpu_s - start.cpu_s) / took_s
        if dense:
            self._probe_s = ours / sum(work.probes for work in works)
        failover_s = ELSEWHERE_FAILOVER_S if elsewhere else 0.0
        cores = sum(work.cpu(self._probe_s, failover_s) for work in works) / len(works)
        limits = usage.limits()
        others = 0.0 if elsewhere else max(0.0, machine - ours)
        found = carried(len(works), cores, (self._before, end), limits, others)
        if median(late_s) > LATE_S_MAX:
            return Carried(cells=min(found.cells, len(works)), lacks="CPU")
        return found
