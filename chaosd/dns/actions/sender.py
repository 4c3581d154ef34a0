"""Answers from somewhere else than where the question went; over UDP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from chaosd.dns.actions import Action, Question, Sending


@dataclass(frozen=True, slots=True)
class Sender(Action):
    """It comes from another `way`; `races`: and the true one, so many seconds later."""

    kind: ClassVar[str] = "sender"
    way: Literal["other-port", "other-address"] = "other-port"
    races: float | None = None

    def deliver(self, sendings: list[Sending], question: Question) -> list[Sending]:
        if question.transport != "udp":
            return sendings
        strange = [replace(sending, way=self.way) for sending in sendings]
        if self.races is None:
            return strange
        true = [replace(s, delay_s=s.delay_s + self.races) for s in sendings]
        return [*strange, *true]
