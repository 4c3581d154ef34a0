"""Who listens while a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chaosd.history.cycles import Cycle
from chaosd.history.events import AnyEvent
from chaosd.history.values import Sample


class Sink(Protocol):
    """Never called concurrently and never awaited: do nothing slow here."""

    def samples(self, batch: Sequence[Sample]) -> None:
        """Probes that have ended, in the order in which they ended within each stream's batch."""

    def event(self, event: AnyEvent) -> None:
        """An action's edge or a reading, at once."""

    def cycle(self, cycle: Cycle) -> None:
        """A finished cycle."""

    def ready(self) -> None:
        """Every cell is up and answers steadily: the plan begins."""

    def tick(self) -> None:
        """A second has passed: write out what is held, draw anew what is shown."""

    def close(self) -> None:
        """The run is over; whatever is still held is written out."""
