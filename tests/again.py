"""Every finished cycle measured anew, from its events and samples alone: online is offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chaosd.analysis import phases
from chaosd.analysis.recovery import Identities, Settings, measure
from chaosd.history.events import Cycle, Event, Reading
from chaosd.history.reader import RunReader


def recompute(directory: Path) -> Iterator[Cycle]:
    """What comes out equals cycles.jsonl, but for the skipped ones, of which there is nothing."""
    reader = RunReader(directory)
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
