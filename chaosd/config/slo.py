"""The part `slo:` of the config: what a run's numbers should be, for its verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from chaosd.plugins.bases import Part
from chaosd.units import Percent, PositiveDuration

MIN_CYCLES = 20
_MinCycles = Annotated[int | None, Field(ge=1, le=1_000_000)]
_MIN_CYCLES = "for this one objective; not set: `slo.min_cycles`"


class MostTime(Part):
    """A duration's objective, spelled out."""

    at_most: PositiveDuration = Field(description="the target")
    min_cycles: _MinCycles = Field(None, description=_MIN_CYCLES)


class MostShare(Part):
    """An objective for what should be rare, spelled out."""

    at_most: Percent = Field(description="the target")
    min_cycles: _MinCycles = Field(None, description=_MIN_CYCLES)


class LeastShare(Part):
    """An objective for what should be the rule, spelled out."""

    at_least: Percent = Field(description="the target")
    min_cycles: _MinCycles = Field(None, description=_MIN_CYCLES)


def _kind(value: Any) -> str:
    return "spelled out" if isinstance(value, dict | Part) else "bare"


_Time = Annotated[
    Annotated[PositiveDuration, Tag("bare")] | Annotated[MostTime, Tag("spelled out")],
    Discriminator(_kind),
]
_Rare = Annotated[
    Annotated[Percent, Tag("bare")] | Annotated[MostShare, Tag("spelled out")],
    Discriminator(_kind),
]
_Usual = Annotated[
    Annotated[Percent, Tag("bare")] | Annotated[LeastShare, Tag("spelled out")],
    Discriminator(_kind),
]


class Objectives(Part):
    """What failovers should come to; each is a target, or {at_most: 2s, min_cycles: 100}."""

    min_cycles: _MinCycles = Field(None, description="for these; not set: `slo.min_cycles`")
    recovery_p50: _Time | None = Field(None, description="median recovery, such as 1s")
    recovery_p95: _Time | None = Field(None, description="it takes 72 cycles to be kept")
    recovery_p99: _Time | None = Field(None, description="it takes 368 cycles to be kept")
    stable_recovery_p50: _Time | None = Field(None, description="median time until it is stable")
    stable_recovery_p95: _Time | None = Field(None, description="as of the recovery")
    stable_recovery_p99: _Time | None = Field(None, description="as of the recovery")
    outage_p50: _Time | None = Field(None, description="median outage, gap-derived")
    outage_p95: _Time | None = Field(None, description="as of the recovery")
    outage_p99: _Time | None = Field(None, description="as of the recovery")
    failed: _Rare | None = Field(None, description="of the requests during failovers, at most")
    masked: _Rare | None = Field(None, description="as failed ones: good, but slow")
    misrouted: _Rare | None = Field(None, description="as failed ones: answered by somebody else")
    anomalies: _Rare | None = Field(None, description="of the recoveries with a prediction")
    censored: _Rare | None = Field(None, description="of the failovers: not recovered in time")

    def goals(self, min_cycles: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each one that is set: its `target`, in seconds or parts of one, and `min_cycles`."""
        for name, goal in self:
            if name in ("min_cycles", "faults") or goal is None:
                continue
            bare, least = goal, self.min_cycles or min_cycles
            if isinstance(goal, MostTime | MostShare | LeastShare):
                bare = goal.at_least if isinstance(goal, LeastShare) else goal.at_most
                least = goal.min_cycles or least
            target = float(bare) if isinstance(bare, Percent) else bare.s
            yield name, {"target": target, "min_cycles": least}


class Slo(Objectives):
    """What a run's numbers should be, all failovers taken together, and those of single faults."""

    min_cycles: int = Field(
        MIN_CYCLES,
        ge=1,
        le=1_000_000,
        description="with fewer, an objective is neither kept nor broken",
    )
    availability: _Usual | None = Field(
        None, description="good answers of all requests of the whole run, at least: 99%"
    )
    faults: dict[str, Objectives] = Field(
        {}, description="the same for the failovers of one fault, by its label"
    )

    def objectives(self) -> dict[str, dict[str, Any]]:
        """All goals by name; one of a fault has its `fault`, and `LABEL: ` before its name."""
        found = dict(self.goals(self.min_cycles))
        for label, part in self.faults.items():
            goals = part.goals(self.min_cycles)
            found |= {f"{label}: {name}": goal | {"fault": label} for name, goal in goals}
        return found
