"""What an attack has found, counted: what is false, what fell over, what was left behind."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "docker")]

from chaosd.errors import Exit  # noqa: E402 - the paths above are needed by the parts
from chaosd.history.cycles import Cycle, CycleOutcome  # noqa: E402

POOR_SHARE_MAX = 0.02  # of right cycles under plain busy loops
SHOWN_MAX = 5  # of each kind
SAID_MAX = 300
TOLD_EVERY_S = 10.0
NOTHING: Mapping[int, str] = MappingProxyType({})
COUNTED = ("wrong", "bugs", "left", "late")
HEADS = ("tries", "wrong truths", "exit 70", "left behind", "other faults")


@dataclass
class Tally:
    """One part of the attack. A list has a line for each thing that must not be."""

    part: str
    tries: int = 0
    wrong: list[str] = field(default_factory=list)  # stated with confidence, and false
    bugs: list[str] = field(default_factory=list)  # exit 70, a traceback, a signal
    left: list[str] = field(default_factory=list)  # behind
    late: list[str] = field(default_factory=list)  # took longer than it may
    right: int = 0  # cycles whose numbers are right
    poor: int = 0  # … that were called poor
    judges_poor: bool = False  # whether that is counted against chaosd
    notes: list[str] = field(default_factory=list)  # what could not be tried, and why
    took_s: float = 0.0

    def judge(self, cycles: Iterable[Cycle], *, disturbed: Mapping[int, str] = NOTHING) -> None:
        """Look for what is false; in the `disturbed` cycles the world was certainly late."""
        for cycle in cycles:
            if cycle.outcome not in (CycleOutcome.RECOVERED, CycleOutcome.CENSORED):
                continue
            odd = cycle.anomaly or cycle.outcome is CycleOutcome.CENSORED
            done = disturbed.get(cycle.cycle)
            if cycle.doubt is None and (odd or done):
                why = f"{'out of band' if odd else 'disturbed'} ({done or 'by nobody'})"
                self.wrong.append(
                    f"{cycle.cell} cycle {cycle.cycle} is {why} and good: {cycle.outcome} "
                    f"{cycle.recovery_s} s, lags {cycle.world_lag_s}"
                )
            if not odd and not done:
                self.right += 1
                self.poor += cycle.doubt is not None

    def ended(self, code: int, said: str, what: str, fine: Iterable[int] = (0, 4)) -> None:
        """How a command has ended."""
        if code == Exit.BUG or code < 0 or "Traceback" in said:
            self.bugs.append(f"{what}: exit {code}: {said.strip()[-SAID_MAX:]}")
        elif code not in fine:
            self.late.append(f"{what}: exit {code}: {said.strip()[-SAID_MAX:]}")

    @property
    def poor_share(self) -> float:
        return self.poor / self.right if self.right else 0.0

    @property
    def ok(self) -> bool:
        too_many = self.judges_poor and self.poor_share > POOR_SHARE_MAX
        return not (self.wrong or self.bugs or self.left or self.late or too_many)

    @property
    def found(self) -> int:
        return sum(len(getattr(self, name)) for name in COUNTED)

    def lines(self) -> list[str]:
        """The first of each kind of what was found."""
        lines = []
        for name in (*COUNTED, "notes"):
            some = getattr(self, name)
            lines += [f"{self.part}: {name}: {line}" for line in some[:SHOWN_MAX]]
            if len(some) > SHOWN_MAX:
                lines.append(f"{self.part}: {name}: and {len(some) - SHOWN_MAX} more")
        return lines


def shown(found: Sequence[Tally]) -> int:
    """Print what was found, and a table of the counts; 0 if nothing was, else 1."""
    print()
    for tally in found:
        print("\n".join(tally.lines()))
    heads = ("", *HEADS, "poor of right", "min")
    print(f"\n{'part':16}{heads[0]:6}" + "".join(f"{head:>14}" for head in heads[1:]))
    for tally in found:
        counts = [tally.tries, *(len(getattr(tally, name)) for name in COUNTED)]
        cells = [*map(str, counts), f"{tally.poor} of {tally.right}", f"{tally.took_s / 60:.1f}"]
        is_ok = "ok" if tally.ok else "FAIL"
        print(f"{tally.part:16}{is_ok:6}" + "".join(f"{cell:>14}" for cell in cells))
    return 0 if all(tally.ok for tally in found) else 1


class Budget:
    """How long a part may take; what it has begun it ends. Says how far it is."""

    def __init__(self, minutes: float, size: int) -> None:
        self._began_s = self._told_s = time.monotonic()
        self._end_s = self._began_s + 60 * minutes
        self._size = size

    def is_left(self, found: Tally) -> bool:
        """Whether there is time for another try."""
        now_s = time.monotonic()
        found.took_s = now_s - self._began_s
        if now_s >= self._told_s + TOLD_EVERY_S:
            self._told_s = now_s
            print(
                f"{found.part}: {found.tries} of {self._size} tries, {found.found} found, "
                f"{found.took_s / 60:.1f} min",
                file=sys.stderr,
                flush=True,
            )
        if now_s >= self._end_s and found.tries < self._size:
            found.notes.append(f"its time was over after {found.tries} of {self._size}")
        return now_s < self._end_s

    def ended(self, found: Tally) -> None:
        found.took_s = time.monotonic() - self._began_s


Attack = Callable[[int, int, Budget], Tally]  # how many, the seed, how long


def options(size: int, minutes: float) -> argparse.ArgumentParser:
    """The options that every part has."""
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", type=int, default=size, help=f"how many tries ({size})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=minutes, help=f"at most ({minutes:g})")
    return parser


def tried(part: str, attack: Attack, size: int, seed: int, minutes: float) -> Tally:
    """What a part has found; that it fell over itself is told, and hides no other part."""
    budget = Budget(minutes, size)
    try:
        found = attack(size, seed, budget)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        found = Tally(part, late=[f"{type(error).__name__}: {error}"[:SAID_MAX]])
    budget.ended(found)
    return found


def command(attack: Attack, size: int, minutes: float) -> int:
    """Run one part from the command line; 0 if nothing was found."""
    arguments = options(size, minutes).parse_args()
    part = Path(sys.argv[0]).stem
    return shown([tried(part, attack, arguments.size, arguments.seed, arguments.minutes)])
