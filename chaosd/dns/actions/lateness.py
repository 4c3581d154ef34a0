"""An answer that comes late: by a fixed time, by chance, or by a heavy tail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaosd.dns.actions import Action, Question, Sending

_TAIL = 1.5  # Pareto's alpha: a mean, and no variance
LATE_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Lateness(Action):
    """`seconds` always, up to `jitter` more by chance, and `tail` times a Pareto variable."""

    kind: ClassVar[str] = "lateness"
    seconds: float = 0.0
    jitter: float = 0.0
    tail: float = 0.0

    def deliver(self, sendings: list[Sending], question: Question) -> list[Sending]:
        late_s = self.seconds + self.jitter * question.rng.random()
        if self.tail:
            late_s += self.tail * (question.rng.paretovariate(_TAIL) - 1.0)
        for sending in sendings:
            sending.delay_s += min(late_s, LATE_S_MAX)
        return sendings
