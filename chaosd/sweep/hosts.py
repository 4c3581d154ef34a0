"""The host as a factor: whether recoveries took longer on one than on the others.

Pure. The same arms under the same faults are held against each other, and a block is one value: the
mean of what its cycles took beyond what their arms took elsewhere. An arm is never compared with
another one by this: that is done within blocks, and a block never spans hosts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

from chaosd.analysis.statistics import TAIL, Estimate, student
from chaosd.sweep.measures import MEASURES
from chaosd.sweep.values import Host, Objective, Results, Seen

_NONE = Estimate(None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPart:
    """What was seen on one host. `beyond` is in s; its 95 % interval is of this host alone."""

    name: str
    blocks: int
    cycles: int
    beyond: Estimate  # mean recovery, against the same arms on the other hosts
    differs: bool  # surely, and by more than the margin; 95 % for all hosts together
    facts: Host | None  # None: it was not admitted, but ran a sweep by itself


def hosts(results: Results) -> tuple[HostPart, ...]:
    """Those on which anything was seen, by name."""
    by_host: dict[str, list[Seen]] = {}
    for seen in results.seen:
        by_host.setdefault(seen.host, []).append(seen)
    return tuple(_part(results, name, by_host) for name in sorted(by_host))


def are_several(results: Results) -> bool:
    """Whether arms may have been measured on different ones."""
    return len({seen.host for seen in results.seen}) > 1


def _part(results: Results, name: str, by_host: dict[str, list[Seen]]) -> HostPart:
    here = by_host[name]
    others = [seen for host, some in by_host.items() if host != name for seen in some]
    beyond, half = _beyond(here, others)
    differs = False
    if beyond.value is not None and half is not None:
        # Of several hosts one is beyond its own interval sooner than one is.
        wider = NormalDist().inv_cdf(1 - TAIL / len(by_host)) / NormalDist().inv_cdf(1 - TAIL)
        typical = fmean(map(_recovery_s, others))
        margin = MEASURES[Objective.RECOVERY_P95].margin(typical)
        differs = abs(beyond.value) > max(margin, wider * half)
    return HostPart(
        name=name,
        blocks=len({seen.block for seen in here}),
        cycles=len(here),
        beyond=beyond,
        differs=differs,
        facts=results.hosts.get(name),
    )


def _beyond(here: Sequence[Seen], others: Sequence[Seen]) -> tuple[Estimate, float | None]:
    """The mean of this host's blocks, and half of its interval."""
    elsewhere: dict[tuple[str, str], list[float]] = {}
    for seen in others:
        elsewhere.setdefault((seen.arm, seen.fault), []).append(_recovery_s(seen))
    means = {key: fmean(values) for key, values in elsewhere.items()}
    ours, theirs = list(_by_block(here, means)), list(_by_block(others, means))
    if not ours:
        return _NONE, None
    value, t = fmean(ours), student(min(len(ours), len(theirs)) - 1)
    if t is None:
        return Estimate(value, None, None), None
    half = t * math.sqrt(variance(ours) / len(ours) + variance(theirs) / len(theirs))
    return Estimate(value, value - half, value + half), half


def _by_block(some: Sequence[Seen], means: dict[tuple[str, str], float]) -> Iterator[float]:
    blocks: dict[int, list[float]] = {}
    for seen in some:
        mean_s = means.get((seen.arm, seen.fault))
        if mean_s is not None:
            blocks.setdefault(seen.block, []).append(_recovery_s(seen) - mean_s)
    yield from map(fmean, blocks.values())


def _recovery_s(seen: Seen) -> float:
    return seen.limit_s if seen.recovery_s is None else seen.recovery_s
