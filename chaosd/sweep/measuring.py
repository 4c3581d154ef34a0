"""The measured sweep: rounds of blocks until every arm is known well enough, or is out.

Theory of operation. A round is a run of living arms, side by side, that makes some blocks of one
fault; the faults take turns. After each pass all that was seen is looked at, and arms stop that are
precise enough or dominated (`racing.py`). When nothing is left to measure, the arm that would be
recommended and the baseline get fresh blocks, which nobody has looked at before. Whatever happens,
the next start reads what is there and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TextIO

from chaosd import shown as masking
from chaosd.sweep import racing, rounds, seeing
from chaosd.sweep import words as sweep_words
from chaosd.sweep.answer import Answer, answer
from chaosd.sweep.arms import Arm
from chaosd.sweep.design import Loaded
from chaosd.sweep.recommend import recommend
from chaosd.sweep.rounds import ARMS_MAX, Fault, Wanted
from chaosd.sweep.seeing import REPORT, Shown
from chaosd.sweep.standing import board
from chaosd.sweep.store import Plan, Stopped, Store
from chaosd.sweep.values import Results, Seen

FIRST_BLOCKS = 5  # before the first look
FRESH_CELLS = 4  # of each of the two that get fresh blocks: so much sooner they are done
FRESH_TRIES = 3  # until there are enough: some may be poor, or not carried at once
FRESH_TIME_SHARE = 0.25  # of the time: so much is kept for the fresh blocks
REPEATED_SHARE = 0.5  # of the cycles that are wanted: so many blocks more are made for poor ones
_SECONDS_MIN = 5.0  # a round that has less time would end before its first block


def results_of(store: Store, plan: Plan) -> Results:
    """All that was seen so far, from the files alone."""
    return _results(plan, _read(store), store.stopped())


def _read(store: Store, known: Sequence[Shown] = ()) -> list[Shown]:
    """What the rounds have shown; of `known` ones again as before."""
    found = list(known)
    for begun in store.rounds()[len(found) :]:
        first_block = sum(each.blocks for each in found)
        found.append(seeing.look(store.directory, begun, first_block))
    return found


def _results(plan: Plan, every: Sequence[Shown], stopped: dict[str, str]) -> Results:
    keys = [arm.key for arm in plan.arms]
    # Those of faults that the design still has.
    shown = [each for each in every if plan.faults.get(each.round.fault) == each.round.fault_hash]
    links: dict[str, list[str]] = {key: [] for key in keys}
    for each in shown:
        for key in each.round.arms.values() if each.blocks else ():
            if key in links:
                links[key].append(f"{each.round.directory}/{REPORT}")
    return Results(
        name=plan.name,
        arms=tuple(arm.sweep for arm in plan.arms),
        faults=tuple(plan.faults),
        objectives=plan.objectives,
        seen=tuple(seen for each in shown for seen in each.seen if seen.arm in links),
        foretold=plan.foretold,
        unforetold=plan.unforetold,
        stopped={key: why for key, why in stopped.items() if key in links},
        lines=plan.lines,
        links={key: tuple(paths) for key, paths in links.items() if paths},
        poor_blocks=sum(each.poor for each in shown),
    )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a sweep has had enough."""

    cycles: int  # of each arm under each fault
    time_s: float | None
    precision: float | None


class Sweep:
    """A sweep that is measured now."""

    def __init__(
        self,
        loaded: Loaded,
        store: Store,
        faults: Sequence[Fault],
        limits: Limits,
        stream: TextIO,
    ) -> None:
        plan = store.read()
        self._loaded, self._store, self._plan = loaded, store, plan
        self._faults, self._limits, self._stream = faults, limits, stream
        self._arms = {arm.key: arm for arm in plan.arms}
        self._baseline = next(arm for arm in plan.arms if arm.sweep.baseline)
        self._stopped = store.stopped()
        self._shown = _read(store)
        self._number = max((begun.number for begun in store.rounds()), default=0)
        self._is_over = False  # somebody has stopped it

    def run(self) -> Answer:
        """Measure what is left, and answer. Raises what `chaosd run` raises."""
        if cycles := sum(len(each.seen) for each in self._shown):
            self._say(f"goes on: {cycles} cycles of {len(self._shown)} rounds are there already")
        while not self._is_over:
            self._look()
            blocks = self._missing()
            if not blocks or self._left_s(whole=False) < _SECONDS_MIN:
                break
            for fault in self._faults:
                self._pass(fault, blocks.get(fault.label, 0))
        found = answer(self.results())
        if not self._is_over and found.recommendation is not None:
            self._fresh(found.recommendation.arm.key)
            found = answer(self.results())
        return found

    def _say(self, text: str) -> None:
        print(masking.line(text), file=self._stream, flush=True)

    def results(self) -> Results:
        return _results(self._plan, self._shown, self._stopped)

    # --- which arms, how many blocks ---

    def _living(self) -> list[Arm]:
        return [arm for arm in self._plan.arms if arm.key not in self._stopped]

    def _look(self) -> None:
        results = self.results()
        if not results.seen:
            return
        for key, stop in racing.look(results, self._limits.precision).items():
            why = sweep_words.stopped(stop, results)
            self._stopped[key] = why
            self._store.stop(Stopped(key=key, why=why))
            self._say(f"stopped: {self._arms[key].sweep.name}: {why}")

    def _count(self, key: str, fault: str, *, fresh: bool = False) -> int:
        return sum(
            seen.arm == key and seen.fault == fault and seen.fresh is fresh
            for each in self._shown
            if each.round.fault_hash == self._plan.faults[fault]
            for seen in each.seen
        )

    def _missing(self) -> dict[str, int]:
        """How many blocks of each fault the next pass makes; empty: none are wanted any more."""
        wanted = self._limits.cycles
        most = wanted + max(FIRST_BLOCKS, round(REPEATED_SHARE * wanted))
        living = self._living()
        if len(living) == 1 < len(self._arms):  # the baseline: all others are known well enough
            return {}
        found = {}
        for fault in self._faults:
            counts = [self._count(arm.key, fault.label) for arm in living]
            left = wanted - min(counts)
            if left > 0 and max(counts) < most:
                found[fault.label] = min(left, max(FIRST_BLOCKS, min(counts) // 2))
        return found

    def _groups(self, fault: Fault) -> Iterator[list[Arm]]:
        """The living arms, as many at once as a run and this machine carry, the baseline in each.

        They are drawn anew for each round, so that any two of them meet some time.
        """
        carried = [s.at_once for s in self._shown if 0 < s.at_once < len(s.round.arms)]
        size = max(2, min([ARMS_MAX, *carried]))
        others = [arm for arm in self._living() if arm is not self._baseline]
        rng = self._rng(f"groups {fault.label} {self._number}")
        rng.shuffle(others)
        count = max(1, -(-len(others) // (size - 1)))
        for place in range(count):
            yield [self._baseline, *others[place::count]]

    # --- rounds ---

    def _pass(self, fault: Fault, blocks: int) -> None:
        if not blocks:
            return
        for arms in self._groups(fault):
            if self._is_over or self._left_s(whole=False) < _SECONDS_MIN:
                return
            self._round(fault, arms, blocks, replicas=1, fresh=False)

    def _fresh(self, recommended: str) -> None:
        """Blocks of the recommended arm and the baseline that nobody has looked at before."""
        is_baseline = recommended == self._baseline.key
        arms = [self._baseline, self._arms[recommended]][: 1 if is_baseline else 2]
        for fault in [fault for _ in range(FRESH_TRIES) for fault in self._faults]:
            there = min(self._count(arm.key, fault.label, fresh=True) for arm in arms)
            left = self._limits.cycles - there
            if left <= 0 or self._is_over or self._left_s(whole=True) < _SECONDS_MIN:
                continue
            replicas = min(FRESH_CELLS, left)
            self._round(fault, arms, -(-left // replicas), replicas=replicas, fresh=True)

    def _round(
        self, fault: Fault, arms: Sequence[Arm], blocks: int, *, replicas: int, fresh: bool
    ) -> None:
        self._number += 1
        left_s = self._left_s(whole=fresh)
        wanted = Wanted(
            fault=fault,
            arms=arms,
            cycles=blocks,
            replicas=replicas,
            fresh=fresh,
            seed=self._rng(f"round {self._number}").getrandbits(32),
            time_s=None if left_s == float("inf") else left_s,
        )
        seen: list[Seen] = [s for each in self._shown for s in each.seen]
        slow_s = rounds.slowest_s(arms, fault, seen, self._plan.foretold)
        self._is_over = rounds.run(
            self._loaded, self._store, wanted, self._number, slow_s, stream=self._stream
        )
        self._shown = _read(self._store, self._shown)
        if not self._is_over:
            self._progress(fault, fresh=fresh)

    def _rng(self, purpose: str) -> Random:
        return Random(f"{self._plan.seed} {purpose}")  # noqa: S311 - repeatable is the point

    # --- time, and what is said ---

    def _left_s(self, *, whole: bool) -> float:
        """What is left of the time, without what is kept for the fresh blocks unless `whole`."""
        if self._limits.time_s is None:
            return float("inf")
        share = 1.0 if whole else 1 - FRESH_TIME_SHARE
        return share * self._limits.time_s - sum(each.took_s for each in self._shown)

    def _progress(self, fault: Fault, *, fresh: bool) -> None:
        living, latest = self._living(), self._shown[-1]
        if fresh:
            self._say(f"round {self._number}: fresh blocks of {fault.label}: {latest.blocks}")
            return
        done = min(self._count(arm.key, fault.label) for arm in living)
        poor = sum(each.poor for each in self._shown)
        parts = [
            f"round {self._number}: {done} of {self._limits.cycles} blocks of {fault.label}",
            f"{len(living)} arms living, {len(self._stopped)} stopped",
            *([f"{poor} poor blocks"] if poor else []),
            *self._leader(),
            f"about {_about(self._ahead_s())} left",
        ]
        self._say(", ".join(parts))

    def _leader(self) -> Iterator[str]:
        found = recommend(board(self.results()))
        if found is not None:
            yield f"leader {found.arm.name}"

    def _ahead_s(self) -> float:
        """What is left to be measured, by what blocks took so far; no more than the time."""
        made = [each for each in self._shown if each.blocks and not each.round.fresh]
        block_s = sum(each.took_s for each in made) / max(1, sum(each.blocks for each in made))
        ahead = 0
        for fault in self._faults:
            counts = [self._count(arm.key, fault.label) for arm in self._living()]
            ahead += max(0, self._limits.cycles - min(counts))
        ahead_s = block_s * (ahead + len(self._faults) * self._limits.cycles / FRESH_CELLS)
        return min(ahead_s, max(0.0, self._left_s(whole=True)))


def _about(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes > 1 else f"{math.ceil(seconds / 10) * 10} s"
