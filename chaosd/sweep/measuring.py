"""The measured sweep: rounds of blocks until every arm is known well enough, or is out.

Theory of operation. A round is a run of living arms, side by side, that makes some blocks of one
fault; the faults take turns. After each pass all that was seen is looked at, and arms stop that are
precise enough or dominated (`racing.py`). When nothing is left to measure, the arm that would be
recommended and the baseline get fresh blocks, which nobody has looked at before. Whatever happens,
the next start reads what is there and goes on.

On several machines a pass is cut into pieces, each a round on one of them. How it is cut, and each
piece's schedule, don't depend on who makes which piece: one that was lost is the same again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TextIO

from chaosd import shown as masking
from chaosd.sweep import racing, rounds, seeing
from chaosd.sweep import words as sweep_words
from chaosd.sweep.answer import Answer, answer
from chaosd.sweep.arms import Arm
from chaosd.sweep.design import Loaded
from chaosd.sweep.recommend import recommend
from chaosd.sweep.rounds import ARMS_MAX, SECONDS_MIN, Fault, Wanted
from chaosd.sweep.seeing import REPORT, Shown
from chaosd.sweep.standing import board
from chaosd.sweep.store import Plan, Stopped, Store
from chaosd.sweep.values import Results, Seen
from chaosd.sweep.where import Where

FIRST_BLOCKS = 5  # before the first look, or more where so many are made at once
LATER_BLOCKS = 15  # before any later look, if twice as many as there are would be more
CELLS_MAX = 32  # of a round on this machine, where arms have several
CYCLES_MIN = 4  # of each of them: to set it up takes as long as two
FRESH_CELLS = 4  # of each arm on other machines: so much sooner fresh blocks are done
FRESH_TRIES = 3  # until there are enough: some may be poor, or not carried at once
FRESH_TIME_SHARE = 0.25  # of the time: so much is kept for the fresh blocks
REPEATED_SHARE = 0.5  # of the cycles that are wanted: so many blocks more are made for poor ones
PIECES = 4  # of FIRST_BLOCKS blocks: a pass over several machines, or more if there are more


def results_of(store: Store, plan: Plan) -> Results:
    """All that was seen so far, from the files alone."""
    return _results(plan, _read(store), store.stopped(plan), store)


def _read(store: Store, known: Sequence[Shown] = ()) -> list[Shown]:
    """What the rounds have shown; of `known` ones again as before."""
    found = list(known)
    brought = {each.number: each for each in store.brought() if each.given_unix}
    for begun in store.rounds()[len(found) :]:
        first_block = sum(each.blocks for each in found)
        shown = seeing.look(store.directory, begun, first_block)
        if (said := brought.get(begun.number)) is not None:
            # Times of several hosts are only held against each other by one clock: ours.
            shown = replace(shown, start_unix=said.given_unix, took_s=said.took_s)
        found.append(shown)
    return found


def _results(plan: Plan, every: Sequence[Shown], stopped: dict[str, str], store: Store) -> Results:
    keys = [arm.key for arm in plan.arms]
    # Those of faults that the design still has.
    shown = [each for each in every if plan.faults.get(each.round.fault) == each.round.fault_hash]
    links: dict[str, list[str]] = {key: [] for key in keys}
    for each in shown:
        for key in each.round.arms.values() if each.blocks else ():
            if key in links:
                links[key].append(f"{each.round.directory}/{REPORT}")
    seen = tuple(seen for each in shown for seen in each.seen if seen.arm in links)
    fresh = sum(each.fresh for each in seen)
    return Results(
        name=plan.name,
        arms=tuple(arm.sweep for arm in plan.arms),
        faults=tuple(plan.faults),
        objectives=plan.objectives,
        seen=seen,
        foretold=plan.foretold,
        unforetold=plan.unforetold,
        stopped={key: why for key, why in stopped.items() if key in links},
        lines=plan.lines,
        links={key: tuple(paths) for key, paths in links.items() if paths},
        poor_blocks=sum(each.poor for each in shown),
        hosts=store.hosts(),
        fresh_were_shown=any(count < fresh for count in store.answered()),
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
        where: Where,
        *,
        stream: TextIO,
    ) -> None:
        plan = store.read()
        self._loaded, self._store, self._plan, self._where = loaded, store, plan, where
        self._faults, self._limits, self._stream = faults, limits, stream
        self._arms = {arm.key: arm for arm in plan.arms}
        self._baseline = next(arm for arm in plan.arms if arm.sweep.baseline)
        self._stopped = store.stopped(plan)
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
            if not blocks or self._left_s(whole=False) < SECONDS_MIN:
                break
            self._pass(blocks)
        found = answer(self.results())
        if not self._is_over and found.recommendation is not None:
            self._fresh(found.recommendation.arm.key)
            found = answer(self.results())
        return found

    def _say(self, text: str) -> None:
        print(masking.line(text), file=self._stream, flush=True)

    def results(self) -> Results:
        return _results(self._plan, self._shown, self._stopped, self._store)

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
            basis = self._plan.basis
            self._store.stop(Stopped(key=key, why=why, basis=basis, by=stop.by, share=stop.share))
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
                some = min(counts)
                more = max(self._look_after(len(living)), min(2 * some, LATER_BLOCKS), some // 2)
                found[fault.label] = more if more + FIRST_BLOCKS < left else left
        return found

    def _look_after(self, arms: int) -> int:
        """How many blocks of each fault are made before the next look, at least."""
        if self._where.width == 1:
            return max(FIRST_BLOCKS, CYCLES_MIN * self._replicas(arms, self._limits.cycles))
        return FIRST_BLOCKS * max(PIECES, -(-self._where.width // len(self._faults)))

    def _groups(self, fault: Fault, more: str = "") -> Iterator[list[Arm]]:
        """The living arms, as many at once as a run and this machine carry, the baseline in each.

        They are drawn anew for each round, so that any two of them meet some time.
        """
        carried = [s.at_once for s in self._shown if 0 < s.at_once < len(s.round.arms)]
        size = max(2, min([ARMS_MAX, *carried]))
        others = [arm for arm in self._living() if arm is not self._baseline]
        rng = self._rng(f"groups {fault.label} {self._number}{more}")
        rng.shuffle(others)
        count = max(1, -(-len(others) // (size - 1)))
        for place in range(count):
            yield [self._baseline, *others[place::count]]

    # --- rounds ---

    def _pass(self, blocks: Mapping[str, int]) -> None:
        if self._where.width > 1:
            every = [w for fault in self._faults for w in self._pieces(fault, blocks)]
            self._make([self._of_arms(fault, arms, count) for fault, arms, count in every])
            return
        for fault in self._faults:
            for arms in self._groups(fault) if blocks.get(fault.label) else ():
                if self._is_over or self._left_s(whole=False) < SECONDS_MIN:
                    return
                self._make([self._of_arms(fault, arms, blocks[fault.label])])

    def _pieces(
        self, fault: Fault, blocks: Mapping[str, int]
    ) -> Iterator[tuple[Fault, list[Arm], int]]:
        """Groups are drawn anew for each, so that every arm comes to every machine some time."""
        left = blocks.get(fault.label, 0)
        for piece, count in enumerate(_cut(left) if left else ()):
            for arms in self._groups(fault, f" {piece}" if piece else ""):
                yield fault, arms, count

    def _of_arms(self, fault: Fault, arms: Sequence[Arm], blocks: int) -> Wanted:
        replicas = self._replicas(len(arms), blocks) if self._where.width == 1 else 1
        cycles = -(-blocks // replicas)
        return self._wanted(fault, arms, cycles, replicas=replicas, fresh=False)

    def _replicas(self, arms: int, blocks: int) -> int:
        """How many cells of each arm make these blocks, by what this machine has carried."""
        known = (shown.carried for shown in reversed(self._shown) if shown.carried is not None)
        cells = min(CELLS_MAX, next(known, CELLS_MAX))
        return max(1, min(cells // arms, blocks // CYCLES_MIN))

    def _fresh(self, recommended: str) -> None:
        """Blocks of the recommended arm and the baseline that nobody has looked at before."""
        is_baseline = recommended == self._baseline.key
        arms = [self._baseline, self._arms[recommended]][: 1 if is_baseline else 2]
        together = self._where.width > 1
        for _ in range(FRESH_TRIES):
            some = []
            for fault in self._faults:
                there = min(self._count(arm.key, fault.label, fresh=True) for arm in arms)
                left = self._limits.cycles - there
                if left <= 0 or self._is_over or self._left_s(whole=True) < SECONDS_MIN:
                    continue
                replicas = min(FRESH_CELLS, left) if together else self._replicas(len(arms), left)
                cycles = -(-left // replicas)
                some += [
                    self._wanted(fault, arms, each, replicas=replicas, fresh=True)
                    for each in (_cut(cycles) if together else [cycles])
                ]
                if not together:
                    self._make(some)
                    some = []
            if some:
                self._make(some)

    def _wanted(
        self, fault: Fault, arms: Sequence[Arm], cycles: int, *, replicas: int, fresh: bool
    ) -> Wanted:
        self._number += 1
        left_s = self._left_s(whole=fresh)
        return Wanted(
            number=self._number,
            fault=fault,
            arms=arms,
            cycles=cycles,
            replicas=replicas,
            fresh=fresh,
            seed=self._rng(f"round {self._number}").getrandbits(32),
            time_s=None if left_s == float("inf") else left_s,
        )

    def _make(self, some: Sequence[Wanted]) -> None:
        seen: list[Seen] = [s for each in self._shown for s in each.seen]
        prepared = []
        for wanted in some:
            slow_s = rounds.slowest_s(wanted.arms, wanted.fault, seen, self._plan.foretold)
            prepared.append(rounds.prepare(self._loaded, wanted, slow_s))
        self._is_over = self._where.make(prepared)
        self._shown = _read(self._store, self._shown)
        for fault in {w.fault.label: w.fault for w in some}.values() if not self._is_over else ():
            self._progress(fault, fresh=some[0].fresh)

    def _rng(self, purpose: str) -> Random:
        return Random(f"{self._plan.seed} {purpose}")  # noqa: S311 - repeatable is the point

    # --- time, and what is said ---

    def _left_s(self, *, whole: bool) -> float:
        """What is left of the time, without what is kept for the fresh blocks unless `whole`."""
        if self._limits.time_s is None:
            return float("inf")
        share = 1.0 if whole else 1 - FRESH_TIME_SHARE
        return share * self._limits.time_s - self._took_s(self._shown)

    def _took_s(self, some: Sequence[Shown]) -> float:
        if self._where.width > 1:
            return seeing.took_s(some)
        return sum(each.took_s for each in some)

    def _progress(self, fault: Fault, *, fresh: bool) -> None:
        living, latest = self._living(), self._shown[-1]
        if fresh:
            made = [e for e in self._shown if e.round.fresh and e.round.fault == fault.label]
            blocks = latest.blocks if self._where.width == 1 else sum(e.blocks for e in made)
            self._say(f"round {self._number}: fresh blocks of {fault.label}: {blocks}")
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
        block_s = self._took_s(made) / max(1, sum(each.blocks for each in made))
        ahead = 0
        for fault in self._faults:
            counts = [self._count(arm.key, fault.label) for arm in self._living()]
            ahead += max(0, self._limits.cycles - min(counts))
        fresh = FRESH_CELLS if self._where.width > 1 else self._replicas(2, self._limits.cycles)
        ahead_s = block_s * (ahead + len(self._faults) * self._limits.cycles / fresh)
        return min(ahead_s, max(0.0, self._left_s(whole=True)))


def _cut(cycles: int) -> list[int]:
    """Into as few pieces of FIRST_BLOCKS or less as there can be, about as long as each other."""
    count = max(1, -(-cycles // FIRST_BLOCKS))
    return [cycles // count + (place < cycles % count) for place in range(count)]


def _about(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes > 1 else f"{math.ceil(seconds / 10) * 10} s"
