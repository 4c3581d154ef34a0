"""Old samples, folded into counts: what a run of months keeps of its first days.

Cycles and events stay as they are. Of the samples, those older than `runs.keep_samples` become what
the report says of probes in total: outcomes, and each one's lateness to the microsecond. A chunk is
in the counts or in its own file, never in both: the counts name the last chunk that is in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaosd.analysis.summary import ProbeFold
from chaosd.events import Event, Reading
from chaosd.sinks.reader import FOLDED, chunk_number, folded, load, parquet_chunks
from chaosd.sinks.store import write_whole


class Retention:
    """Folds and removes the chunks of a run directory that are old enough."""

    def __init__(self, directory: Path, keep_ns: int, slow_after_ns: int) -> None:
        self._directory = directory
        self._keep_ns = keep_ns
        self._slow_after_ns = slow_after_ns
        self._streams: list[Reading] = []
        self._identities: dict[str, set[str]] = {}

    def event(self, event: Event) -> None:
        """Take note of who belongs to the app, and of which probes there are."""
        if not isinstance(event, Reading):
            return
        if event.what == "stream":
            self._streams.append(event)
        elif event.what == "instance":
            self._identities.setdefault(event.cell, set()).add(event.data["identity"])

    def known(self) -> tuple[list[Reading], dict[str, set[str]]]:
        """What is known now, for a thread."""
        identities = {cell: set(names) for cell, names in self._identities.items()}
        return list(self._streams), identities

    def apply(self, newest_ns: int, known: tuple[list[Reading], Mapping[str, set[str]]]) -> None:
        """Fold what is older than the newest by more than is kept. Raises MachineError."""
        for path, last_ns in parquet_chunks(self._directory):
            if last_ns > newest_ns - self._keep_ns:
                return
            before = folded(self._directory)
            fold = ProbeFold(*known, self._slow_after_ns)
            if before is not None:
                fold.restore(before["probes"])
            for block in load(path):
                fold.add(block.records, block.names)
            state: dict[str, Any] = {"through": chunk_number(path), "probes": fold.state()}
            state["until_ns"] = last_ns
            write_whole(self._directory / FOLDED, json.dumps(state, separators=(",", ":")) + "\n")
            path.unlink()
