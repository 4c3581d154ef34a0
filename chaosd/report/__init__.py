"""Report in; text, Markdown, HTML, JSON, JUnit out; and from a run directory to its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from chaosd.analysis import slo, summary
from chaosd.analysis.heat import Heat, HeatFold
from chaosd.analysis.samples import ProbeFold, Windows, measuring
from chaosd.analysis.summary import Report
from chaosd.errors import Exit
from chaosd.history import flight_record
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import AnyEvent
from chaosd.history.reader import FOLDED, RunReader, unreadable
from chaosd.history.writer import write_whole
from chaosd.report import arms, html, json, junit, load_run, markdown
from chaosd.report.settings import arm_settings, files, settings
from chaosd.report.text import closing_lines, sentence

__all__ = [
    "analyse",
    "as_json",
    "closing_lines",
    "exit_code",
    "save",
    "sentence",
    "side_by_side",
    "write",
]


# What comes of counts that are none: they are only added up.
DAMAGED_COUNTS = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


class Analysed(NamedTuple):
    """A run's report, and what its pictures are made of."""

    report: Report
    cycles: list[Cycle]
    heats: dict[str, Heat]  # of each arm where there are several, else of the run under ""


def analyse(directory: Path) -> Analysed:
    """Fold a run directory's files, whatever state they were left in, into its report.

    Raises MachineError if it is no run directory.
    """
    reader = RunReader(directory)
    found = load_run.read(reader)
    slow_after_ns = reader.manifest.get("settings", {}).get("slow_after_ns", 0)
    fold = ProbeFold(found.streams, found.identities, slow_after_ns)
    heats = _heat_folds(found, reader.manifest, slow_after_ns)
    streams, t0s_ns = measuring(found.streams), _t0s_ns(found.cycles)
    windows = Windows(t0s_ns, streams, found.identities, found.paces)
    if found.folded is not None:
        try:
            fold.restore(found.folded["probes"])
            windows.restore(found.folded.get("windows", {}))
        except DAMAGED_COUNTS as error:
            raise unreadable(directory / FOLDED, error) from error
    for block in found.blocks:
        fold.add(block.records, block.names)
        windows.add(block.records, block.names)
        for heat in heats.values():
            heat.add(block.records, block.names)
    report = summary.summarise(
        _title(directory, reader.manifest),
        reader.manifest,
        found.cycles,
        fold.probes(),
        found.queries.queries(),
        windows=windows.clusters(),
        lost=found.lost,
        noted=found.noted,
    )
    return Analysed(report, found.cycles, {arm: heat.heat() for arm, heat in heats.items()})


def _heat_folds(
    found: load_run.StoredRun, manifest: dict[str, Any], slow_after_ns: int
) -> dict[str, HeatFold]:
    """One for each arm: rows of different arms would be no picture of anything."""
    arms = manifest.get("arms") or {}
    cells = {name: set(arm["cells"]) for name, arm in arms.items()} if len(arms) > 1 else {"": None}
    return {
        name: HeatFold(
            [c for c in found.cycles if own is None or c.cell in own],
            [s for s in found.streams if own is None or s.cell in own],
            found.identities,
            slow_after_ns,
        )
        for name, own in cells.items()
    }


def _t0s_ns(cycles: list[Cycle]) -> dict[str, list[int]]:
    """When something was taken away, by cell."""
    found: dict[str, list[int]] = {}
    for cycle in cycles:
        if cycle.outcome != CycleOutcome.SKIPPED:
            found.setdefault(cycle.cell, []).append(cycle.t0_ns)
    return found


def _title(directory: Path, manifest: dict[str, Any]) -> str:
    """What a run is called wherever it lies; equal for equal seeds."""
    if "name" in manifest and "run" in manifest:
        return f"{manifest['name']} {manifest['run']}"
    return directory.resolve().name


def write(directory: Path) -> Report:
    """Make report.json, .md and .html and junit.xml from the run directory alone."""
    found = analyse(directory)
    save(found, directory)
    return found.report


def save(found: Analysed, directory: Path) -> None:
    """Put a run's report into its directory."""
    report, texts = found.report, files(RunReader(directory))
    write_whole(directory / "report.json", as_json(report, directory))
    write_whole(directory / "report.md", markdown.render(report, texts))
    write_whole(directory / "junit.xml", junit.render(report))
    flights = _flights(html.worst_cycles(report, found.cycles), directory)
    page = html.render(report, found.cycles, found.heats, flights, texts)
    write_whole(directory / "report.html", page)


def as_json(report: Report, directory: Path) -> str:
    """What is in report.json."""
    reader = RunReader(directory)
    return json.render(report, settings(reader), arm_settings(reader))


def _flights(worst: list[Cycle], directory: Path) -> list[html.Flight]:
    """Cycles with the events around them."""
    around: dict[tuple[str, int], list[AnyEvent]] = {(c.cell, c.cycle): [] for c in worst}
    for event in RunReader(directory).events_of(around) if worst else ():
        around[event.cell, event.cycle].append(event)
    return [
        html.Flight(cycle, around[cycle.cell, cycle.cycle], _record(directory, cycle))
        for cycle in worst
    ]


def _record(directory: Path, cycle: Cycle) -> dict[str, Any]:
    """Its flight record; empty if it has none."""
    return flight_record.read(directory / flight_record.name(cycle))


def side_by_side(report: Report) -> list[str]:
    """The arms of a run beside each other; empty if there is one."""
    return list(arms.lines(report)) if report.arms else []


def exit_code(report: Report) -> Exit:
    return {slo.OK: Exit.OK, slo.FAIL: Exit.FAIL}.get(report.verdict, Exit.UNKNOWN)
