"""The contract of a fault: what we break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from chaosd.plugins.bases import (
    FaultConfig,
)
from chaosd.plugins.proxy import Move
from chaosd.plugins.recording import CycleContext


class Fault(Protocol):
    """What we break."""

    Config: ClassVar[type[FaultConfig]]
    needs: ClassVar[Sequence[type]]  # the abilities that a stage must have
    control: ClassVar[bool]  # True: the proxy has nothing to find, the cycle shows a floor

    def __init__(self, config: Any) -> None: ...

    async def inject(self, stage: Any, cycle: CycleContext) -> None:
        """Break it, calling `cycle.begin` at T0. May be cancelled at any await."""

    async def heal(self, stage: Any, cycle: CycleContext) -> None:
        """Undo what `inject` did, however far it came. Always called, never cancelled."""


@runtime_checkable
class CanForetell(Protocol):
    """A fault that can say beforehand what the proxy will meet, for `chaosd check`."""

    def foretell(self, app_start_s: float, missing_class: str) -> Move:
        """The move, if the app takes this long from being started to listening."""
