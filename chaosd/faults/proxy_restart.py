"""Restart the proxy: its process ends, with all connections, and another is started."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import RenewProxy
from chaosd.history.disturbances import ProxyRenewed
from chaosd.plugins.bases import FaultConfig
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanRestartProxy


class ProxyRestart:
    """What a package's upgrade does, or a crash that somebody mends at once.

    As for a reload, `state_file` says whether it knows its servers again when it is back.
    """

    class Config(FaultConfig):
        type: Literal["proxy-restart"] = "proxy-restart"

    needs: ClassVar[tuple[type, ...]] = (CanRestartProxy,)
    kind: ClassVar[CycleKind] = CycleKind.IN_PLACE

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(
        self, stage: CanRestartProxy, cycle: CycleContext
    ) -> AsyncIterator[ProxyRenewed]:
        async with cycle.deed(RenewProxy(how="restart")):
            cycle.begin(old=None, new=None)
            await stage.restart_proxy()
        yield ProxyRenewed(how="restart")  # another process runs: there is nothing to undo
