"""Observed cycles against the model's trials, per shape and version.

The band is the middle `BAND` of the trials, as the bench sees them: with the next request that can
show it at each of `PLACES`, and widened by what the bench cannot tell apart: a timer's lateness
(`EARLY_S`, `LATE_S`), a request more or less where they are counted, how late the cycle was. It is
narrow if it is at most `WIDER` times as wide as the observed 5 to 95 % range, and `WIDER_S` more.
The residual test is Kolmogorov's for two samples; differences below `SLACK_S` do not count.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from chaosd.analysis.statistics import student
from chaosd.proxies.haproxy.cfg.backend import read_backends
from chaosd.proxies.haproxy.cfg.condition import BuildFacts
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.files import SourceText
from chaosd.proxies.haproxy.cfg.host import Host, here
from chaosd.proxies.haproxy.cfg.reader import read_texts
from chaosd.proxies.haproxy.cfg.resolve import resolve
from chaosd.proxies.haproxy.model.backend import Backend, Unknown
from chaosd.proxies.haproxy.model.outlook import queries_per_s, run_trials
from chaosd.proxies.haproxy.model.users import PATIENT
from shapebench.catalogue import Shape
from shapebench.cycle import RATE
from shapebench.measure import REST_S, Measured

EARLY_S, LATE_S, SLACK_S = 0.005, 0.01, 0.015
TRIALS, BAND = 400, 0.98
WIDER, WIDER_S = 1.5, 0.05
PLACES = 8  # between two requests
WORDS = {
    "api": "/api",
    "entry": "127.0.0.1:8080",
    "ns": "127.0.0.2:53",
    "ns2": "127.0.0.3:53",
    "old": "127.0.0.10",
}
NUMBERS = ("recovery_s", "stable_s", "failed_s", "misrouted_s", "masked_s", "queries")


class Number(NamedTuple):
    """One number of a shape on one version, as observed and as predicted, both in order."""

    observed: Sequence[float]  # inf: it never came
    predicted: Sequence[float]
    lower: float
    upper: float  # of a cycle that was not late at all
    inside: int  # so many of the observed
    narrow: bool
    p: float  # of the residual test


@dataclass(frozen=True, slots=True)
class Verdict:
    """A shape on one version: its numbers by their names, and queries per second at rest."""

    n: int
    numbers: dict[str, Number]
    rest_observed: float
    rest_predicted: float


def backend_of(shape: Shape, version: str) -> Backend | Unknown:
    """The backend `app` as the reader makes it of the shape's text."""
    source = SourceText(Path("haproxy.cfg"), shape.config.format(**WORDS))
    dialect = Dialect.of(version)
    read = resolve(read_texts([source], build=BuildFacts(dialect, None)), dialect)
    host = here() if shape.ipv6_route is None else Host(0, shape.ipv6_route)
    return next(backend for backend in read_backends(read, host))


def judge(shape: Shape, version: str, seen: Sequence[Measured]) -> Verdict | Unknown:
    """Hold these cycles against the model."""
    backend = backend_of(shape, version)
    if isinstance(backend, Unknown):
        return backend
    scenario = replace(shape.scenario, instances=dict(shape.names)[shape.app])
    clients = replace(PATIENT, rate=RATE)
    found = run_trials(
        backend,
        version,
        scenario,
        least=TRIALS,
        most=TRIALS,
        horizon_s=shape.horizon_s,
        clients=clients,
    )
    if isinstance(found, Unknown):
        return found
    numbers = {}
    for name in NUMBERS:
        observed = sorted((getattr(one, name), one.late_s) for one in seen)
        predicted = sorted(getattr(trial, name) for trial in found)
        numbers[name] = _number(name, observed, predicted, shape, asked=backend.is_crowded)
    rest_s = REST_S * len(seen)
    return Verdict(
        len(seen),
        numbers,
        sum(one.queries_at_rest for one in seen) / rest_s,
        queries_per_s(backend),
    )


def _number(
    name: str,
    seen: Sequence[tuple[float, float]],
    predicted: Sequence[float],
    shape: Shape,
    *,
    asked: bool,
) -> Number:
    """`seen` are the values, each with how late its cycle was.

    `asked`: the trials have requests, too, as they come in the bench.
    """
    wait_s = 0.0 if asked else shape.turns / RATE
    early, late, slack, wait = EARLY_S, LATE_S, SLACK_S, wait_s
    if name in ("failed_s", "misrouted_s", "masked_s"):
        early = late = slack = 1 / RATE + LATE_S
        wait = 0.0
    elif name == "queries":
        early = late = slack = float(shape.nameservers)
        wait = 0.0
    waits = [wait * (k + 0.5) / PLACES for k in range(PLACES)]
    if name == "stable_s" and not asked:  # the first good one after the last bad one
        waits = [1 / RATE - one for one in waits]
    places = sorted(max(0.0, value + one) if value else 0.0 for value in predicted for one in waits)
    if name == "stable_s" and not asked:  # no request may come before so early an end
        places = sorted(0.0 if place < 1 / RATE else place for place in places)
    observed = [value for value, _ in seen]
    lower, upper = quantile(places, (1 - BAND) / 2) - early, quantile(places, (1 + BAND) / 2) + late
    timed = 1.0 if name.endswith("_s") else 0.0
    inside = sum(lower <= value <= upper + timed * late_s for value, late_s in seen)
    usual = quantile(observed, 0.95) - quantile(observed, 0.05) if observed[0] < math.inf else 0.0
    narrow = observed[-1] == upper == math.inf or upper - max(0.0, lower) <= WIDER * usual + WIDER_S
    p = kolmogorov_p(observed, places, len(predicted), slack)
    return Number(observed, predicted, lower, upper, inside, narrow, p)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    at = share * (len(ordered) - 1)
    low, high = ordered[math.floor(at)], ordered[math.ceil(at)]
    return low if low == high else low + (at - math.floor(at)) * (high - low)


def kolmogorov_p(
    observed: Sequence[float], expected: Sequence[float], trials: int, slack: float
) -> float:
    """The probability of such a distance between two samples of one distribution.

    Both are in order. What is apart by no more than `slack` is not told apart. Stephens' correction
    as in `chaosd.analysis.residuals`.
    """
    from scipy import special

    most = 0.0
    for value in (*observed, *(value for value in expected if value < math.inf)):
        seen = _part(observed, value)
        most = max(most, seen - _part(expected, value + slack))
        most = max(most, _part(expected, value - slack) - seen)
    n = len(observed) * trials / (len(observed) + trials)
    return float(special.kolmogorov(most * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))))


def _part(ordered: Sequence[float], value: float) -> float:
    return bisect_right(ordered, value) / len(ordered)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of those that came to an end, and its 95 % interval."""
    ends = [value for value in values if value < math.inf]
    n = len(ends)
    if not n:
        return math.inf, math.inf, math.inf
    mean = math.fsum(ends) / n
    if (t := student(n - 1)) is None:
        return mean, -math.inf, math.inf
    half = t * math.sqrt(math.fsum((value - mean) ** 2 for value in ends) / (n - 1) / n)
    return mean, mean - half, mean + half
