"""From a run's cycles and probes to its report. Pure; see report/ for the files on both sides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chaosd.analysis.recovery import STOPPED, UNRECOVERED
from chaosd.analysis.statistics import Quantiles, Share, quantile_rank, quantiles, share
from chaosd.errors import Exit
from chaosd.events import PHASES, Cycle, CycleOutcome, Outcome, Reading

# More than this makes the verdict unknown.
POOR_SHARE_MAX = 0.05  # of valid cycles
INVALID_SHARE_MAX = 0.05  # of valid and invalid cycles
MISHAPS_MAX = 1  # of each kind, however short the run: one hiccup of a busy machine decides nothing
LAG_US_MAX = 100_000  # lags are counted to the microsecond up to here
MEASURED = ("recovery_s", "stable_recovery_s", "outage_gap_s", "outage_loss_s")
COUNTS = ("samples", "failed", "masked", "misrouted", "dropped")
VALID = (CycleOutcome.RECOVERED, CycleOutcome.CENSORED, CycleOutcome.CONTROL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Where the seconds went: in the `n` recoveries in which this phase is known."""

    n: int
    mean_s: float | None
    share: float | None  # of the seconds of all recoveries; `settle` comes after them and has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The cycles of a cell, of one of its faults, or of the whole run."""

    outcomes: dict[str, int]
    stopped: int  # of the invalid ones, those cut off because chaosd was stopped
    cut_off_s: float | None  # how long the longest of those had lasted without a recovery
    poor: int  # valid cycles whose numbers can't be trusted much
    disagreeing: int  # recoveries whose two outage estimators differ by more than their error
    recovery_s: Quantiles
    stable_recovery_s: Quantiles
    outage_gap_s: Quantiles
    outage_loss_s: Quantiles
    control_s: Quantiles  # the recovery of control cycles: the meter's own floor
    resolution_s: float | None  # the worst error bar of any of its recoveries
    phases: dict[str, Phase]
    phases_unknown_share: float | None
    samples: int
    failed: int
    masked: int
    misrouted: int
    dropped: int
    in_band: Share  # of the recoveries for which there is a prediction
    predicted_mean_s: float | None
    predicted_observed_mean_s: float | None  # the mean recovery of the same cycles

    @property
    def failovers(self) -> int:
        return self.outcomes["recovered"] + self.outcomes["censored"]

    @property
    def valid(self) -> int:
        return sum(self.outcomes[outcome] for outcome in VALID)

    @property
    def invalid(self) -> int:
        """By a mishap: to stop chaosd is none."""
        return self.outcomes["invalid"] - self.stopped


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
    """What a run says. `verdict` is ok or unknown; `reasons` say why it is unknown."""

    run: str
    manifest: dict[str, Any]
    verdict: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
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
    total, cells = _Tally(), {cell: _Tally() for cell in manifest.get("cells", ())}
    faults: dict[tuple[str, str], _Tally] = {}
    for cycle in cycles:
        fault = faults.setdefault((cycle.cell, cycle.fault), _Tally())
        for tally in (total, cells.setdefault(cycle.cell, _Tally()), fault):
            tally.add(cycle)
    parts = {cell: tally.part() for cell, tally in cells.items()}
    by_fault: dict[str, dict[str, Part]] = {cell: {} for cell in parts}
    for (cell, label), tally in faults.items():
        by_fault[cell][label] = tally.part()
    whole = total.part()
    reasons = tuple(_doubts(manifest, whole, parts))
    return Report(
        run=run,
        manifest=dict(manifest),
        verdict="unknown" if reasons else "ok",
        reasons=reasons,
        notes=tuple(_notes(manifest, whole)),
        total=whole,
        cells=parts,
        faults=by_fault,
        probes=tuple(probes),
        queries=dict(queries),
    )


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
        yield f"{silent} of {_cycles(whole.outcomes['control'])} of control without a good answer"


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
    if whole.stopped:
        longest = ", the longest" if whole.stopped > 1 else ""
        lasted = f"{longest} after {whole.cut_off_s:.1f} s {UNRECOVERED}" if whole.cut_off_s else ""
        yield f"{_cycles(whole.stopped)} cut off{lasted}: not among the numbers"
    if whole.outcomes["skipped"]:
        yield f"{_cycles(whole.outcomes['skipped'])} skipped: faults come faster than recoveries"
    if whole.disagreeing:
        yield (
            f"{_cycles(whole.disagreeing)} with good answers among the bad ones: the outage is "
            "longer by its ends than by its losses"
        )


def _cycles(count: int) -> str:
    return f"{count} cycle{'' if count == 1 else 's'}"


class _Tally:
    """Cycles, taken in one by one. Memory: a few numbers a cycle."""

    def __init__(self) -> None:
        self.outcomes = Counter({outcome.value: 0 for outcome in CycleOutcome})
        self.counts = Counter[str]()
        self.values: dict[str, list[float]] = {name: [] for name in MEASURED}
        self.control: list[float] = []
        self.phases: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self.resolution_s: float | None = None
        self.cut_off_s: float | None = None
        self.predicted: list[tuple[float, float]] = []  # mean, recovery
        self.in_band = self.judged = 0

    def add(self, cycle: Cycle) -> None:
        self.outcomes[cycle.outcome.value] += 1
        if cycle.outcome == CycleOutcome.INVALID:
            self._add_invalid(cycle)
        if cycle.outcome not in VALID:
            return
        self.counts["poor"] += cycle.valid_reason is not None
        if cycle.outcome == CycleOutcome.CONTROL:
            if cycle.recovery_s is not None:
                self.control.append(cycle.recovery_s)
            return
        for name in COUNTS:
            self.counts[name] += getattr(cycle, name)
        # What is null in a cycle that recovered is unknown; in one that did not, it was longer.
        for name in MEASURED:
            value = getattr(cycle, name)
            if value is not None and cycle.outcome == CycleOutcome.RECOVERED:
                self.values[name].append(value)
        if cycle.outcome == CycleOutcome.RECOVERED and cycle.stable_recovery_s is None:
            self.counts["unstable"] += 1
        self._add_recovery(cycle)
        if cycle.anomaly is not None:
            self.judged += 1
            self.in_band += not cycle.anomaly

    def _add_invalid(self, cycle: Cycle) -> None:
        reason = cycle.valid_reason or ""
        if not reason.startswith(STOPPED):
            return
        self.counts["stopped"] += 1
        if reason.endswith(UNRECOVERED):
            self.cut_off_s = max((cycle.end_ns - cycle.t0_ns) / 1e9, self.cut_off_s or 0.0)

    def _add_recovery(self, cycle: Cycle) -> None:
        if cycle.outcome != CycleOutcome.RECOVERED or cycle.recovery_s is None:
            return
        for phase, seconds in self.phases.items():
            part_s = cycle.phases.get(f"{phase}_s")
            if part_s is not None:
                seconds.append(part_s)
        if cycle.predicted is not None:
            self.predicted.append((cycle.predicted.mean_s, cycle.recovery_s))
        if cycle.resolution_s is None:
            return
        self.resolution_s = max(cycle.resolution_s, self.resolution_s or 0.0)
        gap_s, loss_s = cycle.outage_gap_s, cycle.outage_loss_s
        if gap_s is not None and loss_s is not None:
            self.counts["disagreeing"] += gap_s - loss_s > 2 * cycle.resolution_s

    def part(self) -> Part:
        censored = self.outcomes["censored"]
        recovered_s = sum(self.values["recovery_s"])
        phases = {
            phase: Phase(
                n=len(seconds),
                mean_s=_mean(seconds),
                share=sum(seconds) / recovered_s if recovered_s and phase != "settle" else None,
            )
            for phase, seconds in self.phases.items()
        }
        known = [phase.share for phase in phases.values() if phase.share is not None]
        means, observed = zip(*self.predicted, strict=True) if self.predicted else ((), ())
        return Part(
            outcomes=dict(self.outcomes),
            stopped=self.counts["stopped"],
            cut_off_s=self.cut_off_s,
            poor=self.counts["poor"],
            disagreeing=self.counts["disagreeing"],
            recovery_s=quantiles(self.values["recovery_s"], censored),
            stable_recovery_s=quantiles(
                self.values["stable_recovery_s"], censored + self.counts["unstable"]
            ),
            outage_gap_s=quantiles(self.values["outage_gap_s"], censored),
            outage_loss_s=quantiles(self.values["outage_loss_s"], censored),
            control_s=quantiles(self.control, self.outcomes["control"] - len(self.control)),
            resolution_s=self.resolution_s,
            phases=phases,
            phases_unknown_share=max(0.0, 1 - sum(known)) if known else None,
            **{name: self.counts[name] for name in COUNTS},
            in_band=share(self.in_band, self.judged),
            predicted_mean_s=_mean(means),
            predicted_observed_mean_s=_mean(observed),
        )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


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
