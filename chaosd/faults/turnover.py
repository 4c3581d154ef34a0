"""What faults have in common that start some instances of the app and stop others."""

from __future__ import annotations

from chaosd.history.deeds import StartInstance, StopInstance
from chaosd.history.values import Instance
from chaosd.plugins.bases import EndingFaultConfig
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanMove


class Turnover:
    """Starts and stops instances: T0 is right before the first of these deeds."""

    def __init__(
        self,
        stage: CanMove,
        cycle: CycleContext,
        config: EndingFaultConfig,
        *,
        old: Instance | None,
        new: str | None,
    ) -> None:
        """`old` is the last that goes, `new` the last that comes: None where there is none."""
        self._stage, self._cycle, self._config = stage, cycle, config
        self._old, self._new = old, new

    def begin(self) -> None:
        """Declare T0, if it was not before."""
        if self._cycle.began_ns is None:
            self._cycle.begin(old=self._old, new=self._new, lasts=True)

    async def start(self, identity: str) -> None:
        """Expect this instance from now on, start it, and wait until it is ready."""
        self._cycle.expect(identity)
        async with self._cycle.deed(StartInstance(identity=identity)):
            self.begin()
            new = await self._stage.start(identity)
        await self._stage.ready(new)

    async def stop(self, instance: Instance) -> None:
        """Stop an instance, as the config says."""
        who, (ip, _) = instance
        signal = self._config.signal
        async with self._cycle.deed(StopInstance(identity=who, ip=ip, signal=signal)):
            self.begin()
            await self._stage.stop(instance, signal, self._config.grace.s)
