"""Report in; text, Markdown, HTML, JSON, JUnit out; and from a run directory to its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from json import loads
from pathlib import Path
from typing import Any, NamedTuple

from chaosd import flight
from chaosd.analysis import phases, slo, summary
from chaosd.analysis.heat import Heat, HeatFold
from chaosd.analysis.recovery import STOPPED, Identities, Settings, measure
from chaosd.analysis.samples import ProbeFold, measuring
from chaosd.analysis.summary import Report
from chaosd.errors import Exit, MachineError
from chaosd.events import Cycle, Event, Reading
from chaosd.report import html, json, junit, markdown
from chaosd.report.settings import files, settings
from chaosd.report.text import closing_lines, sentence
from chaosd.sinks.reader import RunReader
from chaosd.sinks.store import write_whole

__all__ = ["analyse", "closing_lines", "exit_code", "recompute", "save", "sentence", "write"]

FOREVER_NS = 2**63 - 1


class Analysed(NamedTuple):
    """A run's report, and what its pictures are made of."""

    report: Report
    cycles: list[Cycle]
    heat: Heat


def analyse(directory: Path) -> Analysed:
    """Fold a run directory's files, whatever state they were left in, into its report.

    Raises MachineError if it is no run directory.
    """
    reader = RunReader(directory)
    cycles = list(reader.cycles())
    # In this order: whoever answered a sample that is stored has been told of before.
    blocks, before = reader.blocks(), reader.folded()
    streams: dict[int, Reading] = {}  # told again where a file of events begins
    counts = summary.QueryFold()
    identities: dict[str, set[str]] = {}
    open_: dict[str, Reading] = {}  # the cycle that has begun and not ended, by cell
    for event in reader.events("stream", "instance", "queries", "begin", "end"):
        if not isinstance(event, Reading):
            continue
        if event.what == "stream":
            streams[event.data["stream"]] = event
        elif event.what == "queries":
            counts.add(event)
        elif event.what == "begin":
            open_[event.cell] = event
        elif event.what == "end":
            open_.pop(event.cell, None)
        else:
            identities.setdefault(event.cell, set()).add(event.data["identity"])
    cycles += _unfinished(reader, open_, measuring(streams.values()), identities)
    slow_after_ns = reader.manifest.get("settings", {}).get("slow_after_ns", 0)
    fold = ProbeFold(list(streams.values()), identities, slow_after_ns)
    if before is not None:
        fold.restore(before["probes"])
    heat = HeatFold(cycles, list(streams.values()), identities, slow_after_ns)
    for block in blocks:
        fold.add(block.records, block.names)
        heat.add(block.records, block.names)
    report = summary.summarise(
        _title(directory, reader.manifest),
        reader.manifest,
        cycles,
        fold.probes(),
        counts.queries(),
    )
    return Analysed(report, cycles, heat.heat())


def _unfinished(
    reader: RunReader,
    begins: Mapping[str, Reading],
    streams: Mapping[str, int],
    known: Mapping[str, Iterable[str]],
) -> Iterator[Cycle]:
    """The cycles that were under way when the run was killed, or still are.

    Like those that are cut off by a stop: if there was no recovery yet, it takes longer than that.
    """
    if not begins or "settings" not in reader.manifest:
        return
    settings = Settings(**reader.manifest["settings"])
    for cell, begin in begins.items():
        samples = reader.samples(streams[cell], begin.at_ns - settings.lookback_ns, FOREVER_NS)
        if not samples or samples[-1].scheduled_ns < begin.at_ns:
            continue
        # What was sent later may have been answered, and the answer not been stored.
        end = replace(
            begin,
            at_ns=samples[-1].scheduled_ns + 1,
            what="end",
            data={"invalid": f"{STOPPED} in the middle of it"},
        )
        identities = Identities()
        for identity in known.get(cell, ()):
            identities.add(identity)
        events = [*reader.events_of([(cell, begin.cycle)]), end]
        yield measure(events, samples, identities, settings=settings, stream=streams[cell])


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
    report, reader = found.report, RunReader(directory)
    texts = files(reader)
    write_whole(directory / "report.json", json.render(report, settings(reader)))
    write_whole(directory / "report.md", markdown.render(report, texts))
    write_whole(directory / "junit.xml", junit.render(report))
    page = html.render(report, found.cycles, found.heat, _flights(found.cycles, directory), texts)
    write_whole(directory / "report.html", page)


def _flights(cycles: list[Cycle], directory: Path) -> list[html.Flight]:
    """The worst cycles, with the events around them."""
    worst = html.worst(cycles)
    around: dict[tuple[str, int], list[Event]] = {(c.cell, c.cycle): [] for c in worst}
    for event in RunReader(directory).events_of(around) if worst else ():
        around[event.cell, event.cycle].append(event)
    return [
        html.Flight(cycle, around[cycle.cell, cycle.cycle], _record(directory, cycle))
        for cycle in worst
    ]


def _record(directory: Path, cycle: Cycle) -> dict[str, Any]:
    """Its flight record; empty if it has none."""
    try:
        found: dict[str, Any] = loads((directory / flight.name(cycle)).read_text())
    except (OSError, ValueError):
        return {}
    return found


def exit_code(report: Report) -> Exit:
    return {slo.OK: Exit.OK, slo.FAIL: Exit.FAIL}.get(report.verdict, Exit.UNKNOWN)


def recompute(directory: Path) -> Iterator[Cycle]:
    """Measure every finished cycle anew, from its events and samples alone.

    What comes out equals cycles.jsonl, where the skipped ones, of which there is nothing to
    measure, are between. Raises MachineError if it is no run directory.
    """
    reader = RunReader(directory)
    if "settings" not in reader.manifest:
        raise MachineError(
            f"{directory / 'run.json'}: no settings, so nothing can be measured anew"
        )
    settings = Settings(**reader.manifest["settings"])
    cells: dict[str, _Cell] = {}
    for event in reader.events():
        cell = cells.setdefault(event.cell, _Cell())
        cell.add(event)
        if isinstance(event, Reading) and (event.source, event.what) == ("engine", "end"):
            yield cell.measure(reader, settings, event)


class _Cell:
    """What is known of a cell at some place in its events."""

    def __init__(self) -> None:
        self._identities = Identities()
        self._streams: dict[str, int] = {}  # the first of each way
        self._events: list[Event] = []  # of the cycle that goes on

    def add(self, event: Event) -> None:
        self._identities.event(event)
        if isinstance(event, Reading) and event.what == "stream":
            self._streams.setdefault(event.data["via"], event.data["stream"])
        if event.cycle:
            if self._events and self._events[0].cycle != event.cycle:
                self._events.clear()
            self._events.append(event)

    def measure(self, reader: RunReader, settings: Settings, end: Reading) -> Cycle:
        begin = phases.reading(self._events, "engine", "begin")
        t0_ns = end.at_ns if begin is None else begin.at_ns
        samples = [
            sample
            for stream in self._streams.values()
            for sample in reader.samples(stream, t0_ns - settings.lookback_ns, end.at_ns)
        ]
        return measure(
            self._events,
            samples,
            self._identities,
            settings=settings,
            stream=self._streams["proxy"],
            direct=self._streams.get("direct"),
        )
