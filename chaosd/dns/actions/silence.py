"""No answer at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaosd.dns.actions import Action, Question, Sending


@dataclass(frozen=True, slots=True)
class Silence(Action):
    """The answer is dropped; only the first `questions` of them if it is not 0."""

    kind: ClassVar[str] = "silence"
    questions: int = 0

    def deliver(self, sendings: list[Sending], question: Question) -> list[Sending]:
        return [] if not self.questions or question.asked <= self.questions else sendings
