"""Every finished cycle measured anew, from its events and samples alone: online is offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chaosd.analysis.recovery import Identities, Settings, measure
from chaosd.history.cycles import Cycle
from chaosd.history.events import AnyEvent, CycleEnded, FaultBegan, StreamOpened, earliest
from chaosd.history.reader import RunReader
from chaosd.report.load_run import settings_of


def recompute(directory: Path) -> Iterator[Cycle]:
    """What comes out equals cycles.jsonl, but for the skipped ones, of which there is nothing."""
    reader = RunReader(directory)
    cells: dict[str, _Cell] = {}
    for event in reader.events():
        cell = cells.setdefault(event.cell, _Cell())
        cell.add(event)
        if isinstance(event.what, CycleEnded):
            yield cell.measure(reader, settings_of(reader, event.cell), event)


class _Cell:
    """What is known of a cell at some place in its events."""

    def __init__(self) -> None:
        self._identities = Identities()
        self._streams: dict[str, int] = {}  # the first of each way
        self._events: list[AnyEvent] = []  # of the cycle that goes on

    def add(self, event: AnyEvent) -> None:
        self._identities.event(event)
        if isinstance(event.what, StreamOpened):
            self._streams.setdefault(event.what.via, event.what.stream)
        if event.cycle:
            if self._events and self._events[0].cycle != event.cycle:
                self._events.clear()
            self._events.append(event)

    def measure(self, reader: RunReader, settings: Settings, end: AnyEvent) -> Cycle:
        begin = earliest(self._events, FaultBegan)
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
