"""A cycle's line: one disturbance and its recovery, with every number that is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from chaosd.history.causes import Cause, Doubt

ONLY_ARM = "main"  # the arm of a plain run


def is_only(arm: str) -> bool:
    """Whether this is the arm of a plain run, which needs no name before people."""
    return arm in ("", ONLY_ARM)


class CycleKind(StrEnum):
    """What a cycle disturbs, and so what its numbers may be compared with."""

    FAILOVER = "failover"  # the app comes back at another address, or nobody can tell where
    RESTART = "restart"  # the app comes back at its own address: a control
    CONTROL = "control"  # nothing is taken away: the meter's own floor
    DNS = "dns"  # nothing moves: the proxy's nameserver misbehaves for a while
    IN_PLACE = "in-place"  # nothing moves: the app or the proxy does not answer for a while

    @property
    def is_control(self) -> bool:
        """Whether the proxy has nothing to find and nothing to survive."""
        return self in (CycleKind.RESTART, CycleKind.CONTROL)

    @property
    def is_still(self) -> bool:
        """Whether nothing moves: then users may be unaffected, and no phase has an edge."""
        return self in (CycleKind.DNS, CycleKind.IN_PLACE)


class CycleOutcome(StrEnum):
    RECOVERED = "recovered"
    UNAFFECTED = "unaffected"  # nothing moved, and no request was bad: there is no recovery
    CENSORED = "censored"  # not recovered before the limit
    INVALID = "invalid"  # not a sample: its reason says why
    SKIPPED = "skipped"  # its time came while another cycle had not settled
    CONTROL = "control"  # nothing was taken away: the meter's own floor


PHASES = ("replace", "publish", "discover", "rejoin", "serve", "settle")
# With the one that a cycle has only where each node has a nameserver of its own.
PHASES_OF_NODES = ("replace", "publish", "gossip", "discover", "rejoin", "serve", "settle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the proxy's algorithm gives for a recovery; seconds after T0."""

    lower_s: float
    mean_s: float
    upper_s: float
    # Its distribution, where the algorithm was tried out: {"p05": …, "p50": …, "p95": …, …}.
    quantiles_s: dict[str, float] | None = None
    # The same of the stable recovery, and which share of all relapses before.
    stable_mean_s: float | None = None
    stable_quantiles_s: dict[str, float] | None = None
    relapse_share: float | None = None
    # Where nothing moves: the share of all phases in which no request is bad. All other numbers
    # are those of the other phases, and 0 if there is none.
    unaffected_share: float | None = None
    # What requests come to, in seconds' worth: {"lower": …, "mean": …, "upper": …}.
    failed_s: dict[str, float] | None = None
    masked_s: dict[str, float] | None = None
    misrouted_s: dict[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisturbanceSpan:
    """What one fault of a cycle did to the world, and when; seconds after T0."""

    fault: str  # its label
    type: str  # move, restart, dns, program, or a plugin's word
    began_s: float
    ended_s: float | None  # None: it lasted until the observation was over
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """One disturbance and its recovery: a line of cycles.jsonl. None means unknown."""

    cycle: int
    cell: str
    fault: str
    runtime: str
    proxy: str
    outcome: CycleOutcome
    t0_unix: float
    t0_ns: int
    end_ns: int
    old_ip: str | None = None
    new_ip: str | None = None
    recovery_s: float | None = None
    fresh_recovery_s: float | None = None  # until one was answered that no retry had held up
    stable_recovery_s: float | None = None
    outage_gap_s: float | None = None
    outage_loss_s: float | None = None
    resolution_s: float | None = None  # the error bar of the numbers above
    interval_s: float | None = None  # from one probe to the next
    samples: int = 0
    failed: int = 0
    masked: int = 0
    misrouted: int = 0
    dropped: int = 0
    lag_p99_s: float | None = None  # how late the probes of this cycle were sent
    phases: dict[str, float | None] = field(default_factory=dict)  # "replace_s" … "settle_s"
    phases_error_s: float | None = None  # of the edge between them that is known worst
    predicted: Prediction | None = None
    anomaly: bool | None = None
    residual_s: float | None = None  # the fresh recovery less the predicted mean
    predicted_place: float | None = None  # the part of the predicted distribution that is shorter
    kind: CycleKind = CycleKind.FAILOVER
    arm: str = ""  # the set of settings under test
    cause: Cause | None = None  # why it is invalid or was skipped
    cut_off: bool = False  # by a stop, before it had recovered: it takes longer than it lasted
    disturbances: tuple[DisturbanceSpan, ...] = ()
    doubt: Doubt | None = None  # why it is poor: then it is in no number of a run
    # By kind of lag: how late the world was, and how much it lost. None: nobody looked.
    world_lag_s: dict[str, float] | None = None
    world_lost: dict[str, int] | None = None
    # Requests that the old instance answered although the proxy had the new address by then: over
    # connections that it kept. None: no old instance lived on, or nobody told of the switch.
    reused: int | None = None

    @property
    def lasted_s(self) -> float:
        """From T0 to the end of the observation."""
        return (self.end_ns - self.t0_ns) / 1e9

    @property
    def early_s(self) -> float:
        """By how much a retried request got through earlier than fresh ones; 0 if none is seen."""
        fresh_s, first_s, bar_s = self.fresh_recovery_s, self.recovery_s, self.resolution_s
        if fresh_s is None or first_s is None or bar_s is None or fresh_s - first_s <= 2 * bar_s:
            return 0.0
        return fresh_s - first_s

    @property
    def took_at_least_s(self) -> float:
        """The recovery, or how long there was none."""
        return self.lasted_s if self.recovery_s is None else self.recovery_s
