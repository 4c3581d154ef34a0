"""What nobody asked for and everybody should know: versions and arms that are not as expected.

- An arm *differs from the model* if all of the always-valid interval of its median or p95 of the
  recovery, or of another objective, is beyond the foretold number by more than the tolerance.
- A version *differs from its neighbour* if the mean difference within a block, over all arms that
  differ in nothing else, is beyond the margin to one side in surely more than half of all blocks
  (the sign test of `racing.py`).

All that is said of one kind has 95 % together: each arm, fault and objective has its share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from statistics import fmean

from chaosd.analysis import sequences
from chaosd.analysis.statistics import Estimate
from chaosd.sweep.factors import factors, label
from chaosd.sweep.measures import MEASURES, P, by_arm, difference, mean, recovery
from chaosd.sweep.standing import Board
from chaosd.sweep.values import Foretold, Objective, Seen, SweepArm

MODEL_SHARE, MODEL_FLOOR = 0.1, 0.05  # of the foretold number, and in its unit: none is exact
P50 = 0.5


class OddityKind(StrEnum):
    MODEL = "model"  # not as foretold
    NEIGHBOUR = "neighbour"  # not as the version before


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddity:
    """One arm, or one version, under one fault."""

    kind: OddityKind
    objective: Objective
    quantile: float | None  # of the recovery; None for a mean
    fault: str | None  # None where the fault has no part in it
    found: Estimate  # the number; of a neighbour the difference from the version before
    expected: float  # foretold; of a neighbour the version before's number
    n: int  # cycles of the arm, or blocks
    times: int | None = None  # in so many of these blocks it was beyond the margin to this side
    arm: SweepArm | None = None
    version: str | None = None  # of the arm, or the later of two neighbours
    before: str | None = None  # the earlier of the two


def oddities(board: Board) -> tuple[Oddity, ...]:
    """First the versions, then the arms, the largest difference first."""
    seen = by_arm(board.results)
    found = [*_neighbours(board, seen), *_against_model(board, seen)]
    return tuple(sorted(found, key=lambda o: (o.kind is OddityKind.MODEL, -_size(o))))


def _size(found: Oddity) -> float:
    value = found.found.value
    if value is None or not found.expected:
        return math.inf
    of_model = found.kind is OddityKind.MODEL
    return abs(value - found.expected if of_model else value) / found.expected


def _against_model(
    board: Board, seen: Mapping[str, Mapping[str, Sequence[Seen]]]
) -> Iterator[Oddity]:
    results = board.results
    there = [s for s in board.standings if s.is_measured]
    # All arms have their share, also those that are not measured yet: people look more than once.
    tests = max(1, len(results.arms) * len(results.faults) * (len(results.objectives) + 1))
    alpha = sequences.ALPHA / tests
    for standing in there:
        arm = standing.arm
        for fault in results.faults:
            said = results.foretold.get((arm.key, fault))
            some = seen[arm.key][fault]
            for objective, quantile, found, expected in _pairs(board, some, said, alpha):
                if is_off(found, expected):
                    yield Oddity(
                        kind=OddityKind.MODEL,
                        objective=objective,
                        quantile=quantile,
                        fault=fault,
                        found=found,
                        expected=expected,
                        n=len(some),
                        arm=arm,
                        version=_version(arm),
                    )


def _pairs(
    board: Board, some: Sequence[Seen], said: Foretold | None, alpha: float
) -> Iterator[tuple[Objective, float | None, Estimate, float]]:
    """What was seen beside what was foretold."""
    if said is None:
        return
    for objective in board.results.objectives:
        if objective is Objective.RECOVERY_P95:
            yield objective, P50, recovery(some, P50, alpha), said.recovery_p50_s
            yield objective, P, recovery(some, P, alpha), said.recovery_p95_s
            continue
        measure = MEASURES[objective]
        if not measure.alike:
            continue
        yield objective, None, mean(objective, some, alpha), measure.of_foretold(said)


def is_off(found: Estimate, expected: float) -> bool:
    """Whether all of an interval is farther from the foretold number than the model is exact."""
    room = max(MODEL_FLOOR, MODEL_SHARE * expected)
    is_longer = found.low is not None and found.low > expected + room
    return is_longer or (found.high is not None and found.high < expected - room)


def _version(arm: SweepArm) -> str | None:
    return next((label(v) for path, v in arm.values.items() if path.endswith("version")), None)


def _neighbours(board: Board, seen: Mapping[str, Mapping[str, Sequence[Seen]]]) -> Iterator[Oddity]:
    """Each version against the one before, over all arms that differ in nothing else."""
    results = board.results
    arms = [s.arm for s in board.standings if s.is_measured]
    for factor in (each for each in factors(arms) if each.is_version):
        others = [
            tuple(label(v) for path, v in arm.values.items() if path not in factor.paths)
            for arm in arms
        ]
        by_level: dict[int, dict[tuple[str, ...], SweepArm]] = {}
        for arm, level, rest in zip(arms, factor.of_arm, others, strict=True):
            by_level.setdefault(level, {})[rest] = arm
        steps = list(pairwise(sorted(by_level)))
        tests = max(1, len(steps) * len(results.faults) * len(results.objectives))
        for one, two in steps:
            pairs = [(a, by_level[two][r]) for r, a in by_level[one].items() if r in by_level[two]]
            for objective in results.objectives:
                for fault in results.faults:
                    part = [(seen[a.key][fault], seen[b.key][fault]) for a, b in pairs]
                    found = _difference(objective, fault, part, sequences.ALPHA / tests)
                    if found is not None:
                        labels = factor.labels[one], factor.labels[two]
                        yield replace(found, before=labels[0], version=labels[1])


def _difference(
    objective: Objective,
    fault: str,
    pairs: Sequence[tuple[Sequence[Seen], Sequence[Seen]]],
    alpha: float,
) -> Oddity | None:
    """Of two versions, each block the mean over the pairs; None if it may be chance."""
    read = MEASURES[objective].of_seen
    by_block: dict[int, list[tuple[float, float]]] = {}
    for before, after in pairs:
        values = {each.block: (read(each), each.limit_s) for each in before}
        for each in after:
            old, limit_s = values.get(each.block, (None, 0.0))
            new = read(each)
            if old is not None and new is not None:  # what never came is one of the limit
                row = min(old, limit_s), min(new, each.limit_s)
                by_block.setdefault(each.block, []).append(row)
    if not by_block:
        return None
    blocks = [
        (fmean(old for old, _ in rows), fmean(new for _, new in rows)) for rows in by_block.values()
    ]
    moves, n = [new - old for old, new in blocks], len(blocks)
    usual = fmean(old for old, _ in blocks)
    margin, is_more = MEASURES[objective].margin(usual), fmean(moves) > 0
    times = sum(move > margin if is_more else move < -margin for move in moves)
    if sequences.log_evidence(times, n, 0.5) < math.log(2 / alpha):
        return None
    return Oddity(
        kind=OddityKind.NEIGHBOUR,
        objective=objective,
        quantile=None,
        fault=fault,
        found=difference(objective, moves, max(map(max, blocks)), alpha),
        expected=usual,
        n=n,
        times=times,
    )
