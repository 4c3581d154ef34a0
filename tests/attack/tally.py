"""What an attack has found, counted: what is false, what fell over, what was left behind."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "docker")]

from chaosd.errors import Exit  # noqa: E402 - the paths above are needed by the parts
from chaosd.history.cycles import Cycle, CycleOutcome  # noqa: E402

POOR_SHARE_MAX = 0.02  # of right cycles under plain busy loops
SHOWN_MAX = 5  # of each kind
SAID_MAX = 300


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

    def judge(self, cycles: Iterable[Cycle], *, disturbed: Iterable[int] = ()) -> None:
        """Look for what is false; in the `disturbed` cycles the world was certainly late."""
        late = set(disturbed)
        for cycle in cycles:
            if cycle.outcome not in (CycleOutcome.RECOVERED, CycleOutcome.CENSORED):
                continue
            odd = cycle.anomaly or cycle.outcome is CycleOutcome.CENSORED
            if cycle.doubt is None and (odd or cycle.cycle in late):
                why = "out of band" if odd else "disturbed"
                self.wrong.append(
                    f"{cycle.cell} cycle {cycle.cycle} is {why} and good: {cycle.outcome} "
                    f"{cycle.recovery_s} s, lags {cycle.world_lag_s}"
                )
            if not odd and cycle.cycle not in late:
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

    def lines(self) -> list[str]:
        """A line of counts, and the first of each kind."""
        counts = ", ".join(
            (
                f"{self.tries} tries",
                f"wrong truths {len(self.wrong)}",
                f"exit 70 {len(self.bugs)}",
                f"left behind {len(self.left)}",
                f"too late or otherwise {len(self.late)}",
                f"right cycles called poor {self.poor} of {self.right}",
            )
        )
        found = [f"{'ok  ' if self.ok else 'FAIL'} {self.part}: {counts}"]
        for name in ("wrong", "bugs", "left", "late", "notes"):
            some = getattr(self, name)
            found += [f"     {name}: {line}" for line in some[:SHOWN_MAX]]
            if len(some) > SHOWN_MAX:
                found.append(f"     {name}: and {len(some) - SHOWN_MAX} more")
        return found


class Budget:
    """How long a part may take; what it has begun it ends."""

    def __init__(self, minutes: float) -> None:
        self._end_s = time.monotonic() + 60 * minutes

    @property
    def is_left(self) -> bool:
        return time.monotonic() < self._end_s


Attack = Callable[[int, int, Budget], Tally]  # how many, the seed, how long


def command(attack: Attack, n: int, minutes: float = 30.0) -> int:
    """Run one part from the command line; 0 if nothing was found."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--n", type=int, default=n, help=f"tries ({n})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=minutes, help="at most")
    arguments = parser.parse_args()
    tally = attack(arguments.n, arguments.seed, Budget(arguments.minutes))
    print("\n".join(tally.lines()))
    return 0 if tally.ok else 1
