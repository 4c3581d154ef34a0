"""What a cycle came to: from its requests and DNS queries to the numbers that a model predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chaosd.proxies.haproxy.model.backend import SLOW_S, Happening
from shapebench.catalogue import Shape
from shapebench.cycle import IMPOSTER, NEW, RATE, SETTLE_S, Observation, Sample

LATE_S_MAX = 0.02  # by more than that, and the cycle says nothing of HAProxy
AFTER_S = 0.5  # lateness is looked at until so long after all is over
REST_S = SETTLE_S  # at rest, queries are counted for so long before T0, which comes at any time


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One cycle. Requests are counted in seconds' worth; what never came is inf."""

    recovery_s: float
    stable_s: float
    failed_s: float
    misrouted_s: float
    masked_s: float
    unaffected: bool
    slowest_s: float
    queries: int  # from T0 until the name is published, or the trouble ends
    queries_at_rest: int
    late_s: float  # by how much requests were sent too late, or a timer of the bench was, at worst


def is_good(sample: Sample) -> bool:
    """Whether some instance has answered 200."""
    return sample.outcome == NEW or "." in sample.outcome  # an identity has its name in DNS


def measured(seen: Observation, shape: Shape) -> Measured:
    """The numbers of a cycle without trouble."""
    samples = [sample for sample in seen.samples if 0 <= sample.scheduled_s < shape.horizon_s]
    good = [sample for sample in samples if is_good(sample)]
    bad = [sample for sample in samples if not is_good(sample)]
    misrouted = sum(sample.outcome == IMPOSTER for sample in bad)
    last_bad_s = max((sample.scheduled_s for sample in bad), default=-math.inf)
    stable_s = _first(good, last_bad_s) if bad else 0.0
    if shape.scenario.happening == Happening.DNS_TROUBLE:
        recovery_s = stable_s
    else:
        fresh = [s for s in good if s.outcome == NEW and not _is_slow(s)]
        recovery_s = _first(fresh, -math.inf)
    until_s = min(shape.scenario.published_s, shape.horizon_s)
    judged_s = _judged_s(shape, recovery_s, stable_s)
    return Measured(
        recovery_s=recovery_s,
        stable_s=stable_s,
        failed_s=(len(bad) - misrouted) / RATE,
        misrouted_s=misrouted / RATE,
        masked_s=sum(_is_slow(sample) for sample in good if sample.scheduled_s < judged_s) / RATE,
        unaffected=not bad,
        slowest_s=max((sample.done_s - sample.scheduled_s for sample in samples), default=0.0),
        queries=sum(0 <= at_s < until_s for at_s, *_ in seen.queries),
        queries_at_rest=sum(-REST_S <= at_s < 0 for at_s, *_ in seen.queries),
        late_s=max(
            0.0,
            *(s.sent_s - s.scheduled_s for s in seen.samples if s.scheduled_s < judged_s),
            *(late_s for at_s, late_s in seen.lags if at_s < judged_s),
        ),
    )


def _first(samples: list[Sample], after_s: float) -> float:
    return min((s.done_s for s in samples if s.scheduled_s > after_s), default=math.inf)


def _is_slow(sample: Sample) -> bool:
    return sample.done_s - sample.scheduled_s > SLOW_S


def _judged_s(shape: Shape, *ends_s: float) -> float:
    """Until when a late machine disturbs: until some time after the last edge and change."""
    return AFTER_S + max(shape.scenario.published_s, shape.scenario.healthy_s, *ends_s)


def is_fit(one: Measured, late_s_max: float = LATE_S_MAX) -> bool:
    """Whether the cycle may be judged."""
    return one.late_s <= late_s_max
