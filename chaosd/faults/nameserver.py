"""Let the nameserver go to another address for a while, of which nobody tells the proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from chaosd.dns.rules import Rule
from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import FaultDns, RestoreDns
from chaosd.history.disturbances import DnsAnswersWrongly
from chaosd.plugins.bases import WindowedFaultConfig
from chaosd.plugins.dns_trouble import ForetellsTrouble
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanMoveNameserver

MOVED = "moved"


class Nameserver(ForetellsTrouble):
    """What a DNS pod does that is rescheduled: its old address refuses, and it answers elsewhere.

    A proxy that has its address in its configuration does not find it. Alone users may notice
    nothing; in the middle of a move (`with:`) they wait until it is back, or until a reload.
    """

    class Config(WindowedFaultConfig):
        type: Literal["nameserver"] = "nameserver"

    needs: ClassVar[tuple[type, ...]] = (CanMoveNameserver,)
    kind: ClassVar[CycleKind] = CycleKind.DNS

    config: Config
    rules = (Rule(answer="drop"),)  # a closed port: nothing comes back

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(
        self, stage: CanMoveNameserver, cycle: CycleContext
    ) -> AsyncIterator[DnsAnswersWrongly]:
        async def undo() -> None:
            async with cycle.deed(RestoreDns()):
                await stage.move_nameserver(away=False)

        async with undoing(undo):
            async with cycle.deed(FaultDns(answer="drop", preset=MOVED)):
                cycle.begin(old=None, new=None)
                await stage.move_nameserver(away=True)
            yield DnsAnswersWrongly(answer="drop", preset=MOVED)
