"""Break nothing: the control that shows the meter's own floor, and the template for a new fault."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal

from chaosd.history.cycles import CycleKind
from chaosd.plugins.bases import FaultConfig
from chaosd.plugins.recording import CycleContext


class Noop:
    """A cycle in which nothing happens.

    What it measures is chaosd itself: its recovery should be about one probe interval and its
    failed requests none. Whatever else it shows would be in every other cycle too.
    """

    class Config(FaultConfig):
        type: Literal["noop"] = "noop"

    needs: ClassVar[tuple[type, ...]] = ()
    kind: ClassVar[CycleKind] = CycleKind.CONTROL

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(self, stage: Any, cycle: CycleContext) -> AsyncIterator[None]:
        cycle.begin(old=None, new=None)
        yield  # the app is observed here; nothing was done, so nothing is undone
