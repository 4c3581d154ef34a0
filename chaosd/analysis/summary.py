"""From a run's cycles and probes to its report. Pure; see report/ for the files on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from chaosd.analysis import slo
from chaosd.analysis.remarks import OF_THE_RUN, Remark
from chaosd.analysis.remarks import RemarkKind as Kind
from chaosd.analysis.samples import Probe
from chaosd.analysis.slo import Objective
from chaosd.analysis.statistics import Clusters, Share
from chaosd.analysis.tally import Phase, Tally, Totals
from chaosd.history.cycles import Cycle
from chaosd.history.endings import EndKind, ending_of

__all__ = ["Objective", "Phase", "Probe", "Queries", "QueryFold", "Report", "Totals"]

# More than this makes the verdict unknown.
POOR_SHARE_MAX = 0.05  # of valid cycles
INVALID_SHARE_MAX = 0.05  # of valid and invalid cycles
UNSTORED_S_MAX, STORED_SHARE_MIN = 5.0, 0.95  # of the samples of cycles
MISHAPS_MAX = 1  # of each kind, however short the run: one hiccup of a busy machine decides nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """What the proxy cost the nameserver."""

    count: int
    per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run says. `verdict` is ok, fail or unknown."""

    run: str
    manifest: dict[str, Any]
    verdict: str
    doubts: tuple[Remark, ...]  # why the measurement says nothing
    notes: tuple[Remark, ...]
    objectives: tuple[Objective, ...]
    availability: Share  # good answers of all requests of the measuring probe
    total: Totals
    cells: dict[str, Totals]
    faults: dict[str, dict[str, Totals]]  # cell → fault
    of_fault: dict[str, Totals]  # in all cells
    probes: tuple[Probe, ...]
    queries: dict[str, Queries]  # by cell, where it is known
    arms: dict[str, Report]  # each by itself, where there are several; then `total` is of all


def summarise(
    run: str,
    manifest: Mapping[str, Any],
    cycles: Iterable[Cycle],
    probes: Iterable[Probe],
    queries: Mapping[str, Queries],
    *,
    windows: Mapping[str, Clusters] | None = None,
    lost: Sequence[Remark] = (),
    noted: Sequence[Remark] = (),
) -> Report:
    """Fold a run's cycles, a line of cycles.jsonl after the other, into its report.

    `windows` are the requests that were sent, and those that were lost, from each T0 to the next,
    by cell; `lost` is what must have been stored and is not there, `noted` what else was
    remarkable of a cell. Where there are several arms each has a report of its own: objectives and
    doubts are of those, and not of a mixture.
    """
    probes, windows = tuple(probes), windows or {}
    arms = manifest.get("arms") or {}
    folded = partial(_summarise, windows=windows, lost=lost, noted=noted)
    if len(arms) <= 1:
        return folded(run, manifest, cycles, probes, queries)
    cycles = list(cycles)
    reports = {}
    for name, arm in arms.items():
        known = ("settings", "cells", "proxy", "proxy_version")
        own = {key: arm[key] for key in known if key in arm}
        cells = set(arm["cells"])
        reports[name] = _summarise(
            f"{run} {name}",
            {**manifest, **own, "arms": {name: arm}},
            [cycle for cycle in cycles if cycle.cell in cells],
            tuple(probe for probe in probes if probe.cell in cells),
            {cell: found for cell, found in queries.items() if cell in cells},
            windows={cell: found for cell, found in windows.items() if cell in cells},
            lost=[remark for remark in lost if remark.cell in cells],
            noted=[remark for remark in noted if remark.cell in cells],
        )
    whole = folded(run, manifest, cycles, probes, queries)
    objectives = tuple(
        replace(o, name=f"{name}: {o.name}") for name, r in reports.items() for o in r.objectives
    )
    doubts = _of_arms({name: r.doubts for name, r in reports.items()})
    return replace(
        whole,
        arms=reports,
        objectives=objectives,
        doubts=doubts,
        notes=_of_arms({name: r.notes for name, r in reports.items()}),
        verdict=slo.verdict(doubts, objectives),
    )


def _of_arms(remarks: Mapping[str, Iterable[Remark]]) -> tuple[Remark, ...]:
    """All arms' remarks, each with its arm; what is of the run as a whole once."""
    found = (
        remark if remark.kind in OF_THE_RUN else replace(remark, arm=name)
        for name, some in remarks.items()
        for remark in some
    )
    return tuple(dict.fromkeys(found))


def _summarise(
    run: str,
    manifest: Mapping[str, Any],
    cycles: Iterable[Cycle],
    probes: tuple[Probe, ...],
    queries: Mapping[str, Queries],
    *,
    windows: Mapping[str, Clusters],
    lost: Sequence[Remark],
    noted: Sequence[Remark],
) -> Report:
    """One arm's report."""
    settings = manifest.get("settings", {})
    new = partial(
        Tally,
        stable_for_s=settings.get("stable_for_ns", 0) / 1e9,
        interval_s=settings.get("interval_ns", 0) / 1e9,
        replicas=settings.get("replicas", 1),
    )
    wanted = manifest.get("slo", {})
    labels = (goal["fault"] for goal in wanted.values() if "fault" in goal)
    # Since definitions 2, DNS cycles have their numbers by fault and not among the arm's failovers.
    arm = partial(new, moves_only=settings.get("definitions", 1) > 1)
    total, of_fault = arm(), defaultdict(new, {label: new() for label in labels})
    cells = defaultdict(arm, {cell: arm() for cell in manifest.get("cells", ())})
    faults: defaultdict[tuple[str, str], Tally] = defaultdict(new)
    asked: Counter[str] = Counter()  # by cell
    for cycle in cycles:
        cell, label = cycle.cell, cycle.fault
        asked[cell] += cycle.samples - cycle.dropped
        for tally in (total, cells[cell], faults[cell, label], of_fault[label]):
            tally.add(cycle)
    parts = {cell: tally.totals() for cell, tally in cells.items()}
    by_fault: dict[str, dict[str, Totals]] = {cell: {} for cell in parts}
    for (cell, label), tally in faults.items():
        by_fault[cell][label] = tally.totals()
    whole = total.totals()
    lost = (*lost, *_lost_samples(asked, probes))
    doubts = (*lost, *_doubts(manifest, whole, parts, by_fault))
    together = Clusters()
    for clusters in windows.values():
        together.include(clusters)
    availability = _availability(*_good_of_all(probes), together)
    by_label = {label: tally.totals() for label, tally in of_fault.items()}
    objectives = tuple(slo.judge(wanted, whole, by_label, availability, poor=bool(doubts)))
    return Report(
        run=run,
        manifest=dict(manifest),
        verdict=slo.verdict(doubts, objectives),
        doubts=doubts,
        notes=(*_notes(manifest, whole, by_label), *noted),
        objectives=objectives,
        availability=availability,
        total=whole,
        cells=parts,
        faults=by_fault,
        of_fault=by_label,
        probes=probes,
        queries=dict(queries),
        arms={},
    )


def _measuring(probes: Iterable[Probe]) -> dict[str, Probe]:
    """The probe that measures, which is the first of each cell."""
    first: dict[str, Probe] = {}
    for probe in probes:
        if probe.via == "proxy":
            first.setdefault(probe.cell, probe)
    return first


def _good_of_all(probes: Iterable[Probe]) -> tuple[int, int]:
    """Good answers and requests of the probe that measures."""
    first = _measuring(probes)
    good = sum(probe.outcomes["ok"] - probe.misrouted for probe in first.values())
    return good, sum(probe.sent for probe in first.values())


def _lost_samples(asked: Mapping[str, int], probes: Iterable[Probe]) -> Iterable[Remark]:
    """Where fewer samples are stored than cycles were made of; the last ones are not yet."""
    for cell, probe in _measuring(probes).items():
        total = asked[cell]
        if probe.sent + UNSTORED_S_MAX / probe.interval_s < STORED_SHARE_MIN * total:
            yield Remark(kind=Kind.LOST_SAMPLES, cell=cell, count=probe.sent, total=total)


def _availability(good: int, sent: int, windows: Clusters) -> Share:
    """What part of all requests was answered well, in failovers and between them.

    What is lost together is lost from one T0 to the next. What lies in no such time, if any does,
    counts as one. In `windows` a request counts as often as it stands for others; see Paces.
    """
    if sent > windows.size:
        windows.add(max(0, sent - good - windows.count), sent - windows.size)
    found, n = windows.share(), windows.size
    return Share(
        count=n - windows.count,
        n=n,
        value=(n - windows.count) / n if n else None,
        low=1 - found.high if found.high is not None else None,
        high=1 - found.low if found.low is not None else None,
    )


def _doubts(
    manifest: Mapping[str, Any],
    whole: Totals,
    cells: Mapping[str, Totals],
    faults: Mapping[str, Mapping[str, Totals]],
) -> Iterable[Remark]:
    """Why the numbers don't speak for themselves: unknown outranks ok."""
    ending = ending_of(manifest)
    if ending is not None and ending.kind is EndKind.BUG:
        yield Remark(kind=Kind.RUN_BUG)
    elif ending is not None and ending.kind is EndKind.FAILED:
        yield Remark(kind=Kind.RUN_FAILED, detail=ending.detail)
    for cell, part in cells.items():
        if not part.valid:
            yield Remark(kind=Kind.NO_CYCLE, cell=cell)
    if not cells:
        yield Remark(kind=Kind.NO_CYCLE)
    by_fault = {
        (cell, label): part for cell, parts in faults.items() for label, part in parts.items()
    }
    levels: tuple[dict[tuple[str | None, str | None], Totals], ...] = (
        {(None, None): whole},
        {(cell, None): part for cell, part in cells.items()},
        {(cell, label): part for (cell, label), part in by_fault.items()},
    )
    # What one cell, or one fault, has too much of must not drown among the others.
    for level in levels:
        if found := [doubt for (c, f), part in level.items() for doubt in _quality(part, c, f)]:
            yield from found
            break
    for (cell, label), part in by_fault.items():
        if part.invalid and not part.valid and cells[cell].valid:
            yield Remark(kind=Kind.NO_CYCLE, cell=cell, fault=label)
    if silent := whole.control_s.censored:
        yield Remark(kind=Kind.SILENT_CONTROLS, count=silent, total=whole.control.cycles)
    if silent := whole.restart.recovery_s.censored:
        yield Remark(kind=Kind.SILENT_RESTARTS, count=silent, total=whole.restart.cycles)


def _quality(part: Totals, cell: str | None, fault: str | None) -> Iterator[Remark]:
    """A part without any valid cycle has another doubt already."""
    if not part.valid:
        return
    tried = part.valid + part.invalid
    for kind, count, total, share in (
        (Kind.POOR, part.poor, part.valid, POOR_SHARE_MAX),
        (Kind.INVALID_CYCLES, part.invalid, tried, INVALID_SHARE_MAX),
    ):
        if count > max(MISHAPS_MAX, share * total) or (count and not part.good):
            yield Remark(kind=kind, cell=cell, fault=fault, count=count, total=total)


def _admission(found: Mapping[str, Any]) -> Iterator[Remark]:
    """What the machine could not carry."""
    total, left_out = found.get("wanted", 0), found.get("left_out", 0)
    lacks = str(found.get("lacks", ""))
    if left_out:
        count = total - left_out
        yield Remark(kind=Kind.FEWER_CELLS, count=count, total=total, detail=lacks)
    if found.get("turns", 1) > 1:
        yield Remark(kind=Kind.IN_TURNS, detail=lacks)


def _notes(
    manifest: Mapping[str, Any], whole: Totals, faults: Mapping[str, Totals]
) -> Iterator[Remark]:
    if manifest.get("end_unix") is None:
        yield Remark(kind=Kind.NOT_ENDED)
    yield from _admission(manifest.get("admission") or {})
    for kind, count in (
        (Kind.MISROUTED, whole.misrouted),
        (Kind.ANOMALIES, whole.in_band.n - whole.in_band.count),
        (Kind.SURPRISING, whole.surprising),
        (Kind.POOR_CYCLES, whole.poor),
        (Kind.INVALID, whole.invalid),
    ):
        if count:
            yield Remark(kind=kind, count=count)
    if whole.cut_off:
        yield Remark(kind=Kind.CUT_OFF, count=whole.cut_off, seconds=whole.cut_off_s)
    if others := whole.stopped - whole.cut_off:
        yield Remark(kind=Kind.STOPPED, count=others)
    if whole.early:
        yield Remark(kind=Kind.EARLY, count=whole.early, seconds=whole.early_max_s)
    if whole.undisturbed:
        yield Remark(kind=Kind.UNAFFECTED, count=whole.undisturbed, total=whole.failovers)
    if whole.eased:
        yield Remark(kind=Kind.EASED, count=whole.eased)
    if skipped := whole.outcomes["skipped"] - whole.eased:
        yield Remark(kind=Kind.SKIPPED, count=skipped)
    if whole.disagreeing:
        by_s = whole.disagreement_max_s
        yield Remark(
            kind=Kind.DISAGREEING, count=whole.disagreeing, total=whole.compared, seconds=by_s
        )
    for label, part in faults.items():
        if part.serial is not None:
            yield Remark(kind=Kind.ALIKE, fault=label, value=part.serial)
    yield from _floor(whole)


def _floor(whole: Totals) -> Iterator[Remark]:
    """What control cycles say of all others."""
    control = whole.control
    if control.alarmed:
        kinds = ("failed", "masked", "misrouted", "dropped")
        parts = tuple((kind, count) for kind in kinds if (count := getattr(control, kind)))
        yield Remark(
            kind=Kind.ALARMED_CONTROLS,
            count=control.alarmed,
            total=control.cycles,
            parts=parts,
            samples=control.samples,
        )
    if whole.restart.misrouted:
        yield Remark(
            kind=Kind.MISROUTED_RESTARTS,
            count=whole.restart.misrouted,
            total=whole.restart.cycles,
        )
    floor_s, median = whole.control_s.max, whole.recovery_s.p50
    if floor_s is not None and median.low is not None and median.low <= floor_s:
        yield Remark(kind=Kind.WITHIN_FLOOR, seconds=floor_s)


class QueryFold:
    """The nameserver's cumulative counts, in the order of time, folded into two a cell."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, int]] = {}
        self._last: dict[str, tuple[int, int]] = {}

    def add(self, cell: str, at_ns: int, count: int) -> None:
        self._first.setdefault(cell, (at_ns, count))
        self._last[cell] = at_ns, count

    def queries(self) -> dict[str, Queries]:
        """By cell."""
        return {cell: self._between(self._first[cell], end) for cell, end in self._last.items()}

    @staticmethod
    def _between(start: tuple[int, int], end: tuple[int, int]) -> Queries:
        time_s, count = (end[0] - start[0]) / 1e9, end[1] - start[1]
        return Queries(count=end[1], per_second=count / time_s if time_s > 0 else None)
