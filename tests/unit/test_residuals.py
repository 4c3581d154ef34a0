"""Residuals: the place in a predicted distribution, and whether places fill it evenly."""

import random

import budget
import pytest

from chaosd.analysis.residuals import place, residuals, uniform_p
from chaosd.history.cycles import Prediction
from chaosd.plugins.timeline import move
from chaosd.proxies.haproxy.config import Config, settings_of
from chaosd.proxies.haproxy.model.predicting import predict
from chaosd.proxies.haproxy.model.trials import recoveries

# Uniform from 1 s to 2 s.
QUANTILES = {f"p{q:02}": 1 + q / 100 for q in (5, 10, 50, 90, 95)}
EVEN = Prediction(lower_s=1.0, mean_s=1.5, upper_s=2.0, quantiles_s=QUANTILES)


@pytest.mark.parametrize(
    ("recovery_s", "share"),
    [(0.5, 0.0), (1.0, 0.0), (1.25, 0.25), (1.5, 0.5), (1.97, 0.97), (2.0, 1.0), (9.0, 1.0)],
)
def test_the_place_is_the_part_that_is_shorter(recovery_s, share):
    assert place(EVEN, recovery_s, 0.0) == pytest.approx(share)


def test_a_lump_is_filled_by_where_the_probes_met_it():
    """Half of all recover at exactly 1 s, and are measured anywhere up to an interval later."""
    quantiles = {"p05": 1.0, "p50": 1.0, "p95": 1.9}
    lumpy = Prediction(lower_s=1.0, mean_s=1.2, upper_s=2.0, quantiles_s=quantiles)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        met = place(lumpy, 1.0 + 0.02 * share, 0.02)
        assert met == pytest.approx(0.5 * share, abs=0.03)


@pytest.mark.sized
@pytest.mark.parametrize(
    ("resolvers", "moved"),
    [
        ({"timeout_resolve": "200ms", "timeout_retry": "200ms"}, {"listening_s": 3.2}),
        ({}, {"listening_s": 1.2}),
        ({"timeout_resolve": "200ms"}, {"published_s": 0.0, "missing_s": None}),
        ({}, {}),
    ],
)
def test_a_world_that_is_the_model_is_not_refuted(resolvers, moved):
    """Measured by probes, of which one in a lump of the distribution is as good as any other."""
    config = settings_of(Config.model_validate({"type": "haproxy", "resolvers": resolvers}))
    happens = {"published_s": 0.2, "listening_s": 0.25, "missing_s": 0.0} | moved
    happens = move(missing="nxdomain", old_ip="refuse", **happens)
    predicted = predict(config, "3.0.11", happens)
    found = [trial.first_s for trial in recoveries(config, "3.0.11", happens)]
    interval_s, low, means = 0.02, 0, []
    runs = budget.of(6, 40)
    for seed in range(runs):
        rng = random.Random(seed)
        seen = [rng.choice(found) + rng.random() * interval_s for _ in range(200)]
        places = sorted(place(predicted, recovery_s, interval_s) for recovery_s in seen)
        low += uniform_p(places) < 0.05
        means.append(sum(seen) / len(seen) - interval_s / 2 - predicted.mean_s)
    assert low <= budget.of(2, 6)
    assert sum(means) / len(means) == pytest.approx(0.0, abs=0.012)


def test_without_a_distribution_there_is_no_place():
    assert place(Prediction(lower_s=1, mean_s=1, upper_s=2), 1.5, 0.01) is None


def test_the_mean_residual_has_students_interval():
    found = residuals([0.1, 0.3, 0.2, 0.2, 0.2], [])
    assert found.n == 5
    assert found.mean_s == pytest.approx(0.2)
    # 2.7764 times 0.070711 / √5
    assert found.high_s - found.mean_s == pytest.approx(0.08780, abs=1e-5)
    assert found.mean_s - found.low_s == pytest.approx(0.08780, abs=1e-5)
    assert found.uniform_p is None
    assert residuals([], []).mean_s is None
    assert residuals([0.1], []).low_s is None


def test_ninety_five_of_a_hundred_intervals_hold_the_truth_also_of_few():
    rng = random.Random(4)
    for n in (2, 3, 8, 30):
        held = 0
        for _ in range(1000):
            found = residuals([rng.gauss(0, 1) for _ in range(n)], [])
            held += found.low_s <= 0 <= found.high_s
        assert 930 <= held <= 970, n


def test_uniform_places_are_taken_for_uniform_and_others_are_not():
    """Of uniform samples one in twenty has p below 0.05, whatever their number."""
    rng = random.Random(3)
    for n in (8, 20, 200):
        low = 0
        for _ in range(1000):
            low += uniform_p(sorted(rng.random() for _ in range(n))) < 0.05
        assert 30 <= low <= 70, n
    squeezed = sorted(0.25 + rng.random() / 2 for _ in range(100))
    assert uniform_p(squeezed) < 0.001
    assert uniform_p([0.1] * 7) is None


@pytest.mark.slow  # scipy.stats takes a second; the spread of p is looked at each time
def test_p_is_nearly_that_of_the_exact_distribution():
    """scipy's exact one is the oracle; it is not used, for it takes long to import."""
    from scipy import stats

    rng = random.Random(5)
    for n, off in ((8, 0.025), (50, 0.02), (200, 0.01)):
        for _ in range(100):
            places = sorted(rng.random() ** rng.choice((0.7, 1, 1.5)) for _ in range(n))
            exact = stats.kstest(places, "uniform", method="exact").pvalue
            assert uniform_p(places) == pytest.approx(exact, abs=off)


def test_a_known_value_of_the_statistic():
    """D of 0.1, 0.2, … 0.8 is 0.2: at 0.8, of which all eight eighths are below."""
    # (√8 + 0.12 + 0.11 / √8) 0.2 = 0.5974 → Q = 0.868
    assert uniform_p([k / 10 for k in range(1, 9)]) == pytest.approx(0.868, abs=0.005)


def test_with_a_censored_cycle_there_is_no_mean_residual():
    """What was cut short is longer than the rest, which alone would look too quick."""
    import fake

    from chaosd.analysis.summary import summarise
    from chaosd.history.cycles import CycleOutcome

    good = [fake.cycle(cycle=number, residual_s=0.2) for number in range(1, 10)]
    cut = fake.cycle(
        cycle=10, outcome=CycleOutcome.CENSORED, recovery_s=None, stable_recovery_s=None
    )
    manifest = {"cells": ["c1"]}
    assert summarise("x", manifest, good, [], {}).total.residual.n == 9
    whole = summarise("x", manifest, [*good, cut], [], {}).total
    assert whole.residual.mean_s is None
    assert whole.residual.uniform_p is None


def test_many_that_were_cut_off_hide_what_they_would_have_taken():
    """One that a stop has cut off is no reason to say nothing: it hides less than the interval."""
    import fake

    from chaosd.analysis.summary import summarise
    from chaosd.history.cycles import CycleOutcome

    good = [fake.cycle(cycle=number, residual_s=0.2) for number in range(1, 21)]
    cut = fake.cycle(
        outcome=CycleOutcome.INVALID,
        recovery_s=None,
        cause=fake.STOPPED,
        cut_off=True,
    )
    manifest = {"cells": ["c1"]}
    assert summarise("x", manifest, [*good, cut], [], {}).total.residual.n == 20
    assert summarise("x", manifest, [*good, cut, cut], [], {}).total.residual.n == 0
