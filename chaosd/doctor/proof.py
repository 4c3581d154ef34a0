"""`--prove`: the config of a run that shows what was predicted, and its numbers beside it. Pure.

The file and the mended file, or one file on two versions, are two arms under one schedule. What
happens to them is what the scenario says, so that predicted and measured numbers are of one thing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from chaosd.analysis.statistics import Estimate, quantiles, student
from chaosd.analysis.tally import VALID
from chaosd.doctor.examine import Diagnosis, Row, same_rows
from chaosd.doctor.price import is_felt
from chaosd.doctor.scenarios import usual
from chaosd.doctor.subject import Subject
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.model.backend import PATIENCE_S, Happening, Outlook, Scenario, Unknown

RATE_PER_S = 20  # a request each 50 ms tells all that is said, and leaves CPU for more cells
_SETTLED_S = 8.0  # after a recovery, before the next cycle
REPLICAS = 4  # cells of each side, which meet the same at once: so much sooner it is done
LONGER_MAX = 6  # times as many cycles as were announced, where the machine carries fewer cells
_WAITS_S_MAX = 60.0  # for a recovery that comes, though late
_FILLED = 0.5  # of the connections that HAProxy takes
_NEVER_S = 30.0  # how long a recovery that never comes is waited for


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two that are held against each other."""

    arm: str
    paths: tuple[Path, ...]
    version: str | None  # as `proxy.version`; None: the HAProxy of this machine
    outlook: Outlook


class Round(NamedTuple):
    """One run of an experiment: cells of each side, and how many cycles each of them makes."""

    replicas: int
    cycles: int


class Pair(NamedTuple):
    """A cycle of each side: what one met, the other met, too."""

    first: Cycle
    second: Cycle


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One backend, one scenario, two sides."""

    backend: str
    scenario: Scenario
    sides: tuple[Side, Side]
    instances: int = 1  # of the app
    connections: int | None = None  # HAProxy takes no more at once: the least `maxconn`

    @property
    def rate_per_s(self) -> int:
        """Of requests. Those that wait must not fill HAProxy: the model knows no such limit."""
        if self.connections is None:
            return RATE_PER_S
        slowest = max(side.outlook.slowest_s for side in self.sides)
        held = max(1.0, min(PATIENCE_S, slowest))
        return max(1, min(RATE_PER_S, int(_FILLED * self.connections / held)))

    @property
    def every_s(self) -> float:
        """From one cycle to the next: one has to have recovered, and its last request be over."""
        spreads = [
            s for o in (side.outlook for side in self.sides) for s in (o.stable_s, o.recovery_s)
        ]
        slowest = max(min(_seconds(spread.p95), _WAITS_S_MAX) for spread in spreads)
        return math.ceil(max(self.scenario.published_s, slowest) + self.patience_s + _SETTLED_S)

    @property
    def patience_s(self) -> float:
        """How long clients wait: as long as HAProxy lets them, and no longer than the model's."""
        slowest = max(side.outlook.slowest_s for side in self.sides)
        return min(PATIENCE_S, math.ceil(slowest) + 1.0)

    def config(self, begun: Round, *, env: Path | None, probe: Mapping[str, Any] | None) -> str:
        """The run's config: JSON, which YAML is, too. `probe` is what the files say to ask for."""
        first, second = self.sides
        arms: list[dict[str, Any]] = [{"name": first.arm}, {"name": second.arm}]
        if second.paths != first.paths:
            arms[1]["proxy.config"] = [str(path) for path in second.paths]
        if second.version != first.version:
            arms[0]["proxy.version"], arms[1]["proxy.version"] = first.version, second.version
        proxy = {
            "type": "haproxy",
            "config": [str(path) for path in first.paths],
            "backend": self.backend,
            "env": None if env is None else str(env.absolute()),
            "version": first.version,
        }
        missing = self.scenario.missing
        moves = self.scenario.happening is not Happening.DNS_TROUBLE
        config = {
            "name": f"doctor-{self.scenario.happening.value.replace('_', '-')}",
            "runtime": "local",
            "proxy": {key: value for key, value in proxy.items() if value is not None},
            "dns": {"missing": "stale" if missing is None else missing.value} if moves else {},
            "app": {"replicas": self.instances},
            "arms": arms,
            "faults": [{**_fault(self.scenario), "every": f"{self.every_s:g}s"}],
            "measure": {"recovery_limit": f"{max(60.0, 2 * self.every_s):g}s"},
            "metrics": None,
            "cells": begun.replicas,
            "until": {"cycles": begun.cycles},
        }
        if probe is not None:
            ours = {"rate": f"{self.rate_per_s}/s", "timeout": f"{self.patience_s:g}s"}
            config["probes"] = [{**probe, **ours}]
        return json.dumps(config)


def _fault(scenario: Scenario) -> dict[str, Any]:
    """What makes the scenario happen."""
    if scenario.happening is Happening.DNS_TROUBLE:
        window = f"{scenario.published_s:g}s"
        answer = (scenario.missing or Failure.SILENCE).value
        return {"type": "dns", "answer": answer, "qtype": scenario.family, "window": window}
    old_ip = "blackhole" if scenario.happening is Happening.NODE_LOST else "refuse"
    return {"type": "recreate", "gap": f"{scenario.published_s:g}s", "old_ip": old_ip}


def _seconds(value: float) -> float:
    return value if math.isfinite(value) else _NEVER_S


# --- which experiments ---


def of_remedies(
    diagnosis: Diagnosis, version: str | None, now: Sequence[Path], fixed: Sequence[Path]
) -> list[Experiment]:
    """What the shown findings are about, for the backend that is hurt most by each happening."""
    felt: dict[Scenario, list[str]] = {}
    for finding in diagnosis.findings:
        for toll in finding.cost.tolls if finding.cost is not None else ():
            if toll.usual and is_felt(toll):
                felt.setdefault(toll.scenario, []).append(toll.backend)
    found = []
    for scenario in usual(diagnosis.guess.setting):
        rows = [row for row in diagnosis.rows if row.name in felt.get(scenario, [])]
        best = max(rows, key=lambda row: _gain(row, scenario.happening), default=None)
        if best is None:
            continue
        before, after = best.now[scenario.happening], best.fixed[scenario.happening]
        if isinstance(before, Unknown) or isinstance(after, Unknown):
            continue
        sides = (
            Side(arm="now", paths=tuple(now), version=version, outlook=before),
            Side(arm="fixed", paths=tuple(fixed), version=version, outlook=after),
        )
        found.append(_experiment(best, scenario, sides, diagnosis.subject))
    return found


def of_versions(diagnoses: Sequence[Diagnosis], paths: Sequence[Path]) -> list[Experiment]:
    """What differs between the first and the last version, for the backend that feels it most."""
    old, new = diagnoses[0], diagnoses[-1]
    pairs = same_rows(old, new)
    found = []
    for scenario in usual(new.guess.setting):
        what, best = scenario.happening, None
        for before, after in pairs:
            one, other = before.now[what], after.now[what]
            if isinstance(one, Unknown) or isinstance(other, Unknown):
                continue
            gap = abs(_bad(one) - _bad(other))
            if gap >= 0.5 and (best is None or gap > best[0]):  # noqa: PLR2004 - of a second
                best = gap, after, one, other
        if best is not None:
            _, row, one, other = best
            sides = (
                Side(arm=_arm(old), paths=tuple(paths), version=old.program.version, outlook=one),
                Side(arm=_arm(new), paths=tuple(paths), version=new.program.version, outlook=other),
            )
            found.append(_experiment(row, scenario, sides, new.subject))
    return found


def _experiment(
    row: Row, scenario: Scenario, sides: tuple[Side, Side], subject: Subject
) -> Experiment:
    return Experiment(
        backend=row.name,
        scenario=scenario,
        sides=sides,
        instances=row.instances,
        connections=connections_of(subject),
    )


def connections_of(subject: Subject) -> int | None:
    """How many connections at once the files let in at most; None where they don't say."""
    lines = subject.statements("global", "defaults", "frontend", "listen")
    said = [line.texts[1] for _, line in lines if line.says("maxconn") and line.words[1:]]
    numbers = [int(text) for text in said if text.isdigit() and int(text)]
    return min(numbers, default=None)


def _arm(diagnosis: Diagnosis) -> str:
    return f"v{diagnosis.program.version or 'newest'}".replace(".", "-")


def _gain(row: Row, happening: Happening) -> float:
    now, fixed = row.now[happening], row.fixed[happening]
    if isinstance(now, Unknown) or isinstance(fixed, Unknown):
        return -math.inf
    return _bad(now) - _bad(fixed)


def _bad(outlook: Outlook) -> float:
    """Seconds that hurt: of lost requests, and of recovery."""
    lost = outlook.failed_s.mean + outlook.misrouted_s.mean
    return lost + 0.1 * _seconds(outlook.recovery_s.p95)


# --- what was measured ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one side was predicted to do and did. Numbers have their 95 % intervals."""

    experiment: Experiment
    side: Side
    cycles: int  # that count: as many as of the other side
    recovery_p95_s: Estimate
    recovery_mean_s: Estimate
    lost_s: Estimate  # seconds' worth of failed and misrouted requests in a cycle


def next_round(asked: int, rounds: Sequence[tuple[Round, int]]) -> Round | None:
    """What is still to be run for so many pairs, after rounds that gave so many each.

    The machine may carry fewer cells than are wanted, and not every cycle counts. None: there are
    enough, or a round gave nothing, or it would take much longer than was announced.
    """
    missing = asked - sum(pairs for _, pairs in rounds)
    if missing <= 0:
        return None
    if not rounds:
        replicas = min(REPLICAS, asked)
        return Round(replicas, math.ceil(asked / replicas))
    last, pairs = rounds[-1]
    replicas = min(last.replicas, math.ceil(pairs / last.cycles))  # as many as were carried
    left = LONGER_MAX * rounds[0][0].cycles - sum(begun.cycles for begun, _ in rounds)
    if not pairs or left < 1:
        return None
    return Round(replicas, min(left, math.ceil(missing * last.cycles / pairs)))


def pairs_of(experiment: Experiment, cycles: Iterable[Cycle]) -> list[Pair]:
    """Of the cycles of a run those that count on both sides.

    A cycle that can't be trusted counts for neither, and where one side had more cells than the
    other, as the machine carries no more, those without a partner don't.
    """
    first, second = experiment.sides
    by_block: dict[str, dict[tuple[int, int], Cycle]] = {first.arm: {}, second.arm: {}}
    for cycle in filter(_counts, cycles):
        by_block[cycle.arm][_block(cycle)] = cycle
    one, other = by_block[first.arm], by_block[second.arm]
    return [Pair(one[block], other[block]) for block in one if block in other]


def evidence(experiment: Experiment, pairs: Sequence[Pair]) -> tuple[Evidence, Evidence]:
    """What was measured of both sides."""
    first, second = experiment.sides
    return (
        _side(experiment, first, [pair.first for pair in pairs]),
        _side(experiment, second, [pair.second for pair in pairs]),
    )


def _counts(cycle: Cycle) -> bool:
    return cycle.outcome in VALID and cycle.doubt is None


def _block(cycle: Cycle) -> tuple[int, int]:
    """Which pair of cells it is of, and which of their cycles: the arms take turns from c1 on."""
    return (int(cycle.cell.removeprefix("c")) - 1) // 2, cycle.cycle


def _side(experiment: Experiment, side: Side, mine: Sequence[Cycle]) -> Evidence:
    ended = [cycle for cycle in mine if cycle.outcome is not CycleOutcome.CENSORED]
    recoveries = [cycle.recovery_s or 0.0 for cycle in ended]  # unaffected: none was needed
    censored = [c.took_at_least_s for c in mine if c.outcome is CycleOutcome.CENSORED]
    return Evidence(
        experiment=experiment,
        side=side,
        cycles=len(mine),
        recovery_p95_s=quantiles(recoveries, censored).p95,
        recovery_mean_s=mean_of(recoveries),
        lost_s=mean_of(
            [(cycle.failed + cycle.misrouted) / experiment.rate_per_s for cycle in mine]
        ),
    )


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean with Student's interval."""
    count = len(values)
    if not count:
        return Estimate(None, None, None)
    mean, t = math.fsum(values) / count, student(count - 1)
    if t is None:
        return Estimate(mean, None, None)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    margin = t * deviation / math.sqrt(count)
    low = mean - margin
    return Estimate(mean, max(0.0, low) if min(values) >= 0 else low, mean + margin)
