"""Let the nameserver answer wrongly, or late, for a while: nothing moves.

What can be wrong is in chaosd/dns/presets.py by name, or is said by `answer` and `delay`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from chaosd.dns.presets import PRESETS
from chaosd.dns.rules import Answer, Rule
from chaosd.history.cycles import CycleKind
from chaosd.history.disturbances import DnsAnswersWrongly
from chaosd.history.events import FaultDns, RestoreDns
from chaosd.plugins.bases import Wait, WindowedFaultConfig
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext
from chaosd.plugins.runtime import CanFaultDns
from chaosd.plugins.timeline import RECORD_TYPES, DnsTrouble, Failure, RecordType
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
        preset: str | None = Field(
            None, description="what is wrong, by its name in docs/dns-faults.md"
        )

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

    def __init__(self, config: Config) -> None:
        self.config = config

    def trouble(self) -> DnsTrouble | None:
        rules = self._rules()
        if len(rules) != 1 or (answer := _failure(rules[0])) is None:
            return None
        record: RecordType | None = None
        if rules[0].qtype is not None:
            record = next((each for each in RECORD_TYPES if each == rules[0].qtype), None)
            if record is None:
                return None
        return DnsTrouble(lasts_s=self.config.window.s, answer=answer, record=record)

    def _rules(self) -> Sequence[Rule]:
        config = self.config
        if config.preset is not None:
            return PRESETS[config.preset].rules
        return (Rule(answer=config.answer, delay_s=config.delay.s, qtype=config.qtype),)

    @asynccontextmanager
    async def disturb(
        self, stage: CanFaultDns, cycle: CycleContext
    ) -> AsyncIterator[DnsAnswersWrongly]:
        config = self.config
        answer, delay_s, qtype = config.answer, config.delay.s, config.qtype
        preset = config.preset
        said = FaultDns(answer=answer, delay_s=delay_s, qtype=qtype, preset=preset)
        rules = self._rules()

        async def undo() -> None:
            async with cycle.deed(RestoreDns()):
                await stage.answer_by([], cycle.label)

        async with undoing(undo):
            async with cycle.deed(said):
                cycle.begin(old=None, new=None)
                await stage.answer_by(rules, cycle.label)
            yield DnsAnswersWrongly(answer=answer, delay_s=delay_s, qtype=qtype, preset=preset)


_CODES = {
    "NXDOMAIN": Failure.NXDOMAIN,
    "SERVFAIL": Failure.SERVFAIL,
    "REFUSED": Failure.REFUSED,
    "NOERROR": Failure.EMPTY,
}


def _failure(rule: Rule) -> Failure | None:
    """The failure that every question of this rule meets, if it is one of those."""
    is_whole = rule.every == 1 and rule.share == 1 and not rule.delay_s
    if not is_whole or rule.name is not None or rule.transport is not None:
        return None
    if rule.answer is not None:
        return None if rule.does else Failure(rule.answer)
    if len(rule.does) != 1:
        return None
    what = dict(rule.does[0].parameters)
    if rule.does[0].kind == "silence":
        return None if what.get("questions") else Failure.SILENCE
    return _CODES.get(str(what.get("rcode"))) if rule.does[0].kind == "code" else None
