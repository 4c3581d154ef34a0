"""Let the nameserver answer wrongly, or late, for a while: nothing moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from chaosd.dns.rules import Answer, Rule
from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import DnsAnswersWrongly
from chaosd.history.events import FaultDns, RestoreDns
from chaosd.plugins.bases import Wait, WindowedFaultConfig
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanFaultDns
from chaosd.units import Duration


class Dns:
    """What a nameserver does that is restarted, overloaded, or wrong about one record type."""

    class Config(WindowedFaultConfig):
        type: Literal["dns"] = "dns"
        answer: Answer | None = Field(
            None, description="how every question is answered; not set: as usual, after `delay`"
        )
        delay: Wait = Field(Duration(0), description="how long each answer is held back")
        qtype: Literal["A", "AAAA"] | None = Field(
            None, description="only questions for this record type; not set: all"
        )

        @model_validator(mode="after")
        def _does_something(self) -> Self:
            if self.answer is None and not self.delay:
                raise ValueError("does nothing (say `answer: servfail` or `delay: 300ms`)")
            return self

    needs: ClassVar[tuple[type, ...]] = (CanFaultDns,)
    kind: ClassVar[CycleKind] = CycleKind.DNS

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(
        self, stage: CanFaultDns, cycle: CycleContext
    ) -> AsyncIterator[DnsAnswersWrongly]:
        config = self.config
        answer, delay_s, qtype = config.answer, config.delay.s, config.qtype

        async def undo() -> None:
            async with cycle.deed(RestoreDns()):
                await stage.answer_by([], cycle.label)

        async with undoing(undo):
            async with cycle.deed(FaultDns(answer=answer, delay_s=delay_s, qtype=qtype)):
                cycle.begin(old=None, new=None)
                rule = Rule(answer=answer, delay_s=delay_s, qtype=qtype)
                await stage.answer_by([rule], cycle.label)
            yield DnsAnswersWrongly(answer=answer, delay_s=delay_s, qtype=qtype)
