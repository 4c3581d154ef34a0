"""An answer that says that it is not all, or that is bigger than was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import dns.flags
import dns.message

from chaosd.dns.actions import Action, Question


@dataclass(frozen=True, slots=True)
class Truncation(Action):
    """The TC flag is set over UDP; the records are `kept`, or left out."""

    kind: ClassVar[str] = "truncation"
    kept: bool = False

    def message(self, response: dns.message.Message, question: Question) -> None:
        if question.transport != "udp":
            return
        response.flags |= dns.flags.TC
        if not self.kept:
            response.answer, response.additional = [], []
