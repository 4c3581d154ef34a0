"""Cut an instance of the app off: packets to it vanish, and it lives on."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Literal

from chaosd.faults.impairing import impaired
from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import InstanceImpaired
from chaosd.plugins.bases import WindowedFaultConfig
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanPartition


class Partition:
    """What a switch does that fails, or a rule of a firewall.

    On Docker its container is taken off the network, and Docker's DNS forgets it meanwhile. Locally
    its sockets drop what comes in, and its name stays.
    """

    class Config(WindowedFaultConfig):
        type: Literal["partition"] = "partition"

    needs: ClassVar[tuple[type, ...]] = (CanPartition,)
    kind: ClassVar[CycleKind] = CycleKind.IN_PLACE

    def __init__(self, config: Config) -> None:
        self.config = config

    def disturb(
        self, stage: CanPartition, cycle: CycleContext
    ) -> AbstractAsyncContextManager[InstanceImpaired]:
        # With several replicas it is the one that has served longest.
        return impaired(cycle, stage.app[0], "partition", begin=stage.cut_off, end=stage.rejoin)
