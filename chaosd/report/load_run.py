"""What a run directory knows, whatever state it was left in: its cycles, and what explains samples.

A run may go on while it is read, and may have been killed: then its last cycles have no line yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from chaosd.analysis import consistency
from chaosd.analysis.recovery import SECOND_NS, Identities, Settings, measure
from chaosd.analysis.remarks import Remark, RemarkKind
from chaosd.analysis.samples import FOREVER_NS, Paces, measuring
from chaosd.analysis.summary import QueryFold
from chaosd.history.causes import Cause, CauseKind
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import (
    AnyEvent,
    CycleEnded,
    Disturbed,
    Event,
    FaultBegan,
    FaultInjected,
    InstancePlaced,
    LogRefused,
    QueriesCounted,
    StrangersAsked,
    StreamOpened,
    StreamPaced,
    earliest,
)
from chaosd.history.reader import Block, RunReader, unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run, up to some instant. `blocks` of samples can be gone through once."""

    cycles: list[Cycle]  # those that were going on, too
    blocks: Iterator[Block]
    folded: dict[str, Any] | None  # the counts of samples that are not kept any more
    streams: list[StreamOpened]
    paces: Paces
    identities: dict[str, set[str]]  # the app's, by cell
    queries: QueryFold
    lost: list[Remark]  # what must have been stored and is not there
    noted: list[Remark]  # what else events say of a cell


def read(reader: RunReader) -> StoredRun:
    """Read it all but the samples. Raises MachineError."""
    cycles = list(reader.cycles())
    # In this order: the events name an instance before a stored sample is answered by it.
    blocks, folded = reader.blocks(), reader.folded()
    streams: dict[int, StreamOpened] = {}  # told again where a file of events begins
    queries = QueryFold()
    identities: dict[str, set[str]] = {}
    lines = {(cycle.cell, cycle.cycle) for cycle in cycles}
    # Those that have begun and have no line yet: when, and when they ended if they did.
    begun: dict[tuple[str, int], tuple[Event[FaultBegan], Event[CycleEnded] | None]] = {}
    ended: dict[str, int] = {}  # the last one, by cell
    paced: list[tuple[int, StreamPaced]] = []
    refused: dict[str, LogRefused] = {}  # the last one, by cell
    strangers: dict[str, StrangersAsked] = {}
    whats = ("stream", "paced", "instance", "queries", "begin", "end", "refused", "strangers")
    for event in reader.events(*whats):
        key = event.cell, event.cycle
        match event.what:
            case StreamOpened() as opened:
                streams[opened.stream] = opened
            case StreamPaced() as change:
                paced.append((event.at_ns, change))
            case QueriesCounted(count=count):
                queries.add(event.cell, event.at_ns, count)
            case FaultBegan() as fault if key not in lines:
                begun[key] = event.saying(fault), None
            case CycleEnded() as end:
                ended[event.cell] = event.cycle
                if key in begun:
                    begun[key] = begun[key][0], event.saying(end)
            case LogRefused() as refusal:
                refused[event.cell] = refusal
            case StrangersAsked() as asked:
                strangers[event.cell] = asked
            case InstancePlaced(identity=identity):
                identities.setdefault(event.cell, set()).add(identity)
    lost = [*_lost_events(cycles, ended), *consistency.contradictions(cycles)]
    cycles += _unfinished(reader, begun, measuring(streams.values()), identities)
    return StoredRun(
        cycles=cycles,
        blocks=blocks,
        folded=folded,
        streams=list(streams.values()),
        paces=Paces(streams.values(), paced),
        identities=identities,
        queries=queries,
        lost=lost,
        noted=[
            Remark(kind=RemarkKind.LOG_REFUSED, cell=cell, count=lines.count, detail=lines.sender)
            for cell, lines in refused.items()
        ]
        + [
            Remark(kind=RemarkKind.STRANGERS, cell=cell, count=asked.count, detail=asked.sender)
            for cell, asked in strangers.items()
        ],
    )


def _lost_events(cycles: Iterable[Cycle], ended: Mapping[str, int]) -> Iterator[Remark]:
    """A cycle's end is stored before its line, so the last of each cell must be there."""
    last = {c.cell: c.cycle for c in cycles if c.outcome != CycleOutcome.SKIPPED}
    for cell, number in last.items():
        if ended.get(cell, 0) < number:
            yield Remark(kind=RemarkKind.LOST_EVENTS, cell=cell, count=number)


def _unfinished(
    reader: RunReader,
    begun: Mapping[tuple[str, int], tuple[Event[FaultBegan], Event[CycleEnded] | None]],
    streams: Mapping[str, int],
    known: Mapping[str, set[str]],
) -> Iterator[Cycle]:
    """The cycles that were under way when the run was killed, or still are.

    Like those that are cut off by a stop: if there was no recovery yet, it takes longer than that.
    One of which all samples had been stored is measured as it is, though nobody wrote it down.
    """
    if not begun or "settings" not in reader.manifest:
        return
    for (cell, number), (begin, end) in begun.items():
        if cell not in streams:  # nobody knows which samples are its own
            continue
        settings = settings_of(reader, cell)
        samples = reader.samples(streams[cell], begin.at_ns - settings.lookback_ns, FOREVER_NS)
        if not samples or samples[-1].scheduled_ns < begin.at_ns:
            continue
        identities = Identities()
        for identity in known.get(cell, ()):
            identities.add(identity)
        events = [e for e in reader.events_of([(cell, number)]) if not _is_end(e)]
        measured = partial(
            measure, samples=samples, identities=identities, settings=settings, stream=streams[cell]
        )
        last_ns = samples[-1].scheduled_ns
        if end is not None and end.at_ns <= last_ns + settings.interval_ns:
            yield measured([*events, end])
            continue
        spoilt = next((e.what.cause for e in events if isinstance(e.what, Disturbed)), None)
        last = CycleEnded(fault=begin.what.fault, unix=begin.what.t0_unix, cause=spoilt)
        over = Event(at_ns=last_ns + 1, cell=cell, cycle=number, what=last)
        whole = measured([*events, over])
        if spoilt is not None:
            yield whole
            continue
        over_ns = _over_ns(whole, begin, events, settings)
        if over_ns is None or over_ns > over.at_ns:
            # What was sent later may have been answered, and the answer not been stored.
            cut = replace(last, cause=Cause(kind=CauseKind.STOPPED))
            yield measured([*events, over.saying(cut)])
            continue
        yield replace(whole, end_ns=over_ns)


def _over_ns(
    cycle: Cycle, begin: Event[FaultBegan], events: Iterable[AnyEvent], settings: Settings
) -> int | None:
    """When its observation is over; None while it is not stable, or its fault is not all done."""
    if cycle.stable_recovery_s is None:
        return None
    calm_ns = begin.at_ns + round(cycle.stable_recovery_s * SECOND_NS)
    if begin.what.waits:
        injected = earliest(events, FaultInjected)
        if injected is None:
            return None
        calm_ns = max(calm_ns, injected.at_ns)
    return calm_ns + settings.stable_for_ns


def settings_of(reader: RunReader, cell: str) -> Settings:
    """What a cell's cycles are measured with: its arm's settings, perhaps of another version.

    Raises MachineError if they are not whole.
    """
    manifest = reader.manifest
    arms = manifest.get("arms", {}).values()
    arm: Mapping[str, Any] = next((arm for arm in arms if cell in arm["cells"]), {})
    stored = arm.get("settings", manifest.get("settings", {}))
    kept = {f.name: stored[f.name] for f in fields(Settings) if f.name in stored}
    try:
        return Settings(**kept)
    except TypeError:
        error = ValueError(f"the settings of cell {cell} are not whole")
        raise unreadable(reader.directory / "run.json", error) from None


def _is_end(event: AnyEvent) -> bool:
    return isinstance(event.what, CycleEnded)
