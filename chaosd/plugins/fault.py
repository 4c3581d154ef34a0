"""The contract of a fault: what we break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from chaosd.plugins.bases import FaultConfig
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.timeline import Timeline


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known before a run of the world in which a fault will happen; in seconds."""

    app_start_s: float  # from an instance's start until it listens
    missing: str  # how a name without an address is answered; "stale": as before
    others: bool  # several instances answer for the name
    answer_s: float  # how long the nameserver takes, beyond a round trip
    stop_s: float  # from T0 until the old instance is gone and its address is held
    publish_s: float  # from an instance's start until the name answers its address
    reach_s: float | None  # … until its host answers ARP; None: as soon as it is published


@runtime_checkable
class CanForetell(Protocol):
    """A fault that can say beforehand what the proxy will meet, for `chaosd check`."""

    def foretell(self, circumstances: Circumstances) -> Timeline:
        """What the proxy meets, as far as that is known before a run."""
