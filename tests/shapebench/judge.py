"""Observed cycles against the model's trials, per shape and version.

A cycle is in the band if its value lies between the least and the greatest of the trials, widened
by what the bench cannot tell apart: before, by a timer's lateness (`EARLY_S`); after, by the time
until the next request that can show it (`turns / RATE`), and `LATE_S` for the machine. The residual
test is Kolmogorov's for two samples, with the trials at each place between two requests, and
differences below `SLACK_S` not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shapebench.catalogue import Shape
from shapebench.cycle import RATE
from shapebench.measure import Measured

from chaosd.analysis.statistics import student
from chaosd.proxies.haproxy.cfg.backend import read_backends
from chaosd.proxies.haproxy.cfg.effective import effective
from chaosd.proxies.haproxy.cfg.reader import read_texts
from chaosd.proxies.haproxy.model.backend import Backend, Happening, Unknown
from chaosd.proxies.haproxy.model.outlook import Trial, outlook, trials

EARLY_S, LATE_S, SLACK_S = 0.005, 0.03, 0.015
PLACES = 8  # between two requests
WORDS = ("api", "door", "ns", "ns2", "old")
STANDS_FOR = ("/api", "127.0.0.1:1", "127.0.0.2:53", "127.0.0.3:53", "127.0.0.10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well one number of a shape is predicted on one version."""

    observed: tuple[float, ...]  # in order; inf: it never came
    predicted: tuple[float, ...]
    lower: float
    upper: float

    @property
    def inside(self) -> int:
        return sum(self.lower <= value <= self.upper for value in self.observed)

    @property
    def p(self) -> float:
        return kolmogorov_p(self.observed, self.predicted, SLACK_S)
