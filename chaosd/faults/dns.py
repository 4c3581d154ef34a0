"""Let the nameserver answer wrongly, or late, for a while: nothing moves.

What can be wrong is in chaosd/dns/presets.py by name, or is said by `answer` and `delay`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from chaosd.dns.presets import PRESETS
from chaosd.dns.rules import Answer
from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import FaultDns, RestoreDns
from chaosd.history.disturbances import DnsAnswersWrongly
from chaosd.plugins.bases import Wait, WindowedFaultConfig
from chaosd.plugins.dns_trouble import ForetellsTrouble, rules_of
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanFaultDns
from chaosd.units import Duration


class Dns(ForetellsTrouble):
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
        preset: str | None = Field(
            None, description="what is wrong, by its name in docs/dns-faults.md"
        )

        nameserver: int | None = Field(
            None, ge=1, description="only this one of `dns.nameservers`, from 1; not set: all"
        )

        @property
        def nameservers_min(self) -> int:
            """How many nameservers there have to be at least."""
            if self.nameserver is not None:
                return self.nameserver
            rules = PRESETS[self.preset].rules if self.preset is not None else ()
            return 2 if any(rule.nameserver is not None for rule in rules) else 1

        @model_validator(mode="after")
        def _does_something(self) -> Self:
            said = self.answer is not None or self.delay or self.qtype is not None
            if self.preset is None and self.answer is None and not self.delay:
                raise ValueError(
                    "does nothing (say `preset: coredns-restart`, `answer: servfail` or "
                    "`delay: 300ms`)"
                )
            if self.preset is not None and said:
                raise ValueError("`preset` says it all: leave `answer`, `delay` and `qtype` out")
            if self.preset is not None and self.preset not in PRESETS:
                near = get_close_matches(self.preset, PRESETS, n=3)
                hint = f"did you mean {' or '.join(near)}?" if near else "see docs/dns-faults.md"
                raise ValueError(f"there is no preset `{self.preset}` ({hint})")
            return self

    needs: ClassVar[tuple[type, ...]] = (CanFaultDns,)
    kind: ClassVar[CycleKind] = CycleKind.DNS
    config: Config

    def __init__(self, config: Config) -> None:
        self.config = config
        self.rules = rules_of(
            preset=config.preset,
            answer=config.answer,
            delay_s=config.delay.s,
            qtype=config.qtype,
            nameserver=config.nameserver,
        )

    @asynccontextmanager
    async def disturb(
        self, stage: CanFaultDns, cycle: CycleContext
    ) -> AsyncIterator[DnsAnswersWrongly]:
        config = self.config
        answer, delay_s, qtype = config.answer, config.delay.s, config.qtype
        preset, nameserver = config.preset, config.nameserver
        said = FaultDns(
            answer=answer, delay_s=delay_s, qtype=qtype, preset=preset, nameserver=nameserver
        )

        rules = [replace(rule, seed=cycle.chance) for rule in self.rules]

        async def undo() -> None:
            async with cycle.deed(RestoreDns()):
                await stage.answer_by([], cycle.label)

        async with undoing(undo):
            async with cycle.deed(said):
                cycle.begin(old=None, new=None)
                await stage.answer_by(rules, cycle.label)
            yield DnsAnswersWrongly(
                answer=answer, delay_s=delay_s, qtype=qtype, preset=preset, nameserver=nameserver
            )
