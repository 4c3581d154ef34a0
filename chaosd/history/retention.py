"""What a run of months keeps of its first days: its cycles, and counts instead of raw data.

Samples older than `runs.keep_raw` become what the report says of probes in total: outcomes, and
each one's lateness to the microsecond. A chunk is in the counts or in its own file, never in both:
the counts name the last chunk that is in them.

Events are in two files, each of which spans as much as is kept; when the newer one does, the older
one goes. What of all that came before a file is needed to understand what follows stands at its
beginning once more: the streams, the latest instances, and the nameserver's counts.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from chaosd.history.events import (
    AnyEvent,
    Event,
    FaultBegan,
    InstancePlaced,
    QueriesCounted,
    StreamOpened,
    StreamPaced,
)
from chaosd.history.reader import FOLDED, chunk_number, folded, load, parquet_chunks
from chaosd.history.writer import CHUNK_AGE_NS, write_whole

INSTANCES_MIN = 128  # of a cell: the latest, however old they are
LATE_NS = 600_000_000_000  # a sample may be in a later chunk than its neighbours, if it took long
LATE_CHUNKS = 4  # a chunk lasts an hour, and is folded when a later one is closed


class Knowledge(NamedTuple):
    """What explains samples: the streams, who belongs to the app, and when it was taken away."""

    streams: list[StreamOpened]
    identities: dict[str, set[str]]  # by cell
    t0s_ns: dict[str, list[int]]  # by cell
    paced: list[tuple[int, StreamPaced]]  # since when each stream asks how densely


class Counts(Protocol):
    """What samples become that are not kept: counts of them, which analysis knows to make."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what was counted before."""

    def add(self, records: Any, names: Sequence[str]) -> None:
        """Count a block of stored records."""

    def state(self, open_from_ns: int) -> dict[str, Any]:
        """What was counted so far, for JSON; after this instant there may be more to come."""


class Retention:
    """Folds and removes the chunks of a run directory that are old enough.

    `counts` makes the empty counts, given what explains samples.
    """

    def __init__(
        self, directory: Path, keep_ns: int, counts: Callable[[Knowledge], Counts]
    ) -> None:
        self._directory = directory
        self._keep_ns = keep_ns
        self._counts = counts
        self._streams: list[Event[StreamOpened]] = []
        self._queries: dict[
            str, list[Event[QueriesCounted]]
        ] = {}  # the first and the last, by cell
        self._instances: dict[str, deque[Event[InstancePlaced]]] = {}  # by cell
        self._t0s: dict[str, deque[int]] = {}  # by cell: those that samples which are kept may need
        self._paced: dict[int, deque[Event[StreamPaced]]] = {}  # by stream, the same

    @property
    def span_ns(self) -> int:
        """Of one file of events: all samples that have not become counts yet lie within it."""
        return self._keep_ns + LATE_CHUNKS * CHUNK_AGE_NS

    def event(self, event: AnyEvent) -> None:
        """Take note of who belongs to the app, of which probes there are, and of the counts."""
        match event.what:
            case StreamOpened() as opened:
                self._streams.append(event.saying(opened))
            case QueriesCounted() as counted:
                last = event.saying(counted)
                self._queries[event.cell] = [self._queries.get(event.cell, [last])[0], last]
            case InstancePlaced() as expected:
                self._add_instance(event.saying(expected))
            case FaultBegan():
                t0s = self._t0s.setdefault(event.cell, deque())
                t0s.append(event.at_ns)
                while len(t0s) > 1 and t0s[1] < event.at_ns - self.span_ns:
                    t0s.popleft()
            case StreamPaced(stream=stream) as change:
                paced = self._paced.setdefault(stream, deque())
                paced.append(event.saying(change))
                while len(paced) > 1 and paced[1].at_ns < event.at_ns - self.span_ns:
                    paced.popleft()

    def _add_instance(self, event: Event[InstancePlaced]) -> None:
        instances = self._instances.setdefault(event.cell, deque())
        instances.append(event)
        # The oldest ones went long before the samples that are still there.
        while (
            len(instances) > INSTANCES_MIN
            and instances[INSTANCES_MIN].at_ns < event.at_ns - self.span_ns
        ):
            instances.popleft()

    def known(self) -> Knowledge:
        """What is known now, for a thread."""
        identities = {
            cell: {instance.what.identity for instance in instances}
            for cell, instances in self._instances.items()
        }
        t0s_ns = {cell: list(t0s) for cell, t0s in self._t0s.items()}
        paced = [(event.at_ns, event.what) for event in chain(*self._paced.values())]
        return Knowledge([event.what for event in self._streams], identities, t0s_ns, paced)

    def head(self) -> list[AnyEvent]:
        """What a new file of events begins with."""
        latest = [list(instances)[-INSTANCES_MIN:] for instances in self._instances.values()]
        again: list[AnyEvent] = [*self._streams, *chain(*latest), *chain(*self._queries.values())]
        again += [paced[-1] for paced in self._paced.values()]
        return [replace(event, cycle=0) for event in again]  # they are no part of any that goes on

    def apply(self, newest_ns: int, known: Knowledge) -> None:
        """Fold what is older than the newest by more than is kept. Raises MachineError."""
        for path, last_ns in parquet_chunks(self._directory):
            if last_ns > newest_ns - self._keep_ns:
                return
            before = folded(self._directory)
            counts = self._counts(known)
            if before is not None:
                counts.restore(before)
            for block in load(path):
                counts.add(block.records, block.names)
            state: dict[str, Any] = {"through": chunk_number(path)}
            state |= counts.state(last_ns - LATE_NS) | {"until_ns": last_ns}
            write_whole(self._directory / FOLDED, json.dumps(state, separators=(",", ":")) + "\n")
            path.unlink()
