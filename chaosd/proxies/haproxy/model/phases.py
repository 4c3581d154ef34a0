"""Where trials begin, spread evenly over the phases of timers; and quantiles of what they find."""

from __future__ import annotations

import math
from functools import lru_cache
from hashlib import sha512
from typing import NamedTuple

from chaosd.proxies.haproxy.model.backend import Resolver, ServerLine

# The sequence that fills a cube most evenly, whatever its length (R3, by the plastic number's kin).
_SPREAD = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)


class Phases(NamedTuple):
    """Where a trial begins: parts of the periods of polls and of checks, and what chance does."""

    poll: float
    check: float
    coin: float
    seed: int

    def poll_at_ns(self, resolver: Resolver) -> int:
        """When the first poll of a name is."""
        return round(self.poll * resolver.timeout_resolve_ns)

    def check_at_ns(self, line: ServerLine, after_ns: int) -> int:
        """When the first check of a server is that is so long after others."""
        return (round(self.check * line.inter_ns) + after_ns) % line.inter_ns


AT_ONCE = Phases(0.0, 0.0, 0.0, 0)


@lru_cache(maxsize=1)
def corners() -> tuple[Phases, ...]:
    """Trials in which the phases are at their ends."""
    ends = 0.001, 0.999
    texts = [(p, c, coin) for p in ends for c in ends for coin in (0.25, 0.75)]
    return tuple(Phases(*each, seed=number) for number, each in enumerate(texts))


@lru_cache(maxsize=1024)
def phases_of(number: int) -> Phases:
    """The phases of this trial, counted from 0: the same in each prediction."""
    poll, check, coin = ((0.5 + (number + 1) * step) % 1.0 for step in _SPREAD)
    # What `Random` would make of this text itself, each time anew.
    text = f"trial {(poll, check, coin)}".encode()
    return Phases(poll, check, coin, int.from_bytes(text + sha512(text).digest()))


def quantile_s(ordered: list[float], p: float) -> float:
    """The value at or below which this part of them lies."""
    return ordered[max(0, math.ceil(p * len(ordered)) - 1)]
