"""The values that the parts of a sweep hand to each other: arms, what was seen, what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from chaosd.plugins.timeline import Foretold as Foretold  # noqa: PLC0414 - others take it from here


class Objective(StrEnum):
    """What a sweep makes small; of several faults the worst counts."""

    RECOVERY_P95 = "recovery_p95"  # s
    FAILED = "failed"  # failed requests of a cycle, as seconds of requests: count / rate; mean
    MISROUTED = "misrouted"  # the same of answers by another than the app; mean
    DNS_QUERIES = "dns_queries"  # questions per second while nothing happens
    DNS_TROUBLE = "dns_trouble"  # questions per second while a cycle lasts, the worst of the faults


@dataclass(frozen=True, kw_only=True)
class SweepArm:
    """One combination of what varies. `key` is the hash of all that decides what it does."""

    key: str
    name: str  # short, for people and as the arm's name in a run: a-z, 0-9 and -
    values: Mapping[str, Any]  # config path → value, of what varies only
    baseline: bool = False


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One cycle of an arm, of which the block is the pairing key: same block, same schedule."""

    arm: str  # its key
    block: int  # counted over all of the sweep
    fault: str  # its label
    recovery_s: float | None  # None: not recovered within `limit_s`; 0.0 where nothing was bad
    limit_s: float
    failed_s: float
    misrouted_s: float
    rest_queries_per_s: float | None = None  # None: nobody counted
    trouble_queries_per_s: float | None = None
    fresh: bool = False  # of the last blocks, which nobody has looked at before
    host: str = ""  # on which the block was made


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine that makes rounds, as it was when it was admitted."""

    name: str
    cores: float
    memory_bytes: int  # that were not in use
    meter_worst_s: float | None = None  # the largest error of its meter; None: not calibrated
    meter_n: int = 0  # outages that it was calibrated by


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that an answer is made from: by this, and by nothing else, text, JSON and page are made.

    `foretold` is by arm and fault; an arm that the model does not reach is in `unforetold`, with
    the reason in words. `stopped` says of an arm that is not measured any more why, in words.
    """

    name: str
    arms: tuple[SweepArm, ...]
    faults: tuple[str, ...]
    objectives: tuple[Objective, ...]
    seen: tuple[Seen, ...]
    foretold: Mapping[tuple[str, str], Foretold] = field(default_factory=dict)
    unforetold: Mapping[str, str] = field(default_factory=dict)
    stopped: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # key → haproxy.cfg lines
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # key → its reports' paths
    poor_blocks: int = 0
    hosts: Mapping[str, Host] = field(default_factory=dict)  # those that were admitted, by name
    fresh_were_shown: bool = False  # an earlier answer has shown some of the fresh cycles, not all
