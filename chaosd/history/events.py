"""The values that flow from the world to the report, and their stored form.

No behaviour lives here and nothing of ours is imported. Instants are integer nanoseconds on the
run's monotonic clock unless the name says `unix`; durations that users read are seconds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple


class Address(NamedTuple):
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Outcome(IntEnum):
    """How one probe request ended: a closed list, so that it can be a label and a byte on disk.

    Whether an OK answer was *misrouted* is not the probe's to know: see `kinds` in analysis.
    """

    OK = 0  # a whole answer with a status below 400
    HTTP_ERROR = 1  # a whole answer with a status of 400 or more, the proxy's own 503 included
    REFUSED = 2  # nobody listens
    RESET = 3  # closed or reset before the answer was whole
    TIMEOUT = 4  # no whole answer within the probe's timeout, counted from the scheduled time
    UNREACHABLE = 5  # no route or no host
    GARBLED = 6  # an answer that is not the protocol's
    TLS = 7  # the handshake or the certificate
    DROPPED = (
        8  # never sent: too late, too many in flight, no descriptor. Our fault, not the target's
    )


class Sample(NamedTuple):
    """One probe request, whether or not it was answered."""

    stream: int
    scheduled_ns: int
    sent_ns: int
    done_ns: int
    outcome: int
    status: int  # the protocol's status code, 0 where there is none
    who: str  # the identity that answered, "" where none was told


class StreamSpec(NamedTuple):
    """One row of samples: which probe asks for which cell. `stream` is unique in a run."""

    stream: int
    cell: str
    probe: str  # the probe's name in the config
    via: str  # "proxy", or "direct" for the control probe that asks the app itself
    interval_ns: int


class Instance(NamedTuple):
    """One incarnation of the app: an identity and an IP."""

    identity: str
    address: Address


ANYBODY = "*"  # the identity of an app that can't be told from others: all good answers are its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One edge of something that chaosd did to the world."""

    at_ns: int
    cell: str
    cycle: int  # 0 outside of cycles
    verb: str
    edge: str  # "asked", then "done" or "failed"
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Something the world said of itself."""

    at_ns: int
    cell: str
    cycle: int
    source: str  # "dns", "proxy.log", "proxy.api", "app", "engine"
    what: str
    error_ns: int = 0  # how far `at_ns` may be from the truth
    data: dict[str, Any] = field(default_factory=dict)


Event = Action | Reading


class CycleOutcome(StrEnum):
    RECOVERED = "recovered"
    CENSORED = "censored"  # not recovered before the limit
    INVALID = "invalid"  # not a sample: its reason says why
    SKIPPED = "skipped"  # its time came while another cycle had not settled
    CONTROL = "control"  # nothing was taken away: the meter's own floor


PHASES = ("replace", "publish", "discover", "rejoin", "serve", "settle")


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
    valid_reason: str | None = None  # why it is invalid, skipped or of poor quality

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


def rounded_ns(duration_ns: int) -> int:
    """To the whole microsecond: what is stored of a sample's durations, and so what they count."""
    return (duration_ns + 500) // 1000 * 1000


def encode(value: Action | Reading | Cycle) -> str:
    """One JSON line, keys in a fixed order, so that equal runs are equal bytes."""
    kind = {} if isinstance(value, Cycle) else {"kind": type(value).__name__.lower()}
    return json.dumps(kind | asdict(value), separators=(",", ":"), allow_nan=False)


def decode_event(line: str) -> Event:
    """The event of one line of events.jsonl. Raises ValueError for anything else."""
    try:
        value = json.loads(line)
        kind = {"action": Action, "reading": Reading}[value.pop("kind")]
        event: Event = kind(**value)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an event: {line[:80]!r}") from error
    return event


def decode_cycle(line: str) -> Cycle:
    """The cycle of one line of cycles.jsonl. Raises ValueError for anything else."""
    try:
        value = json.loads(line)
        predicted = value.pop("predicted")
        outcome = CycleOutcome(value.pop("outcome"))
        return Cycle(
            **value, outcome=outcome, predicted=Prediction(**predicted) if predicted else None
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a cycle: {line[:80]!r}") from error
