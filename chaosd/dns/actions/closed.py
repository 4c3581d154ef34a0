"""A port that nobody listens on: the kernel says so to who asks (ICMP, or a reset)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaosd.dns.actions import Action, Question, Sending


@dataclass(frozen=True, slots=True)
class Closed(Action):
    """The server closes the nameserver's port while such a rule is in force; nothing comes."""

    kind: ClassVar[str] = "closed"

    def deliver(self, sendings: list[Sending], question: Question) -> list[Sending]:
        return []  # of a question that came just before
