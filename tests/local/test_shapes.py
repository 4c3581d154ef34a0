"""Whole backends on a real HAProxy: what users meet is what the model of the file says."""

from __future__ import annotations

from random import Random

import machine
import pytest
import uvloop
from shapebench import lanes
from shapebench.catalogue import SHAPES
from shapebench.cycle import Observation
from shapebench.judge import judge
from shapebench.measure import is_fit, measured

from chaosd.proxies.haproxy import builds

pytestmark = [pytest.mark.haproxy, pytest.mark.quiet, pytest.mark.early]

CYCLES = 4
QUICK = (
    "single, no gap",
    "template, replace one of three",
    "two names, redispatch",
    "SERVFAIL 2s, no holds",
)


def test_what_users_meet_is_as_predicted() -> None:
    build = builds.find(None)
    if build is None:
        pytest.skip("no build of HAProxy (chaosd haproxy install)")
    shapes = [shape for shape in SHAPES if shape.name in QUICK]
    assert len(shapes) == len(QUICK)
    seen: list[Observation] = []
    rng = Random(1)
    todo = lanes.jobs(shapes, [build], CYCLES, rng)
    uvloop.run(lanes.run(todo, len(todo), rng, seen.append, patient=False))
    outside = []
    for shape in shapes:
        own = [one for one in seen if one.shape == shape.name and not one.trouble]
        fit = [cycle for one in own if is_fit(cycle := measured(one, shape))]
        if len(fit) < len(own):
            machine.LATE.append(f"{len(own) - len(fit)} of {len(own)} cycles: {shape.name}")
        if not fit:
            continue
        verdict = judge(shape, build.version, fit)
        for name, number in verdict.numbers.items():
            # A band holds 98 % of cycles: two of four outside of it are no chance.
            if number.inside < min(len(fit), max(1, len(fit) - 1)):
                outside.append((shape.name, name, number.observed, number.lower, number.upper))
    assert not outside
