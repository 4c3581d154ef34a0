"""Let an instance of the app take requests and never answer them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Literal

from chaosd.faults.impairing import impaired
from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import InstanceImpaired
from chaosd.plugins.bases import WindowedFaultConfig
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanHang


class Hang:
    """What a deadlock does, or a pool of workers that all wait for a database.

    Other than after a pause, requests of that time are never answered.
    """

    class Config(WindowedFaultConfig):
        type: Literal["hang"] = "hang"

    needs: ClassVar[tuple[type, ...]] = (CanHang,)
    kind: ClassVar[CycleKind] = CycleKind.IN_PLACE

    def __init__(self, config: Config) -> None:
        self.config = config

    def disturb(
        self, stage: CanHang, cycle: CycleContext
    ) -> AbstractAsyncContextManager[InstanceImpaired]:
        # With several replicas it is the one that has served longest.
        return impaired(cycle, stage.app[0], "hang", begin=stage.hang, end=stage.unhang)
