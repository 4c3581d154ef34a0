"""From a run's cycles and probes to its report. Pure; see report/ for the files on both sides."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from chaosd.analysis import slo
from chaosd.analysis.recovery import UNRECOVERED
from chaosd.analysis.samples import Probe
from chaosd.analysis.slo import Objective
from chaosd.analysis.statistics import Clusters, Share
from chaosd.analysis.tally import Part, Phase, Tally
from chaosd.errors import Exit
from chaosd.history.events import Cycle, Reading

__all__ = ["Objective", "Part", "Phase", "Probe", "Queries", "QueryFold", "Report"]

# More than this makes the verdict unknown.
POOR_SHARE_MAX = 0.05  # of valid cycles
INVALID_SHARE_MAX = 0.05  # of valid and invalid cycles
ALIKE_REST_MIN = 0.01  # of what is not alike in recoveries: beyond, all of them are one
UNSTORED_S_MAX, STORED_SHARE_MIN = 5.0, 0.95  # of the samples of cycles
MISHAPS_MAX = 1  # of each kind, however short the run: one hiccup of a busy machine decides nothing


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
    of_fault: dict[str, Part]  # in all cells
    probes: tuple[Probe, ...]
    queries: dict[str, Queries]  # by cell, where it is known


def summarise(
    run: str,
    manifest: Mapping[str, Any],
    cycles: Iterable[Cycle],
    probes: Iterable[Probe],
    queries: Mapping[str, Queries],
    *,
    windows: Clusters | None = None,
    lost: Sequence[str] = (),
) -> Report:
    """Fold a run's cycles, a line of cycles.jsonl after the other, into its report.

    `windows` are the requests that were sent, and those that were lost, from each T0 to the next;
    `lost` is what must have been stored and is not there.
    """
    settings = manifest.get("settings", {})
    new = partial(
        Tally,
        stable_for_s=settings.get("stable_for_ns", 0) / 1e9,
        interval_s=settings.get("interval_ns", 0) / 1e9,
        replicas=settings.get("replicas", 1),
    )
    wanted = manifest.get("slo", {})
    labels = (goal["fault"] for goal in wanted.values() if "fault" in goal)
    total, of_fault = new(), defaultdict(new, {label: new() for label in labels})
    cells = defaultdict(new, {cell: new() for cell in manifest.get("cells", ())})
    faults: defaultdict[tuple[str, str], Tally] = defaultdict(new)
    asked: Counter[str] = Counter()  # by cell
    for cycle in cycles:
        cell, label = cycle.cell, cycle.fault
        asked[cell] += cycle.samples - cycle.dropped
        for tally in (total, cells[cell], faults[cell, label], of_fault[label]):
            tally.add(cycle)
    parts = {cell: tally.part() for cell, tally in cells.items()}
    by_fault: dict[str, dict[str, Part]] = {cell: {} for cell in parts}
    for (cell, label), tally in faults.items():
        by_fault[cell][label] = tally.part()
    whole, probes = total.part(), tuple(probes)
    lost = (*lost, *_lost_samples(asked, probes))
    doubts = (*lost, *_doubts(manifest, whole, parts, by_fault))
    availability = _availability(*_answers(probes), windows or Clusters())
    by_label = {label: tally.part() for label, tally in of_fault.items()}
    objectives = tuple(slo.judge(wanted, whole, by_label, availability, poor=bool(doubts)))
    unmet = [f"{o.name}: {o.reason}" for o in objectives if o.result != slo.OK and not doubts]
    return Report(
        run=run,
        manifest=dict(manifest),
        verdict=slo.verdict(doubts, objectives),
        reasons=(*doubts, *unmet),
        doubts=doubts,
        notes=tuple(_notes(manifest, whole, by_label)),
        objectives=objectives,
        availability=availability,
        total=whole,
        cells=parts,
        faults=by_fault,
        of_fault=by_label,
        probes=probes,
        queries=dict(queries),
    )


def _measuring(probes: Iterable[Probe]) -> dict[str, Probe]:
    """The probe that measures, which is the first of each cell."""
    first: dict[str, Probe] = {}
    for probe in probes:
        if probe.via == "proxy":
            first.setdefault(probe.cell, probe)
    return first


def _answers(probes: Iterable[Probe]) -> tuple[int, int]:
    """Good answers and requests of the probe that measures."""
    first = _measuring(probes)
    good = sum(probe.outcomes["ok"] - probe.misrouted for probe in first.values())
    return good, sum(probe.sent for probe in first.values())


def _lost_samples(asked: Mapping[str, int], probes: Iterable[Probe]) -> Iterable[str]:
    """Where fewer samples are stored than cycles were made of; the last ones are not yet."""
    for cell, probe in _measuring(probes).items():
        if probe.sent + UNSTORED_S_MAX / probe.interval_s < STORED_SHARE_MIN * asked[cell]:
            yield (
                f"cell {cell}: samples are lost: {probe.sent:,} are stored, and its cycles are "
                f"made of {asked[cell]:,}"
            )


def _availability(good: int, sent: int, windows: Clusters) -> Share:
    """What part of all requests was answered well, in failovers and between them.

    What is lost together is lost from one T0 to the next. What lies in no such time, if any does,
    counts as one.
    """
    if sent > windows.size:
        windows.add(max(0, sent - good - windows.count), sent - windows.size)
    found = windows.share()
    return Share(
        count=good,
        n=sent,
        value=good / sent if sent else None,
        low=1 - found.high if found.high is not None else None,
        high=1 - found.low if found.low is not None else None,
    )


def _doubts(
    manifest: Mapping[str, Any],
    whole: Part,
    cells: Mapping[str, Part],
    faults: Mapping[str, Mapping[str, Part]],
) -> Iterable[str]:
    """Why the numbers don't speak for themselves: unknown outranks ok."""
    if manifest.get("exit") in (Exit.SETUP, Exit.BUG):
        yield f"the run ended with an error: {manifest.get('reason')}"
    for cell, part in cells.items():
        if not part.valid:
            yield f"cell {cell}: no valid cycle"
    if not cells:
        yield "no valid cycle"
    by_cell = {f"cell {cell}: ": part for cell, part in cells.items()}
    by_fault = {
        (cell, f"cell {cell}: fault {label}: "): part
        for cell, parts in faults.items()
        for label, part in parts.items()
    }
    # What one cell, or one fault, has too much of must not drown among the others.
    for level in ({"": whole}, by_cell, {where: part for (_, where), part in by_fault.items()}):
        if found := [doubt for where, part in level.items() for doubt in _quality(part, where)]:
            yield from found
            break
    for (cell, where), part in by_fault.items():
        if part.invalid and not part.valid and cells[cell].valid:
            yield f"{where}no valid cycle"
        if part.undisturbed and part.undisturbed == part.failovers:
            yield f"{where}no outage in any of {_cycles(part.failovers)}: it disturbs nothing"
    if silent := whole.control_s.censored:
        yield f"{silent} of {_cycles(whole.control.cycles)} of control without a good answer"
    if silent := whole.restart.recovery_s.censored:
        yield f"{silent} of {_cycles(whole.restart.cycles)} at the same address without a recovery"


def _quality(part: Part, where: str) -> list[str]:
    """A part without any valid cycle has another reason already."""
    if not part.valid:
        return []
    tried, most, doubts = part.valid + part.invalid, "(at most 5 % may be)", []
    if part.poor > max(MISHAPS_MAX, POOR_SHARE_MAX * part.valid):
        doubts.append(f"{where}{part.poor} of {_cycles(part.valid)} of poor quality {most}")
    if part.invalid > max(MISHAPS_MAX, INVALID_SHARE_MAX * tried):
        doubts.append(f"{where}{part.invalid} of {_cycles(tried)} invalid {most}")
    return doubts


def _notes(manifest: Mapping[str, Any], whole: Part, faults: Mapping[str, Part]) -> Iterable[str]:
    if manifest.get("end_unix") is None:
        yield "the run has not ended by itself: this is what was stored up to now, or to its death"
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
    if whole.early:
        yield (
            f"{_cycles(whole.early)} recovered by a retried request, up to {whole.early_max_s:.3f} "
            "s before fresh ones got through: predictions are of those"
        )
    if whole.undisturbed:
        yield f"{_cycles(whole.undisturbed)} without an outage: counted as a recovery of 0 s"
    if whole.outcomes["skipped"]:
        yield f"{_cycles(whole.outcomes['skipped'])} skipped: another one was still going on"
    if whole.disagreeing:
        yield (
            f"{_cycles(whole.disagreeing)} of {whole.compared} with good answers among the bad "
            "ones: the outage is longer by its ends than by its losses, by "
            f"{whole.disagreement_max_s:.3f} s at most"
        )
    by_fault = {label: part.serial for label, part in faults.items() if part.serial is not None}
    for label, alike in by_fault.items():
        # The variance of a mean of such values is so many times that of independent ones.
        wider = math.sqrt((1 + alike) / max(1 - alike, ALIKE_REST_MIN))
        yield (
            f"{label}: recoveries that follow each other are alike (serial correlation "
            f"{alike:.2f}): intervals should be some {wider:.1f} times as wide, or the run longer"
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
