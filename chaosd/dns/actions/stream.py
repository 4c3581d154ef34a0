"""What goes wrong with a TCP connection to a nameserver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from chaosd.dns.actions import Action, Question, Sending

Manner = Literal["reset", "close", "cut", "split", "dribble", "silent"]
_DRIBBLE_S = 0.01


@dataclass(frozen=True, slots=True)
class Stream(Action):
    """After a question over TCP.

    reset, close: the connection ends, without an answer. cut: half of the answer comes, then the
    end. split: the length comes by itself, the rest later. dribble: a byte at a time. silent: the
    connection stays, and nothing comes.
    """

    kind: ClassVar[str] = "stream"
    manner: Manner = "reset"

    def deliver(self, sendings: list[Sending], question: Question) -> list[Sending]:
        if question.transport != "tcp" or not sendings:
            return sendings
        first = sendings[0]
        match self.manner:
            case "silent":
                return []
            case "reset" | "close" as way:
                return [replace(first, wire=b"", way=way)]
            case "cut":
                framed = len(first.wire).to_bytes(2) + first.wire
                half = framed[: len(framed) // 2]
                return [
                    replace(first, wire=half, framed=False),
                    replace(first, wire=b"", way="close"),
                ]
            case "split":
                size = len(first.wire).to_bytes(2)
                later_s = first.delay_s + _DRIBBLE_S
                return [
                    replace(first, wire=size, framed=False),
                    replace(first, framed=False, delay_s=later_s),
                ]
            case "dribble":
                return [replace(first, chunk=1, pause_s=_DRIBBLE_S)]
