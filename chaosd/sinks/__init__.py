"""Who listens while a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chaosd.events import Cycle, Event, Sample


class Sink(Protocol):
    """Never called concurrently and never awaited: do nothing slow here."""

    def samples(self, batch: Sequence[Sample]) -> None:
        """Probes that have ended, in the order in which they ended within each stream's batch."""

    def event(self, event: Event) -> None:
        """An action's edge or a reading, at once."""

    def cycle(self, cycle: Cycle) -> None:
        """A finished cycle."""

    def close(self) -> None:
        """The run is over; whatever is still held is written out."""
