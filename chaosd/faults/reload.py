"""Reload the proxy: another process takes its sockets over, and the old one finishes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import RenewProxy
from chaosd.history.disturbances import ProxyRenewed
from chaosd.plugins.bases import FaultConfig
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanReloadProxy


class Reload:
    """What every change of a configuration does; alone, or in the middle of a move (`with:`).

    With `state_file` of the proxy's part of the config what it knew of its servers is handed over;
    without it the new process has to look all names up before it has a server.
    """

    class Config(FaultConfig):
        type: Literal["reload"] = "reload"

    needs: ClassVar[tuple[type, ...]] = (CanReloadProxy,)
    kind: ClassVar[CycleKind] = CycleKind.IN_PLACE

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(
        self, stage: CanReloadProxy, cycle: CycleContext
    ) -> AsyncIterator[ProxyRenewed]:
        async with cycle.deed(RenewProxy(how="reload")):
            cycle.begin(old=None, new=None)
            await stage.reload_proxy()
        yield ProxyRenewed(how="reload")  # another process runs: there is nothing to undo
