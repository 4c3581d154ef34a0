"""Answers from somewhere else than where the question went; over UDP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

from chaosd.dns.actions import Action, Question, Sending


@dataclass(frozen=True, slots=True)
class Sender(Action):
    """It comes from another `way`; `races`: and the true one, so many seconds later.

    `lie`: of A records, what comes from there says this address. It is a forged answer, so other
    actions do not damage it.
    """

    kind: ClassVar[str] = "sender"
    way: Literal["other-port", "other-address"] = "other-port"
    races: float | None = None
    lie: str | None = None

    def deliver(self, sendings: list[Sending], question: Question) -> list[Sending]:
        if question.transport != "udp":
            return sendings
        strange = [replace(s, way=self.way, wire=self._lied(s.wire, question)) for s in sendings]
        if self.races is None:
            return strange
        true = [replace(s, delay_s=s.delay_s + self.races) for s in sendings]
        return [*strange, *true]

    def _lied(self, wire: bytes, question: Question) -> bytes:
        asked = question.message.question[0]
        if self.lie is None or asked.rdtype != dns.rdatatype.A:
            return wire
        message = dns.message.make_response(question.message)
        message.flags |= dns.flags.AA
        message.answer = [dns.rrset.from_text(asked.name, 0, "IN", "A", self.lie)]
        return message.to_wire()
