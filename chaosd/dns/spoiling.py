"""Applies the actions of rules to an answer: from a message to what is sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from random import Random

import dns.exception
import dns.message
import dns.rdata

from chaosd.dns.actions import Action, Question, Sending, Transport, make
from chaosd.dns.rules import Does, Wrong

_PAYLOAD_MIN = 512  # what every client takes
_TCP_MAX = 0xFFFF
_SECOND_NS = 1_000_000_000


def spoil(
    query: dns.message.Message,
    response: dns.message.Message | None,
    transport: Transport,
    wrong: Wrong,
    *,
    now_ns: int,
    previous: Sequence[dns.rdata.Rdata] = (),
) -> list[Sending]:
    """What is sent for this response, none if it is None or an action drops it."""
    if response is None:
        return []
    actions = [_action(does) for does in wrong.does]
    question = Question(
        message=query,
        transport=transport,
        asked=wrong.asked,
        since_s=max(0, now_ns - wrong.since_ns) / _SECOND_NS,
        rng=Random(wrong.seed),  # noqa: S311 - repeatable is the point
        previous=previous,
    )
    for action in actions:
        action.message(response, question)
    limit = max(query.payload, _PAYLOAD_MIN) if transport == "udp" else _TCP_MAX
    wire = response.to_wire(max_size=limit, prefer_truncation=True)
    for action in actions:
        wire = action.wire(wire, question)
    sendings = [Sending(wire=wire)]
    for action in actions:
        sendings = action.deliver(sendings, question)
    return sendings


@lru_cache(maxsize=256)
def _action(does: Does) -> Action:
    return make(does.kind, dict(does.parameters))
