"""Kaplan and Meier's curve, against what the literature prints, and against its promise."""

from __future__ import annotations

import warnings
from random import Random

import budget
import pytest
from hypothesis import given, settings, strategies

from chaosd.analysis.statistics import quantiles
from chaosd.analysis.survival import kaplan_meier, quantile, restricted_mean

FEW = settings(derandomize=True, max_examples=budget.of(20, 100), deadline=None)
TIMES = strategies.lists(strategies.integers(1, 20).map(float), max_size=30)

# Weeks in remission of 21 children on 6-mercaptopurine, the example of every book on survival
# (Freireich et al., Blood 21, 1963; Klein and Moeschberger, Survival Analysis, table 4.1).
REMISSION = [6, 6, 6, 7, 10, 13, 16, 22, 23]
CENSORED = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]


def test_the_curve_is_the_one_in_the_books() -> None:
    steps = kaplan_meier(REMISSION, CENSORED)
    assert [(s.time, s.at_risk, s.events) for s in steps] == [
        (6, 21, 3),
        (7, 17, 1),
        (10, 15, 1),
        (13, 12, 1),
        (16, 11, 1),
        (22, 7, 1),
        (23, 6, 1),
    ]
    # As Stata prints it: sts list, with its log-log intervals.
    printed = [
        (0.8571, 0.6197, 0.9516),
        (0.8067, 0.5631, 0.9228),
        (0.7529, 0.5032, 0.8894),
        (0.6902, 0.4316, 0.8491),
        (0.6275, 0.3675, 0.8049),
        (0.5378, 0.2678, 0.7468),
        (0.4482, 0.1881, 0.6801),
    ]
    for step, (survival, low, high) in zip(steps, printed, strict=True):
        assert step.survival == pytest.approx(survival, abs=6e-5)
        assert step.low == pytest.approx(low, abs=6e-5)
        assert step.high == pytest.approx(high, abs=6e-5)


def test_its_median_and_mean_are_the_ones_in_the_books() -> None:
    steps = kaplan_meier(REMISSION, CENSORED)
    # R: survfit(..., conf.type = "log-log") has the median 23, 13 to NA.
    assert quantile(steps, 0.5) == (23, 13, None)
    # The band's lower side comes down to 0.188 and no further: p95 is beyond the last step.
    assert quantile(steps, 0.95) == (None, 23, None)
    mean, error = restricted_mean(steps, 35)
    assert mean == pytest.approx(23.29, abs=0.005)
    # The book has 2.83, Greenwood's own; ours has the factor that makes it the usual one of a mean.
    assert error == pytest.approx(2.827 * (9 / 8) ** 0.5, abs=0.002)


@FEW
@given(TIMES, TIMES)
def test_the_curve_goes_down_and_stays_within_its_band(values, censored) -> None:
    steps = kaplan_meier(values, censored)
    assert [s.time for s in steps] == sorted(set(values))
    heights = [1.0, *(s.survival for s in steps)]
    assert heights == sorted(heights, reverse=True)
    for step in steps:
        if step.low is None:
            assert step.survival == 0
        else:
            assert 0 <= step.low <= step.survival <= step.high <= 1


@FEW
@given(TIMES.filter(bool))
def test_without_anybody_censored_it_is_the_part_that_took_longer(values) -> None:
    for step in kaplan_meier(values, []):
        longer = sum(value > step.time for value in values)
        assert step.survival == pytest.approx(longer / len(values), abs=1e-12)


@pytest.mark.slow  # scipy.stats takes a second; the curves of the books are looked at each time
@FEW
@given(TIMES.filter(bool), TIMES)
def test_scipy_has_the_same_curve_and_band(values, censored) -> None:
    """An implementation that nobody of us wrote; ours is why it is in docs/decisions/0012."""
    from scipy import stats

    found = stats.ecdf(stats.CensoredData(uncensored=values, right=censored)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # its band has no end where nobody is left
        band = found.confidence_interval(method="log-log")
    places = {float(time): place for place, time in enumerate(found.quantiles)}
    for step in kaplan_meier(values, censored):
        place = places[step.time]
        assert step.survival == pytest.approx(found.probabilities[place], abs=1e-12)
        if step.low is not None:
            assert step.low == pytest.approx(band.low.probabilities[place], abs=1e-9)
            assert step.high == pytest.approx(band.high.probabilities[place], abs=1e-9)


def test_its_intervals_cover_the_truth() -> None:
    """Recoveries of 0.2 to 1.3 s, a third of them cut off at some time: 500 runs of 60 cycles."""
    random, missed, runs = Random(4), {"p50": 0, "p90": 0}, 500
    truth = {"p50": 0.75, "p90": 1.19}
    for _ in range(runs):
        pairs = [(random.uniform(0.2, 1.3), random.uniform(0, 2.25)) for _ in range(60)]
        found = quantiles([v for v, c in pairs if v <= c], [c for v, c in pairs if v > c])
        for name in missed:
            estimate = getattr(found, name)
            above = estimate.low is not None and estimate.low > truth[name]
            below = estimate.high is not None and estimate.high < truth[name]
            missed[name] += above or below
    # 25 are due, with a standard deviation of 5.
    assert all(count <= 40 for count in missed.values()), missed
