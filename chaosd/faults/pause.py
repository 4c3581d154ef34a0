"""Freeze an instance of the app: it takes connections and says nothing, until it goes on."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Literal

from chaosd.faults.impairing import impaired
from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import InstanceImpaired
from chaosd.plugins.bases import WindowedFaultConfig
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanPause


class Pause:
    """What a long garbage collection does, a machine that is moved alive, or a debugger.

    Its kernel still takes connections and what is sent on them, so a check that only connects sees
    nothing. When the instance goes on it answers all that waited, however late.
    """

    class Config(WindowedFaultConfig):
        type: Literal["pause"] = "pause"

    needs: ClassVar[tuple[type, ...]] = (CanPause,)
    kind: ClassVar[CycleKind] = CycleKind.IN_PLACE

    def __init__(self, config: Config) -> None:
        self.config = config

    def disturb(
        self, stage: CanPause, cycle: CycleContext
    ) -> AbstractAsyncContextManager[InstanceImpaired]:
        # With several replicas it is the one that has served longest.
        return impaired(cycle, stage.app[0], "pause", begin=stage.pause, end=stage.resume)
