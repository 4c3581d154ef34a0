"""A header that does not fit: wrong id, wrong counts, no answer at all, or two questions."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from chaosd.dns.actions import Action, Question

_HEADER = struct.Struct("!HHHHHH")
_RESPONSE = 0x8000


@dataclass(frozen=True, slots=True)
class Header(Action):
    """`identity` is added to the id. `answers` and `questions` are added to what it says to hold.

    `is_query`: it says to be a query. `question_twice`: the question stands there twice.
    """

    kind: ClassVar[str] = "header"
    identity: int = 0
    answers: int = 0
    questions: int = 0
    is_query: bool = False
    question_twice: bool = False

    def wire(self, wire: bytes, question: Question) -> bytes:
        if len(wire) < _HEADER.size:  # another action has cut it
            return wire
        identity, flags, questions, answers, authority, additional = _HEADER.unpack_from(wire)
        rest = wire[_HEADER.size :]
        if self.question_twice and (ends := rest.find(b"\0")) >= 0:
            # The first question, as long as its name, type and class are.
            rest, questions = rest[: ends + 5] + rest, questions + 1
        return (
            _HEADER.pack(
                (identity + self.identity) & 0xFFFF,
                flags & ~_RESPONSE if self.is_query else flags,
                max(0, questions + self.questions),
                max(0, answers + self.answers),
                authority,
                additional,
            )
            + rest
        )
