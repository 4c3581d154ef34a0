"""Break nothing: the control that shows the meter's own floor, and the template for a new fault."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

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
    control: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    async def inject(self, stage: Any, cycle: CycleContext) -> None:
        cycle.begin(old=None, new=None)

    async def heal(self, stage: Any, cycle: CycleContext) -> None:
        """Nothing was done, so nothing is undone."""
