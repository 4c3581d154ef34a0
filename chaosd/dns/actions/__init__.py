"""What can be wrong with an answer: an action is one file here and one line in `KINDS`.

An action has up to three hooks, called in this order. `message` changes the answer as a value,
`wire` its bytes, `deliver` how, when and how often they are sent. An action needs nothing but
dnspython: the forwarder in its container has no more of chaosd.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Any, ClassVar, Literal

import dns.message
import dns.rdata

Way = Literal["usual", "other-port", "other-address", "reset", "close"]
Transport = Literal["udp", "tcp"]


@dataclass(slots=True)
class Sending:
    """Bytes on their way to who asked.

    `way`: from the nameserver's own socket, from another one, or no bytes but the connection's end.
    `chunks`: over TCP, how many bytes are written at once (0: all) and the pause between them.
    """

    wire: bytes
    delay_s: float = 0.0
    way: Way = "usual"
    chunk: int = 0
    pause_s: float = 0.0
    framed: bool = True  # over TCP: with its length before it


@dataclass(slots=True)
class Question:
    """What an action knows of the question that is answered."""

    message: dns.message.Message
    transport: Transport
    asked: int  # how many questions the rule has selected, this one included: from 1
    since_s: float  # since the rule is in force
    rng: Random
    previous: Sequence[dns.rdata.Rdata] = ()  # what the name had before its last change


class Action:
    """Does nothing. The fields of a subclass are its parameters, each with a default."""

    kind: ClassVar[str]

    def message(self, response: dns.message.Message, question: Question) -> None:
        """Change the answer."""

    def wire(self, wire: bytes, question: Question) -> bytes:
        """Change its bytes."""
        return wire

    def deliver(self, sendings: list[Sending], question: Question) -> list[Sending]:
        """Change how it is sent; an empty list: not at all."""
        return sendings


def kinds() -> Mapping[str, type[Action]]:
    """Every action by its name."""
    from chaosd.dns.actions.addresses import Addresses
    from chaosd.dns.actions.alias import Alias
    from chaosd.dns.actions.bytes import Bytes
    from chaosd.dns.actions.closed import Closed
    from chaosd.dns.actions.code import Code
    from chaosd.dns.actions.header import Header
    from chaosd.dns.actions.lateness import Lateness
    from chaosd.dns.actions.records import Records
    from chaosd.dns.actions.repeat import Repeat
    from chaosd.dns.actions.sender import Sender
    from chaosd.dns.actions.services import Services
    from chaosd.dns.actions.silence import Silence
    from chaosd.dns.actions.stream import Stream
    from chaosd.dns.actions.truncation import Truncation

    found = (
        *(Addresses, Alias, Bytes, Closed, Code, Header, Lateness, Records, Repeat, Sender),
        *(Services, Silence, Stream, Truncation),
    )
    return {action.kind: action for action in found}


def make(kind: str, parameters: Mapping[str, Any]) -> Action:
    """An action with these parameters. Raises ValueError for what it does not have."""
    known = kinds()
    if kind not in known:
        raise ValueError(f"no action `{kind}` (there are {', '.join(known)})")
    action = known[kind]
    names = [each.name for each in fields(action)]  # type: ignore[arg-type]
    if unknown := [name for name in parameters if name not in names]:
        raise ValueError(f"`{kind}` has no `{unknown[0]}` (it has {', '.join(names) or 'nothing'})")
    return action(**parameters)
