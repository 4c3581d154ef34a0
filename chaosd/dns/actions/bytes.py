"""Damaged bytes: cut, followed by others, random, too many, or with names that have no end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from chaosd.dns.actions import Action, Question

_HEADER_SIZE = 12
Name = Literal["as-usual", "loop", "forward", "long-label"]


@dataclass(frozen=True, slots=True)
class Bytes(Action):
    """What becomes of an answer's bytes.

    `cut`: only this share of them is left. `trailing`: so many zeros after them. `noise`: what
    follows the header is random. `at_least`: padded by random bytes up to this size, beyond any
    payload that was asked for. `name`: the first name of the answer points to itself (loop), to
    behind itself (forward), or has a label of 80 bytes (long-label).
    """

    kind: ClassVar[str] = "bytes"
    cut: float = 1.0
    trailing: int = 0
    noise: bool = False
    at_least: int = 0
    name: Name = "as-usual"

    def wire(self, wire: bytes, question: Question) -> bytes:
        if self.name != "as-usual":
            wire = self._renamed(wire)
        if self.noise:
            wire = wire[:_HEADER_SIZE] + question.rng.randbytes(max(1, len(wire) - _HEADER_SIZE))
        wire += b"\0" * self.trailing
        if len(wire) < self.at_least:
            wire += question.rng.randbytes(self.at_least - len(wire))
        return wire[: max(1, round(len(wire) * self.cut))]

    def _renamed(self, wire: bytes) -> bytes:
        """The owner of the first record is a pointer of two bytes, behind the question."""
        ends = wire.find(b"\0", _HEADER_SIZE)
        at = ends + 5
        if ends < 0 or at + 2 > len(wire):
            return wire
        owner = {
            "loop": (0xC000 | at).to_bytes(2),
            "forward": (0xC000 | (at + 2)).to_bytes(2),
            "long-label": bytes([80]) + b"a" * 80 + b"\0",
        }[self.name]
        return wire[:at] + owner + wire[at + 2 :]
