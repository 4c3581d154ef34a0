"""What a person sees while a run goes on: a sentence per cycle and, on a terminal, a live line."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections import deque
from collections.abc import Sequence
from typing import TextIO

from chaosd import shown
from chaosd.analysis.observed import observed
from chaosd.analysis.statistics import quantile_rank
from chaosd.errors import output_error
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import AnyEvent, StreamOpened
from chaosd.history.values import Outcome, Sample
from chaosd.live.outlet import outlet
from chaosd.report.text import seconds, sentence

RECOVERIES_MAX = 10_000  # of the latest cycles, for the quantiles of the live line
LAGS_MAX = 10_000  # of the latest probes
CLEAR = "\r\x1b[2K"
RED, YELLOW, DIM, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


class Console:
    """Writes plain lines to a log. On a terminal they scroll above a line that is drawn anew."""

    def __init__(self, stream: TextIO | None = None) -> None:
        stream = sys.stdout if stream is None else stream
        self._outlet = outlet(stream)
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self._live and not os.environ.get("NO_COLOR")
        self._cells: set[str] = set()
        self._ready = False
        self._cycles = self._failed = self._misrouted = 0
        self._last_s: float | None = None
        self._recoveries_s = deque[float](maxlen=RECOVERIES_MAX)
        self._lags_ns = deque[int](maxlen=LAGS_MAX)
        self._probes = self._probes_per_second = 0

    def say(self, text: str) -> None:
        """Show one line."""
        self._line(text)

    # --- the sink ---

    def samples(self, batch: Sequence[Sample]) -> None:
        if not self._live:
            return
        self._probes += len(batch)
        self._lags_ns.extend(
            s.sent_ns - s.scheduled_ns for s in batch if s.outcome != Outcome.DROPPED
        )

    def event(self, event: AnyEvent) -> None:
        if isinstance(event.what, StreamOpened):
            self._cells.add(event.cell)

    def cycle(self, cycle: Cycle) -> None:
        self._cycles += 1
        self._failed += cycle.failed
        self._misrouted += cycle.misrouted
        # As in the report: what is poor is in no quantile, nor is a cycle in which nothing moves.
        found = None if cycle.kind.is_still else observed(cycle)
        if found is not None:
            self._recoveries_s.append(math.inf if found.censored else found.seconds)
            self._last_s = self._last_s if found.censored else found.seconds
        self._line(sentence(cycle, wide=len(self._cells) > 1), _colour(cycle))

    def ready(self) -> None:
        self._ready = True
        self._draw()

    def tick(self) -> None:
        self._probes_per_second, self._probes = self._probes, 0
        self._draw()

    def check(self) -> None:
        """Raise MachineError if what was said last is in no log, though there should be one."""
        self._outlet.finish()
        failure = self._outlet.failure
        if failure is not None and not isinstance(failure, BrokenPipeError):
            raise output_error(failure)

    def close(self) -> None:
        """Leave the terminal as it was found: what is said afterwards needs no live line."""
        if self._live:
            self._outlet.write(CLEAR)
        self._live = False
        self._outlet.finish()

    # --- inside ---

    def _line(self, text: str, colour: str = "") -> None:
        text = shown.line(text)
        if self._colour and colour:
            text = f"{colour}{text}{PLAIN}"
        self._outlet.write(f"{CLEAR if self._live else ''}{text}\n")
        self._draw()

    def _draw(self) -> None:
        # Nobody reads this any more? The measuring goes on, and its files tell of it.
        self._live = self._live and self._outlet.failure is None
        if self._live and not self._outlet.is_behind:
            width = shutil.get_terminal_size().columns
            text = self._status()[: width - 1]  # a longer one would wrap, and not be cleared
            coloured = f"{DIM}{text}{PLAIN}" if self._colour else text
            self._outlet.write(f"{CLEAR}{coloured}")

    def _status(self) -> str:
        if not self._ready:
            return "setting up"
        parts = [f"{self._cycles} cycle{'' if self._cycles == 1 else 's'}"]
        if self._last_s is not None:
            parts.append(f"last {seconds(self._last_s)}")
        if self._recoveries_s:
            p50, p95 = (_quantile(self._recoveries_s, p) for p in (0.5, 0.95))
            parts.append(f"p50 {seconds(p50)}, p95 {seconds(p95)}")
        # The most important comes first: a narrow terminal cuts the rest off.
        parts.append(f"{self._failed} failed, {self._misrouted} misrouted")
        parts.append(f"{self._probes_per_second} probes ended/s")
        if self._lags_ns:
            parts.append(f"lag p99 {seconds(_quantile(self._lags_ns, 0.99) / 1e9)}")
        return " · ".join(parts)


def _colour(cycle: Cycle) -> str:
    if cycle.outcome == CycleOutcome.CENSORED or cycle.misrouted:
        return RED
    if cycle.outcome == CycleOutcome.INVALID or cycle.anomaly or cycle.doubt is not None:
        return YELLOW
    return ""


def _quantile(values: Sequence[float], p: float) -> float:
    return sorted(values)[quantile_rank(len(values), p) - 1]
