"""A DNS fault of somebody else's: for a while the nameserver fails for IPv6 addresses only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal

from chaosd.dns.rules import Rule
from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import DnsAnswersWrongly
from chaosd.history.deeds import FaultDns, RestoreDns
from chaosd.plugins.bases import WindowedFaultConfig
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanFaultDns


class ServfailAaaa:
    """What a broken resolver does when it handles A and forgets AAAA."""

    class Config(WindowedFaultConfig):
        type: Literal["servfail-aaaa"] = "servfail-aaaa"

    needs: ClassVar[tuple[type, ...]] = (CanFaultDns,)
    kind: ClassVar[CycleKind] = CycleKind.DNS

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(
        self, stage: CanFaultDns, cycle: CycleContext
    ) -> AsyncIterator[DnsAnswersWrongly]:
        rule = Rule(qtype="AAAA", answer="servfail")

        async def undo() -> None:
            async with cycle.deed(RestoreDns()):
                await stage.answer_by([], cycle.label)

        async with undoing(undo):
            async with cycle.deed(FaultDns(qtype="AAAA", answer="servfail")):
                cycle.begin(old=None, new=None)
                await stage.answer_by([rule], cycle.label)
            yield DnsAnswersWrongly(qtype="AAAA", answer="servfail")
