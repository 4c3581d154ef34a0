"""From a run's cycles and probes to its report. Pure; see report/ for the files on both sides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from chaosd.analysis import slo
from chaosd.analysis.recovery import UNRECOVERED
from chaosd.analysis.slo import Objective
from chaosd.analysis.statistics import Share, quantile_rank
from chaosd.analysis.tally import Part, Phase, Tally
from chaosd.errors import Exit
from chaosd.events import Cycle, Outcome, Reading

__all__ = ["Objective", "Part", "Phase", "Probe", "ProbeFold", "Queries", "QueryFold", "Report"]

# More than this makes the verdict unknown.
POOR_SHARE_MAX = 0.05  # of valid cycles
INVALID_SHARE_MAX = 0.05  # of valid and invalid cycles
MISHAPS_MAX = 1  # of each kind, however short the run: one hiccup of a busy machine decides nothing
LAG_US_MAX = 100_000  # lags are counted to the microsecond up to here


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """All samples of a stream, in cycles and between them."""

    cell: str
    probe: str
    via: str
    interval_s: float
    sent: int
    outcomes: dict[str, int]
    misrouted: int
    masked: int
    dropped: int
    lag_p50_s: float | None
    lag_p99_s: float | None
    lag_max_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """What the proxy cost the nameserver."""

    count: int
    per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run says. `verdict` is ok, fail or unknown; `reasons` say why it is not ok."""

    run: str
    manifest: dict[str, Any]
    verdict: str
    reasons: tuple[str, ...]
    doubts: tuple[str, ...]  # those of them that are about the measurement
    notes: tuple[str, ...]
    objectives: tuple[Objective, ...]
    availability: Share  # good answers of all requests of the measuring probe
    total: Part
    cells: dict[str, Part]
    faults: dict[str, dict[str, Part]]  # cell → fault
    probes: tuple[Probe, ...]
    queries: dict[str, Queries]  # by cell, where it is known


def summarise(
    run: str,
    manifest: Mapping[str, Any],
    cycles: Iterable[Cycle],
    probes: Iterable[Probe],
    queries: Mapping[str, Queries],
) -> Report:
    """Fold a run's cycles, a line of cycles.jsonl after the other, into its report."""
    stable_for_s = manifest.get("settings", {}).get("stable_for_ns", 0) / 1e9
    new = partial(Tally, stable_for_s)
    total = new()
    cells = defaultdict(new, {cell: new() for cell in manifest.get("cells", ())})
    faults: defaultdict[tuple[str, str], Tally] = defaultdict(new)
    for cycle in cycles:
        for tally in (total, cells[cycle.cell], faults[cycle.cell, cycle.fault]):
            tally.add(cycle)
    parts = {cell: tally.part() for cell, tally in cells.items()}
    by_fault: dict[str, dict[str, Part]] = {cell: {} for cell in parts}
    for (cell, label), tally in faults.items():
        by_fault[cell][label] = tally.part()
    whole, probes = total.part(), tuple(probes)
    doubts = tuple(_doubts(manifest, whole, parts))
    availability = total.availability(*_answers(probes))
    wanted = manifest.get("slo", {})
    objectives = tuple(slo.judge(wanted, whole, availability, poor=bool(doubts)))
    unmet = [f"{o.name}: {o.reason}" for o in objectives if o.result != slo.OK]
    return Report(
        run=run,
        manifest=dict(manifest),
        verdict=slo.verdict(doubts, objectives),
        reasons=(*doubts, *unmet),
        doubts=doubts,
        notes=tuple(_notes(manifest, whole)),
        objectives=objectives,
        availability=availability,
        total=whole,
        cells=parts,
        faults=by_fault,
        probes=probes,
        queries=dict(queries),
    )


def _answers(probes: Iterable[Probe]) -> tuple[int, int]:
    """Good answers and requests of the probe that measures, which is the first of each cell."""
    first: dict[str, Probe] = {}
    for probe in probes:
        if probe.via == "proxy":
            first.setdefault(probe.cell, probe)
    good = sum(probe.outcomes["ok"] - probe.misrouted for probe in first.values())
    return good, sum(probe.sent for probe in first.values())


def _doubts(manifest: Mapping[str, Any], whole: Part, cells: Mapping[str, Part]) -> Iterable[str]:
    """Why the numbers don't speak for themselves: unknown outranks ok."""
    if manifest.get("exit") in (Exit.SETUP, Exit.BUG):
        yield f"the run ended with an error: {manifest.get('reason')}"
    for cell, part in cells.items():
        if not part.valid:
            yield f"cell {cell}: no valid cycle"
    if not cells:
        yield "no valid cycle"
    # What one cell has too much of must not drown among the others.
    yield from _quality_doubts(whole, "") or (
        doubt for cell, part in cells.items() for doubt in _quality_doubts(part, f"cell {cell}: ")
    )
    if silent := whole.control_s.censored:
        yield f"{silent} of {_cycles(whole.control.cycles)} of control without a good answer"


def _quality_doubts(part: Part, where: str) -> list[str]:
    """A part without any valid cycle has another reason already."""
    if not part.valid:
        return []
    tried, most, doubts = part.valid + part.invalid, "(at most 5 % may be)", []
    if part.poor > max(MISHAPS_MAX, POOR_SHARE_MAX * part.valid):
        doubts.append(f"{where}{part.poor} of {_cycles(part.valid)} of poor quality {most}")
    if part.invalid > max(MISHAPS_MAX, INVALID_SHARE_MAX * tried):
        doubts.append(f"{where}{part.invalid} of {_cycles(tried)} invalid {most}")
    return doubts


def _notes(manifest: Mapping[str, Any], whole: Part) -> Iterable[str]:
    if manifest.get("end_unix") is None:
        yield "the run did not end by itself: this is what was stored until it was cut off"
    if whole.misrouted:
        yield f"{whole.misrouted:,} requests were answered by somebody who is not the app"
    if outside := whole.in_band.n - whole.in_band.count:
        yield f"{_cycles(outside)} outside of the predicted band: anomalies"
    if whole.invalid:
        yield f"{_cycles(whole.invalid)} invalid: not among the numbers"
    if whole.cut_off:
        longest = ", the longest" if whole.cut_off > 1 else ""
        lasted = f"{longest} after {whole.cut_off_s:.1f} s {UNRECOVERED}"
        yield f"{_cycles(whole.cut_off)} cut off{lasted}: in the quantiles as longer than that"
    if others := whole.stopped - whole.cut_off:
        yield f"{_cycles(others)} cut off: not among the numbers"
    if whole.outcomes["skipped"]:
        yield f"{_cycles(whole.outcomes['skipped'])} skipped: faults come faster than recoveries"
    if whole.disagreeing:
        yield (
            f"{_cycles(whole.disagreeing)} of {whole.compared} with good answers among the bad "
            "ones: the outage is longer by its ends than by its losses, by "
            f"{whole.disagreement_max_s:.3f} s at most"
        )
    yield from _floor(whole)


def _floor(whole: Part) -> Iterable[str]:
    """What control cycles say of all others."""
    control = whole.control
    if control.alarmed:
        kinds = {kind: getattr(control, kind) for kind in ("failed", "masked", "misrouted")}
        counts = [f"{count:,} {kind}" for kind, count in kinds.items() if count]
        counts += [f"{control.dropped:,} not sent"] if control.dropped else []
        yield (
            f"{control.alarmed} of {_cycles(control.cycles)} of control with {', '.join(counts)} "
            f"of {control.samples:,} requests, though nothing was taken away: so much is not the "
            "fault's doing"
        )
    if whole.restart.misrouted:
        yield (
            f"{whole.restart.misrouted:,} requests were answered by somebody who is not the app in "
            f"{_cycles(whole.restart.cycles)} in which its address was nobody else's"
        )
    floor_s, median = whole.control_s.max, whole.recovery_s.p50
    if floor_s is not None and median.low is not None and median.low <= floor_s:
        yield (
            f"the median recovery is no longer than what control cycles take (up to {floor_s:.3f} "
            "s): such recoveries can't be told from no disturbance"
        )


def _cycles(count: int) -> str:
    return f"{count} cycle{'' if count == 1 else 's'}"


class ProbeFold:
    """Samples of all streams, a block of stored records after the other, folded into counts.

    Exact, in a fixed amount of memory for each stream. `identities` are the app's, of each cell.
    """

    def __init__(
        self,
        streams: Iterable[Reading],
        identities: Mapping[str, Container[str]],
        slow_after_ns: int,
    ) -> None:
        self._streams = {reading.data["stream"]: reading.data for reading in streams}
        self._identities = identities
        self._slow_after_us = slow_after_ns / 1000
        self._outcomes = {stream: np.zeros(len(Outcome), np.int64) for stream in self._streams}
        self._lags = {stream: np.zeros(LAG_US_MAX + 1, np.int64) for stream in self._streams}
        self._lag_max_us = dict.fromkeys(self._streams, 0)
        self._misrouted = dict.fromkeys(self._streams, 0)
        self._masked = dict.fromkeys(self._streams, 0)

    def add(self, records: Any, names: Sequence[str]) -> None:
        """Records of `stream outcome who lag_us took_us`, sorted by stream; `who` is into names."""
        for stream, data in self._streams.items():
            first, last = np.searchsorted(records["stream"], [stream, stream + 1])
            mine = records[first:last]
            if not len(mine):
                continue
            self._outcomes[stream] += np.bincount(mine["outcome"], minlength=len(Outcome))
            lags_us = mine["lag_us"][mine["outcome"] != Outcome.DROPPED]
            if len(lags_us):
                clipped = np.clip(lags_us, 0, LAG_US_MAX)
                self._lags[stream] += np.bincount(clipped, minlength=LAG_US_MAX + 1)
                self._lag_max_us[stream] = max(self._lag_max_us[stream], int(lags_us.max()))
            ours = np.array([name in self._identities[data["cell"]] for name in names], bool)
            answered = mine[mine["outcome"] == Outcome.OK]
            good = ours[answered["who"]]
            self._misrouted[stream] += int((~good).sum())
            self._masked[stream] += int((answered["took_us"][good] > self._slow_after_us).sum())

    def state(self) -> dict[str, Any]:
        """What was counted so far, for JSON; `restore` takes it up again."""
        return {
            str(stream): {
                "outcomes": self._outcomes[stream].tolist(),
                "lags": {
                    str(lag): int(self._lags[stream][lag])
                    for lag in np.flatnonzero(self._lags[stream]).tolist()
                },
                "lag_max_us": self._lag_max_us[stream],
                "misrouted": self._misrouted[stream],
                "masked": self._masked[stream],
            }
            for stream in self._streams
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Add what another fold of the same streams has counted."""
        for name, counted in state.items():
            stream = int(name)
            if stream not in self._streams:
                continue
            self._outcomes[stream] += np.array(counted["outcomes"], np.int64)
            for lag, count in counted["lags"].items():
                self._lags[stream][int(lag)] += count
            self._lag_max_us[stream] = max(self._lag_max_us[stream], counted["lag_max_us"])
            self._misrouted[stream] += counted["misrouted"]
            self._masked[stream] += counted["masked"]

    def probes(self) -> list[Probe]:
        return [
            Probe(
                cell=data["cell"],
                probe=data["probe"],
                via=data["via"],
                interval_s=data["interval_ns"] / 1e9,
                sent=int(self._outcomes[stream].sum() - self._outcomes[stream][Outcome.DROPPED]),
                outcomes={
                    outcome.name.lower(): int(self._outcomes[stream][outcome])
                    for outcome in Outcome
                    if outcome != Outcome.DROPPED
                },
                misrouted=self._misrouted[stream],
                masked=self._masked[stream],
                dropped=int(self._outcomes[stream][Outcome.DROPPED]),
                lag_p50_s=self._lag_s(stream, 0.5),
                lag_p99_s=self._lag_s(stream, 0.99),
                lag_max_s=self._lag_s(stream, 1.0),
            )
            for stream, data in sorted(self._streams.items())
        ]

    def _lag_s(self, stream: int, p: float) -> float | None:
        counts = np.cumsum(self._lags[stream])
        if not counts[-1]:
            return None
        lag_us = int(np.searchsorted(counts, quantile_rank(int(counts[-1]), p)))
        return (self._lag_max_us[stream] if lag_us == LAG_US_MAX else lag_us) / 1e6


class QueryFold:
    """The nameserver's cumulative counts, in the order of time, folded into two a cell."""

    def __init__(self) -> None:
        self._first: dict[str, Reading] = {}
        self._last: dict[str, Reading] = {}

    def add(self, reading: Reading) -> None:
        self._first.setdefault(reading.cell, reading)
        self._last[reading.cell] = reading

    def queries(self) -> dict[str, Queries]:
        """By cell."""
        return {cell: self._between(self._first[cell], end) for cell, end in self._last.items()}

    @staticmethod
    def _between(start: Reading, end: Reading) -> Queries:
        time_s = (end.at_ns - start.at_ns) / 1e9
        count = end.data["count"] - start.data["count"]
        return Queries(count=end.data["count"], per_second=count / time_s if time_s > 0 else None)
