"""Outlooks of small backends, and what they are compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Outlook,
    Scenario,
    Spread,
)
from chaosd.proxies.haproxy.model.outlook import (
    DNS_TROUBLE,
    MOVE,
    outlook,
)

NEWEST = "3.4.7"


VERSIONS = ("2.2.9", "2.6.12", "3.2.26", NEWEST)


PUBLISHED_S = MOVE.published_s


def foresee(
    backend: Backend, scenario: Scenario = MOVE, version: str = NEWEST, **options: Any
) -> Outlook:
    found = outlook(backend, version, scenario, **{"trials": 96} | options)
    assert isinstance(found, Outlook)
    assert found.recovery_s.p05 <= found.recovery_s.p50 <= found.recovery_s.p95
    return found


def move(gap_s: float, **others: Any) -> Scenario:
    """The name is missing for so long, then its successor listens."""
    return replace(
        MOVE, **({"published_s": gap_s, "listening_s": gap_s, "healthy_s": gap_s} | others)
    )


def trouble(seconds: float = 10.0, **others: Any) -> Scenario:
    return replace(DNS_TROUBLE, published_s=seconds, **others)


def within(spread: Spread, lower_s: float, upper_s: float) -> bool:
    """All trials but for one in twenty at either end."""
    return lower_s <= spread.p05 and spread.p95 <= upper_s and not spread.never


NOTHING = Spread(p05=0.0, p50=0.0, p95=0.0, mean=0.0, never=0.0)
