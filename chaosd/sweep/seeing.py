"""What a round has shown: its cycles as values that arms are compared by."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaosd.analysis.tally import VALID
from chaosd.history.causes import CauseKind
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import QueriesCounted
from chaosd.history.reader import RunReader, unreadable
from chaosd.report import load_run
from chaosd.sweep.store import Round
from chaosd.sweep.values import Seen
from chaosd.system.clock import SECOND_NS

_REST_NS_MIN = 500_000_000  # of what is counted as rest: less of it says nothing
_TURNS_APART_NS = 1_500_000_000  # cells of a block begin within less
REPORT = "report.html"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One round."""

    round: Round
    seen: tuple[Seen, ...]
    blocks: int  # that were made, poor ones included
    poor: int  # blocks in which an arm's cycle does not count
    start_unix: float  # by its host's clock, or that of who collects
    took_s: float
    at_once: int  # arms that ran side by side
    carried: int | None = None  # cells, where that is fewer than there were to be


def look(directory: Path, begun: Round, first_block: int) -> Shown:
    """Read a round as far as it came; its blocks are counted from `first_block` on.

    Raises MachineError for what is damaged.
    """
    none = Shown(round=begun, seen=(), blocks=0, poor=0, start_unix=0.0, took_s=0.0, at_once=0)
    path = directory / begun.directory / "run.json"
    if not path.exists():  # killed before it had begun
        return none
    reader = RunReader(path.parent)
    cycles = [c for c in reader.cycles() if c.arm in begun.arms and not _is_stopped(c)]
    if not cycles:
        return none
    manifest = reader.manifest
    replicas, start_s = _replicas(manifest), manifest.get("start_unix")
    strangers = sorted({cycle.cell for cycle in cycles} - replicas.keys())
    if strangers or start_s is None:
        raise unreadable(path, ValueError(f"start_unix is {start_s}, no arm has {strangers}"))
    blocks: dict[tuple[int, int, int], list[Cycle]] = {}
    at_once = 0
    for number, together in _numbers(cycles):
        for turn, some in enumerate(_turns(together)):
            at_once = max(at_once, len({cycle.arm for cycle in some}))
            for cycle in some:
                blocks.setdefault((number, turn, replicas[cycle.cell]), []).append(cycle)
    queries = _Queries(reader, cycles)
    seen, poor = [], 0
    for place, key in enumerate(sorted(blocks)):
        valid = [cycle for cycle in blocks[key] if _counts(cycle)]
        poor += len(valid) < len(blocks[key])
        seen += [_seen(c, begun, reader, queries, first_block + place) for c in valid]
    last_s = max(cycle.t0_unix + cycle.lasted_s for cycle in cycles)
    start_unix = float(start_s)
    took_s = float(manifest.get("end_unix") or last_s) - start_unix
    return Shown(
        round=begun,
        seen=tuple(seen),
        blocks=len(blocks),
        poor=poor,
        start_unix=start_unix,
        took_s=max(0.0, took_s),
        at_once=at_once,
        carried=_carried(manifest, at_once),
    )


def _carried(manifest: Mapping[str, Any], at_once: int) -> int | None:
    admission = manifest.get("admission")
    if not isinstance(admission, dict):
        return None
    return at_once if admission["turns"] > 1 else int(admission["wanted"] - admission["left_out"])


def took_s(some: Iterable[Shown]) -> float:
    """How long rounds were made, in all: the time in which several were counts once."""
    total_s = until = 0.0
    for each in sorted(some, key=lambda shown: shown.start_unix):
        end = each.start_unix + each.took_s
        total_s += max(0.0, end - max(until, each.start_unix))
        until = max(until, end)
    return total_s


def _replicas(manifest: Mapping[str, Any]) -> dict[str, int]:
    arms = manifest.get("arms", {}).values()
    return {cell: place for arm in arms for place, cell in enumerate(arm["cells"])}


def _numbers(cycles: Sequence[Cycle]) -> Iterator[tuple[int, list[Cycle]]]:
    by_number: dict[int, list[Cycle]] = {}
    for cycle in cycles:
        by_number.setdefault(cycle.cycle, []).append(cycle)
    yield from sorted(by_number.items())


def _turns(cycles: Sequence[Cycle]) -> Iterator[list[Cycle]]:
    """Where the machine did not carry all arms at once, each turn has blocks of its own."""
    some: list[Cycle] = []
    for cycle in sorted(cycles, key=lambda cycle: cycle.t0_ns):
        if some and cycle.t0_ns - some[-1].t0_ns > _TURNS_APART_NS:
            yield some
            some = []
        some.append(cycle)
    if some:
        yield some


def _is_stopped(cycle: Cycle) -> bool:
    """Whether it was cut off because somebody, or the time, has ended the round."""
    return cycle.cut_off or (cycle.cause is not None and cycle.cause.kind is CauseKind.STOPPED)


def _counts(cycle: Cycle) -> bool:
    return cycle.outcome in VALID and cycle.doubt is None


def _seen(cycle: Cycle, begun: Round, reader: RunReader, queries: _Queries, block: int) -> Seen:
    settings = load_run.settings_of(reader, cycle.cell)
    interval_s = settings.interval_ns / SECOND_NS
    recovery_s = cycle.recovery_s or 0.0
    rest, trouble = queries.of(cycle)
    return Seen(
        arm=begun.arms[cycle.arm],
        block=block,
        fault=begun.fault,
        recovery_s=None if cycle.outcome is CycleOutcome.CENSORED else recovery_s,
        limit_s=settings.recovery_limit_ns / SECOND_NS,
        failed_s=cycle.failed * interval_s,
        misrouted_s=cycle.misrouted * interval_s,
        rest_queries_per_s=rest,
        trouble_queries_per_s=trouble,
        fresh=begun.fresh,
        host=begun.host,
    )


class _Queries:
    """Questions to the nameserver, from its counts at the edges of cycles and in between."""

    def __init__(self, reader: RunReader, cycles: Sequence[Cycle]) -> None:
        self._counts: dict[str, list[tuple[int, int]]] = {}
        for event in reader.events("queries"):
            if isinstance(event.what, QueriesCounted):
                self._counts.setdefault(event.cell, []).append((event.at_ns, event.what.count))
        for counts in self._counts.values():
            counts.sort()
        self._ends: dict[str, list[int]] = {}
        for cycle in sorted(cycles, key=lambda cycle: cycle.end_ns):
            self._ends.setdefault(cycle.cell, []).append(cycle.end_ns)

    def of(self, cycle: Cycle) -> tuple[float | None, float | None]:
        """A second, at rest before this cycle, and while it lasted; None where nobody counted."""
        counts, ends = self._counts.get(cycle.cell, []), self._ends[cycle.cell]
        times = [at_ns for at_ns, _ in counts]
        begins = bisect_right(times, cycle.t0_ns) - 1
        over = bisect_left(times, cycle.end_ns)
        place = bisect_right(ends, cycle.t0_ns)
        rests = bisect_left(times, ends[place - 1]) if place else 0
        return self._rate(counts, rests, begins), self._rate(counts, begins, over)

    @staticmethod
    def _rate(counts: Sequence[tuple[int, int]], first: int, last: int) -> float | None:
        if not 0 <= first < last < len(counts):
            return None
        (from_ns, before), (to_ns, after) = counts[first], counts[last]
        if to_ns - from_ns < _REST_NS_MIN:
            return None
        return (after - before) * SECOND_NS / (to_ns - from_ns)
