"""Answers that come more than once, or after the next one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from chaosd.dns.actions import Action, Question, Sending


@dataclass(frozen=True, slots=True)
class Repeat(Action):
    """The answer comes `times` times, `apart` seconds between. `held`: every other one waits so
    many seconds, so that the answer to a later question comes before it.
    """

    kind: ClassVar[str] = "repeat"
    times: int = 2
    apart: float = 0.0
    held: float = 0.0

    def deliver(self, sendings: list[Sending], question: Question) -> list[Sending]:
        if self.held and question.asked % 2:
            for sending in sendings:
                sending.delay_s += self.held
        return [
            replace(sending, delay_s=sending.delay_s + number * self.apart)
            for sending in sendings
            for number in range(self.times)
        ]
