"""Which arm to take, by which rule, and what it buys: in all, and line by line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chaosd.analysis import sequences
from chaosd.analysis.statistics import Estimate, student
from chaosd.sweep.factors import label, same
from chaosd.sweep.lines import differing
from chaosd.sweep.measures import BLOCKS_MIN, MEASURES, by_arm, difference, longest, measured
from chaosd.sweep.standing import Basis, Board, Standing, finite
from chaosd.sweep.values import Objective, Results, Seen, SweepArm

AS_FAST = 0.1  # of the best p95: who is within is as fast
COSTS = (Objective.DNS_QUERIES, Objective.DNS_TROUBLE, Objective.FAILED, Objective.MISROUTED)


class Rule(StrEnum):
    """How the arm was chosen among those of the front."""

    CHEAPEST_BY_BOUND = "cheapest_by_bound"  # of the fastest, by the upper bounds of their p95s
    CHEAPEST_BY_VALUE = "cheapest_by_value"  # the same, by p95 as measured or foretold, the longer
    KNEE = "knee"  # the one whose worst objective is the least bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how much an objective differs from another arm's: less than 0 is better.

    `before` and `after` are the two arms' own numbers. The difference is paired by block, but for
    that of two p95s, whose intervals are compared.
    """

    objective: Objective
    of_mean: bool  # of the recovery: its mean, and not its p95
    before: float | None
    after: float | None
    change: Estimate
    n: int  # cycles of each of the two, under the worst fault if it is paired; 0: foretold
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Buy:
    """What one setting buys: the recommended arm against the same without it, or such a pair."""

    paths: tuple[str, ...]  # which change together
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    lines: tuple[str, ...]  # of the configuration, to paste; empty where they can't be told apart
    of_baseline: bool  # the pair is the baseline and the same with this setting alone
    gains: tuple[Gain, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The arm to take. `gains` are against the baseline; only what is fresh is promised."""

    arm: SweepArm
    rule: Rule
    basis: Basis
    lines: tuple[str, ...]  # those that differ from the baseline's, or all of them
    without: tuple[str, ...]  # the baseline's, in whose place they come
    gains: tuple[Gain, ...]
    buys: tuple[Buy, ...]
    fresh_blocks: int
    rivals: int  # other arms of the front that are as fast, and dearer


def recommend(board: Board) -> Recommendation | None:
    """The arm to take; None if nothing can be said: no arm ever recovers, or none is known."""
    some = [s for s in board.ranked if s.in_front]
    objectives = board.results.objectives
    some = [s for s in some if all(math.isfinite(_value(s, o, board.basis)) for o in objectives)]
    if not some:
        return None
    if Objective.RECOVERY_P95 in objectives:
        rule, fastest = _fastest(some, board.basis)
        chosen = min(fastest, key=lambda s: _cost(board, s))
        rivals = len(fastest) - 1
    else:
        rule, chosen, rivals = Rule.KNEE, _knee(board, some), 0
    results, baseline = board.results, board.baseline
    lines = results.lines.get(chosen.arm.key, ())
    theirs = () if baseline is None else results.lines.get(baseline.arm.key, ())
    fresh = by_arm(results, fresh=True).get(chosen.arm.key, {})
    gains: tuple[Gain, ...] = ()
    if baseline is not None and baseline.arm.key != chosen.arm.key:
        gains = tuple(gains_of(board, baseline.arm, chosen.arm))
    return Recommendation(
        arm=chosen.arm,
        rule=rule,
        basis=board.basis,
        lines=differing(lines, theirs),
        without=differing(theirs, lines),
        gains=gains,
        buys=tuple(_buys(board, baseline.arm, chosen.arm)) if gains and baseline else (),
        fresh_blocks=len({seen.block for some_ in fresh.values() for seen in some_}),
        rivals=rivals,
    )


def _value(standing: Standing, objective: Objective, basis: Basis) -> float:
    return finite(standing.numbers[objective].value(basis))


def _fastest(some: Sequence[Standing], basis: Basis) -> tuple[Rule, list[Standing]]:
    """Those whose p95 is within a tenth of the best, by their upper bounds if all have one."""
    numbers = [s.numbers[Objective.RECOVERY_P95] for s in some]
    bounds = [None if n.measured is None else n.measured.estimate.high for n in numbers]
    known = [bound for bound in bounds if bound is not None]
    rule = Rule.CHEAPEST_BY_BOUND
    if basis is Basis.FORETOLD or len(known) < len(some):
        rule = Rule.CHEAPEST_BY_VALUE
        known = [max(finite(n.value(basis)), n.foretold or 0.0) for n in numbers]
    best = min(known) * (1 + AS_FAST)
    return rule, [s for s, bound in zip(some, known, strict=True) if bound <= best]


def _cost(board: Board, standing: Standing) -> tuple[float, ...]:
    """First what is asked of DNS at rest; what differs by less than the margin costs the same."""
    baseline = board.baseline
    costs = []
    for objective in (each for each in COSTS if each in board.results.objectives):
        values = [_value(s, objective, board.basis) for s in board.ranked]
        value, least = _value(standing, objective, board.basis), min(values)
        costs.append(math.floor((value - least) / MEASURES[objective].margin(least)))
    changed = 0
    if baseline is not None:
        values_of = baseline.arm.values
        changed = sum(not same(standing.arm.values.get(p), v) for p, v in values_of.items())
    recovery = 0.0
    if Objective.RECOVERY_P95 in board.results.objectives:
        recovery = _value(standing, Objective.RECOVERY_P95, board.basis)
    return *costs[:1], float(changed), *costs[1:], recovery


def _knee(board: Board, some: Sequence[Standing]) -> Standing:
    """Each objective as a part of its range on the front: the arm whose worst one is least."""
    objectives = board.results.objectives
    values = [[_value(s, o, board.basis) for o in objectives] for s in some]
    lows, highs = ([pick(column) for column in zip(*values, strict=True)] for pick in (min, max))

    def worst(row: Sequence[float]) -> tuple[float, float]:
        parts = [
            (v - low) / (high - low) if high > low else 0.0
            for v, low, high in zip(row, lows, highs, strict=True)
        ]
        return max(parts), sum(parts)

    return min(zip(some, values, strict=True), key=lambda pair: worst(pair[1]))[0]


# --- differences ---------------------------------------------------------------------------------


def gains_of(board: Board, before: SweepArm, after: SweepArm) -> Iterator[Gain]:
    """What the one arm is against the other, by objective.

    From the fresh blocks, if both arms have enough of them; else from all; else by the model.
    """
    results = board.results
    basis, ours, theirs = Basis.FORETOLD, None, None
    for kind in (Basis.FRESH, Basis.MEASURED):
        seen = by_arm(results, fresh=kind is Basis.FRESH)
        ours, theirs = seen.get(after.key), seen.get(before.key)
        if (
            ours
            and theirs
            and all(
                len(some.get(fault, ())) >= BLOCKS_MIN
                for some in (ours, theirs)
                for fault in results.faults
            )
        ):
            basis = kind
            break
    once = basis is Basis.FRESH and not results.fresh_were_shown
    for objective in results.objectives:
        if basis is Basis.FORETOLD or ours is None or theirs is None:
            yield _foretold_gain(board, objective, before, after)
            continue
        yield _gain(objective, theirs, ours, basis, once=once)
        if objective is Objective.RECOVERY_P95:
            yield _paired(objective, theirs, ours, basis, once=once, of_mean=True)


def _foretold_gain(board: Board, objective: Objective, before: SweepArm, after: SweepArm) -> Gain:
    numbers = {s.arm.key: s.numbers[objective].foretold for s in board.standings}
    one, two = numbers[before.key], numbers[after.key]
    change = None if one is None or two is None else two - one
    return Gain(
        objective=objective,
        of_mean=False,
        before=one,
        after=two,
        change=Estimate(change, None, None),
        n=0,
        basis=Basis.FORETOLD,
    )


def _gain(
    objective: Objective,
    before: Mapping[str, Sequence[Seen]],
    after: Mapping[str, Sequence[Seen]],
    basis: Basis,
    *,
    once: bool,
) -> Gain:
    """Paired by block where the same fault is worst for both; else of the two intervals."""
    half = sequences.ALPHA / 2
    before, after = _in_the_same_blocks(before, after)
    one, two = measured(objective, before, half), measured(objective, after, half)
    if objective is not Objective.RECOVERY_P95 and one.fault == two.fault:
        return _paired(objective, before, after, basis, once=once, fault=one.fault)
    a, b = two.estimate, one.estimate
    return Gain(
        objective=objective,
        of_mean=False,
        before=b.value,
        after=a.value,
        change=Estimate(
            None if a.value is None or b.value is None else a.value - b.value,
            None if a.low is None or b.high is None else a.low - b.high,
            None if a.high is None or b.low is None else a.high - b.low,
        ),
        n=two.n,
        basis=basis,
    )


def _in_the_same_blocks(
    before: Mapping[str, Sequence[Seen]], after: Mapping[str, Sequence[Seen]]
) -> tuple[Mapping[str, Sequence[Seen]], Mapping[str, Sequence[Seen]]]:
    """Of several hosts, those in which both were: their cycles are shared out in the same way."""
    blocks = [{s.block for some in each.values() for s in some} for each in (before, after)]
    hosts = {s.host for each in (before, after) for some in each.values() for s in some}
    if len(hosts) == 1:
        return before, after
    both = blocks[0] & blocks[1]
    first, second = (
        {fault: [s for s in some if s.block in both] for fault, some in each.items()}
        for each in (before, after)
    )
    return first, second


def _paired(
    objective: Objective,
    before: Mapping[str, Sequence[Seen]],
    after: Mapping[str, Sequence[Seen]],
    basis: Basis,
    *,
    once: bool,
    fault: str | None = None,
    of_mean: bool = False,
) -> Gain:
    """The mean difference within a block. A recovery that never came is one of the limit.

    `once`: nobody has looked at these blocks before.
    """
    read = MEASURES[objective].of_seen

    def values(by_fault: Mapping[str, Sequence[Seen]]) -> dict[tuple[str, int], float]:
        some = by_fault.values() if fault is None else [by_fault[fault]]
        found = {}
        for seen in (each for part in some for each in part):
            if (value := read(seen)) is not None:
                found[seen.fault, seen.block] = min(value, seen.limit_s) if of_mean else value
        return found

    one, two = values(before), values(after)
    both = sorted(one.keys() & two.keys())
    cycles = [seen for some in (before, after) for part in some.values() for seen in part]
    longest_s = longest(objective, cycles)
    moves = [two[key] - one[key] for key in both]
    return Gain(
        objective=objective,
        of_mean=of_mean,
        before=_mean([one[key] for key in both]),
        after=_mean([two[key] for key in both]),
        change=_once(moves)
        if once and len(set(moves)) > 1
        else difference(objective, moves, longest_s),
        n=len(both),
        basis=basis,
    )


def _once(values: Sequence[float]) -> Estimate:
    """The mean of what is looked at once, as fresh blocks are: Student's interval will do."""
    n, value = len(values), math.fsum(values) / len(values)
    t = student(n - 1)
    if t is None:
        return Estimate(value, None, None)
    half = t * math.sqrt(math.fsum((each - value) ** 2 for each in values) / (n - 1) / n)
    return Estimate(value, value - half, value + half)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


# --- line by line --------------------------------------------------------------------------------


def _buys(board: Board, baseline: SweepArm, chosen: SweepArm) -> Iterator[Buy]:
    """Each setting that the recommended arm changes, and what that alone buys."""
    results = board.results
    changed = [p for p, v in baseline.values.items() if not same(chosen.values.get(p), v)]
    together: dict[tuple[str, str], list[str]] = {}
    for path in changed:  # what is tied changes together
        move = label(baseline.values[path]), label(chosen.values[path])
        together.setdefault(move, []).append(path)
    groups = [paths for each in together.values() for paths in _tied(results, each)]
    for paths in groups:
        if len(groups) == 1:
            pair, of_baseline = (baseline, chosen), True
        elif reverted := _with(results, chosen, baseline, paths):
            pair, of_baseline = (reverted, chosen), False
        elif alone := _with(results, baseline, chosen, paths):
            pair, of_baseline = (baseline, alone), True
        else:
            continue
        lines = results.lines.get(pair[1].key, ())
        others = results.lines.get(pair[0].key, ())
        yield Buy(
            paths=tuple(paths),
            before=tuple(baseline.values[path] for path in paths),
            after=tuple(chosen.values[path] for path in paths),
            lines=differing(lines, others),
            of_baseline=of_baseline,
            gains=tuple(gains_of(board, *pair)),
        )


def _tied(results: Results, paths: Sequence[str]) -> Iterator[list[str]]:
    """Those of the paths that have the same value in every arm are one setting."""
    left = list(paths)
    while left:
        first = left[0]
        group = [
            path
            for path in left
            if all(same(arm.values.get(path), arm.values.get(first)) for arm in results.arms)
        ]
        yield group
        left = [path for path in left if path not in group]


def _with(
    results: Results, arm: SweepArm, other: SweepArm, paths: Sequence[str]
) -> SweepArm | None:
    """The arm that is as `arm`, but for these paths, in which it is as `other`."""
    wanted = {**arm.values, **{path: other.values[path] for path in paths}}
    return next(
        (a for a in results.arms if all(same(a.values.get(p), v) for p, v in wanted.items())), None
    )
