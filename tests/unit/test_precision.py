"""When a run knows enough."""

from __future__ import annotations

import fake
import pytest

from chaosd.analysis.precision import (
    CYCLES_MIN,
    Precision,
    Shortfall,
    ShortfallKind,
    cycles_wanted,
    half_width,
)
from chaosd.analysis.statistics import Estimate, quantiles
from chaosd.config.slo import Slo
from chaosd.history.cycles import CycleOutcome


def cycles_until(precision: float, recoveries_s: list[float | None]) -> int | None:
    """How many cycles it takes; None is a recovery that never came."""
    fold = Precision(precision, {})
    for count, recovery_s in enumerate(recoveries_s, start=1):
        outcome = CycleOutcome.CENSORED if recovery_s is None else CycleOutcome.RECOVERED
        if fold.add(fake.cycle(outcome=outcome, recovery_s=recovery_s)) is not None:
            return count
    return None


def test_it_takes_an_upper_bound_of_the_p95() -> None:
    assert CYCLES_MIN == 72
    assert cycles_until(0.01, [1.0] * 200) == 72
    # What is skipped or invalid is no failover, and does not count.
    fold = Precision(0.01, {})
    for _ in range(100):
        assert fold.add(fake.cycle(outcome=CycleOutcome.INVALID, recovery_s=None)) is None


def test_it_goes_on_until_every_objective_can_be_judged() -> None:
    goals = Slo.model_validate(
        {"recovery_p99": "5s", "faults": {"imposter": {"misrouted": "50%", "min_cycles": 300}}}
    ).objectives()
    assert cycles_wanted(goals) == {None: 368, "imposter": 300}
    fold, count = Precision(0.01, goals), 0
    for fault in ["recreate", "recreate", "imposter"] * 400:
        count += 1
        if fold.add(fake.cycle(fault=fault)) is not None:
            break
    assert count == 900  # of which 300 are the imposter's
    assert fold.reached


def test_it_looks_seldom() -> None:
    """Who looks after each cycle stops too often when it only looks good."""
    recoveries_s = [1.0] * 68 + [2.0] * 4 + [1.0] * 400
    good = next(n for n in range(72, 400) if quantiles(recoveries_s[:n]).p95.high == 1.0)
    looks = [72]
    while looks[-1] < good:
        looks.append(-(-looks[-1] * 105 // 100))
    assert good not in looks
    assert cycles_until(0.01, recoveries_s) == looks[-1]


def test_recoveries_that_never_come_are_never_known_well() -> None:
    assert cycles_until(0.5, [1.0, None] * 300) is None


@pytest.mark.parametrize(
    ("recoveries_s", "short"),
    [
        ([1.0] * 70, Shortfall(kind=ShortfallKind.FAILOVERS, count=2)),
        ([1.0, None] * 50, Shortfall(kind=ShortfallKind.NO_INTERVAL)),
        ([1.0] * 90 + [2.0] * 10, Shortfall(kind=ShortfallKind.WIDE, share=0.25)),
    ],
)
def test_what_is_short_is_a_value(recoveries_s, short) -> None:
    fold = Precision(0.01, {})
    for recovery_s in recoveries_s:
        outcome = CycleOutcome.CENSORED if recovery_s is None else CycleOutcome.RECOVERED
        fold.add(fake.cycle(outcome=outcome, recovery_s=recovery_s))
    assert fold.shortfall() == short


@pytest.mark.parametrize(
    ("estimate", "half"),
    [
        (Estimate(1.0, 0.9, 1.2), 0.15),
        (Estimate(1.0, None, 1.2), None),
        (Estimate(1.0, 0.9, None), None),
        (Estimate(None, 0.9, None, beyond=2.0), None),
        (Estimate(0.0, 0.0, 0.0), None),
    ],
)
def test_half_a_width(estimate, half) -> None:
    assert half_width(estimate) == (None if half is None else pytest.approx(half))
