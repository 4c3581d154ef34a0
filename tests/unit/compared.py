"""Two runs to be compared: cycles that are made, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import fake

from chaosd.analysis.compare import Comparison, Reason, ReasonKind
from chaosd.history.cycles import Cycle

MANIFEST = {"name": "made", "run": "a", "cells": ["c1"], "end_unix": 1.0}
LIMIT = {"settings": {"recovery_limit_ns": 30 * fake.SECOND, "stable_for_ns": fake.SECOND}}
RATE_HZ = 100


def cycle(recovery_s: float, **changes: Any) -> Cycle:
    """A failover after a poll, probed at 100/s: what failed is most of the recovery."""
    failed = round(0.8 * recovery_s * RATE_HZ)
    samples = round((recovery_s + 1) * RATE_HZ)
    values = {"recovery_s": recovery_s, "failed": failed, "samples": samples, "masked": 0}
    values["interval_s"] = 1 / RATE_HZ
    return fake.cycle(**(values | changes))


def uniform(random: Random, start_s: float) -> list[Cycle]:
    """What the simulated world gives: a gap, then whatever is left of HAProxy's period."""
    return [cycle(start_s + random.uniform(0, 1.0)) for _ in range(100)]


def longer(cycles: Sequence[Cycle], change: Callable[[float], float]) -> list[Cycle]:
    return [cycle(change(c.recovery_s)) for c in cycles]


# --- the answer ---


def differs(*names: str) -> tuple[Reason, ...]:
    return tuple(Reason(kind=ReasonKind.NUMBER, number=name) for name in names)


def rows(found: Comparison) -> dict[str, str]:
    return {row.name: row.answer for row in found.rows}
