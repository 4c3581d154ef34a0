"""What one cell does, by its config: probes, failovers, and the CPU that they come to."""

from __future__ import annotations

from dataclasses import dataclass

from chaosd.config.shape import Config
from chaosd.plan.arms import Arm
from chaosd.plugins.bases import Between, ProbeConfig
from chaosd.system.clock import SECOND_NS

DENSE_BEFORE_NS = 300_000_000  # a probe that idles is dense from so long before a fault is due
FAILOVER_PROBES = 60  # a failover costs as much CPU as so many probes, besides those it is asked
DIRECT_SHARE = 0.6  # of a probe's cost that one past the proxy has
IDLE_DIRECT_SHARE = 0.1  # of the control probes that are sent where it idles, too
CRON_EVERY_S = 60.0


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
        lasts_s = max([1.0, *timers_s[:1]]) + config.measure.stable_for.s
        lasts_s += DENSE_BEFORE_NS / SECOND_NS
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

    def average(self, probe: ProbeConfig) -> float:
        """Of one of its probes, a second."""
        return probe.rate * (self.busy_share + (1 - self.busy_share) / probe.idle_every)

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
