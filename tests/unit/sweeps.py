"""Sweeps whose truth is known: arms by their settings, cycles drawn from what they really do."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from chaosd.sweep.values import Foretold, Objective, Results, Seen, SweepArm

OBJECTIVES = (
    Objective.RECOVERY_P95,
    Objective.FAILED,
    Objective.MISROUTED,
    Objective.DNS_QUERIES,
)
LIMIT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Recoveries are spread evenly over `width_s` from `least_s` on; of a part they are longer."""

    least_s: float
    width_s: float
    queries_per_s: float
    rare: float = 0.0  # the part of cycles that take `rare_s` more
    rare_s: float = 0.0

    def quantile(self, p: float) -> float:
        """Of the recovery, where `rare` is 0 or more than 1 - p, and `rare_s` beyond the rest."""
        if p > 1 - self.rare:
            inner = (p - (1 - self.rare)) / self.rare
            return self.least_s + self.width_s * inner + self.rare_s
        return self.least_s + self.width_s * p / (1 - self.rare)

    @property
    def mean_s(self) -> float:
        return self.least_s + self.width_s / 2 + self.rare * self.rare_s

    def draw(self, rng: Random) -> float:
        late_s = self.rare_s if rng.random() < self.rare else 0.0
        return self.least_s + self.width_s * rng.random() + late_s

    def foretold(self) -> Foretold:
        return Foretold(
            recovery_p50_s=self.quantile(0.5),
            recovery_p95_s=self.quantile(0.95),
            failed_s=0.9 * self.mean_s,
            misrouted_s=0.0,
            rest_queries_per_s=self.queries_per_s,
            trouble_queries_per_s=2 * self.queries_per_s,
        )


def seen(arm: str, block: int, fault: str, truth: Truth, rng: Random, **more: Any) -> Seen:
    recovery_s = truth.draw(rng)
    return Seen(
        arm=arm,
        block=block,
        fault=fault,
        recovery_s=recovery_s if recovery_s < LIMIT_S else None,
        limit_s=LIMIT_S,
        failed_s=0.9 * min(recovery_s, LIMIT_S),
        misrouted_s=0.0,
        rest_queries_per_s=truth.queries_per_s + rng.gauss(0, 0.02),
        trouble_queries_per_s=2 * truth.queries_per_s + rng.gauss(0, 0.05),
        **more,
    )


def arms(**paths: Sequence[Any]) -> tuple[SweepArm, ...]:
    """Every combination; the first is the baseline. `__` in a name is a dot."""
    names = [path.replace("__", ".") for path in paths]
    return tuple(
        SweepArm(
            key=f"k{number:02}",
            name=f"arm-{number:02}",
            values=dict(zip(names, values, strict=True)),
            baseline=number == 0,
        )
        for number, values in enumerate(itertools.product(*paths.values()))
    )


def results(
    some: Sequence[SweepArm],
    truths: Mapping[tuple[str, str], Truth],
    rng: Random,
    *,
    blocks: int = 20,
    faults: Sequence[str] = ("recreate",),
    model: bool = True,
    **more: Any,
) -> Results:
    """So many blocks under each fault; `truths` by arm and fault."""
    found, block = [], 0
    for _ in range(blocks):
        for fault in faults:
            block += 1
            found += [seen(a.key, block, fault, truths[a.key, fault], rng) for a in some]
    return Results(
        name="made",
        arms=tuple(some),
        faults=tuple(faults),
        objectives=more.pop("objectives", OBJECTIVES),
        seen=tuple(found),
        foretold={key: truth.foretold() for key, truth in truths.items()} if model else {},
        **more,
    )


def with_fresh(
    found: Results,
    keys: Sequence[str],
    truths: Mapping[tuple[str, str], Truth],
    rng: Random,
    n: int,
) -> Results:
    """The same, and so many fresh blocks of these arms under each fault."""
    last = max(each.block for each in found.seen)
    fresh = [
        seen(key, last + 1 + number, fault, truths[key, fault], rng, fresh=True)
        for number, (_, fault) in enumerate(itertools.product(range(n), found.faults))
        for key in keys
    ]
    return replace(found, seen=(*found.seen, *fresh))


def lab(
    *, blocks: int = 20, seed: int = 1, off: float = 1.0, **more: Any
) -> tuple[Results, dict[tuple[str, str], Truth], Random]:
    """24 arms over version, resolve, inter and redispatch, much as HAProxy is.

    Version 3.4 is `off` times as slow as the model says. `inter` matters only without redispatch.
    """
    some = arms(
        proxy__version=["2.6", "3.4"],
        proxy__resolvers__timeout_resolve=["200ms", "1s", "3s"],
        proxy__server__inter=["500ms", "2s"],
        proxy__redispatch=[False, True],
    )
    seconds = {"200ms": 0.2, "500ms": 0.5, "1s": 1.0, "2s": 2.0, "3s": 3.0}
    truths, said = {}, {}
    for arm in some:
        version, resolve, inter, redispatch = arm.values.values()
        width_s = seconds[resolve] + (0 if redispatch else seconds[inter])
        truth = Truth(least_s=0.2, width_s=width_s, queries_per_s=2 / seconds[resolve])
        for fault, worse in (("recreate", 0.0), ("coredns-restart", 0.3)):
            said[arm.key, fault] = replace(truth, least_s=truth.least_s + worse).foretold()
            scale = off if version == "3.4" else 1.0
            truths[arm.key, fault] = replace(
                truth, least_s=scale * (truth.least_s + worse), width_s=scale * truth.width_s
            )
    rng = Random(seed)
    found = results(
        some,
        truths,
        rng,
        blocks=blocks,
        faults=("recreate", "coredns-restart"),
        lines={
            arm.key: tuple(
                f"{path.rpartition('.')[2]} {value}" for path, value in arm.values.items()
            )
            for arm in some
        },
        links={arm.key: (f"runs/{arm.name}/report.html",) for arm in some},
        **more,
    )
    return replace(found, foretold=said), truths, rng
