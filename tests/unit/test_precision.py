"""When a run knows enough."""

from __future__ import annotations

from random import Random

import budget
import fake
import pytest

from chaosd.analysis import sequences
from chaosd.analysis.precision import (
    CYCLES_MIN,
    Precision,
    Shortfall,
    ShortfallKind,
    cycles_wanted,
    half_width,
)
from chaosd.analysis.statistics import Estimate
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
    assert CYCLES_MIN == 90
    assert sequences.ranks(89, 0.95)[1] is None
    assert sequences.ranks(90, 0.95)[1] == 90
    assert cycles_until(0.01, [1.0] * 200) == 90
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


def test_poor_cycles_are_none_that_an_objective_can_be_judged_by() -> None:
    goals = Slo.model_validate({"faults": {"imposter": {"failed": "50%", "min_cycles": 100}}})
    fold = Precision(0.01, goals.objectives())
    for _ in range(100):
        fold.add(fake.cycle())
        fold.add(fake.cycle(fault="imposter", doubt=fake.LATE))
    assert not fold.reached
    assert fold.shortfall() == Shortfall(kind=ShortfallKind.FAILOVERS, count=100)


def test_it_looks_seldom() -> None:
    """A look sorts all recoveries; with very many of them there need not be one after each."""
    recoveries_s = [1.0] * 86 + [2.0] * 4 + [1.0] * 800
    good = next(
        n for n in range(90, 900) if sequences.quantile(recoveries_s[:n], [], 0.95).high == 1.0
    )
    found = cycles_until(0.01, recoveries_s)
    assert found is not None
    assert good <= found <= 1.01 * good + 1


@pytest.mark.sized
def test_the_interval_at_the_stop_is_right() -> None:
    """Looked at after each cycle, and stopped when it is narrow enough."""
    rng, runs, right = Random(7), budget.of(30, 400), 0
    for _ in range(runs):
        fold = Precision(0.07, {})
        while not fold.reached:
            fold.add(fake.cycle(recovery_s=0.2 + rng.random()))
        found = fold.p95()
        assert found.low is not None
        assert found.high is not None
        right += found.low <= 1.15 <= found.high
    assert right >= 0.95 * runs


def test_recoveries_that_never_come_are_never_known_well() -> None:
    assert cycles_until(0.5, [1.0, None] * 300) is None


@pytest.mark.parametrize(
    ("recoveries_s", "short"),
    [
        ([1.0] * 70, Shortfall(kind=ShortfallKind.FAILOVERS, count=20)),
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
