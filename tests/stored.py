"""Events as other programs read them in events.jsonl: by their stored names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from chaosd.history.codec import decode_event, encode_event
from chaosd.history.events import AnyEvent


class Line(NamedTuple):
    """A line of events.jsonl; what a deed or a reading lacks is empty."""

    at_ns: int
    cell: str
    cycle: int
    source: str = ""
    what: str = ""
    error_ns: int = 0
    verb: str = ""
    edge: str = ""
    data: Any = None


def line(event: AnyEvent) -> Line:
    value = json.loads(encode_event(event))
    value.pop("kind")
    return Line(**value)


def lines(events: Iterable[AnyEvent]) -> list[Line]:
    return [line(event) for event in events]


def event(at_ns: int, cell: str, cycle: int, **said: Any) -> AnyEvent:
    """The event that such a line stands for; `verb` and `edge`, or `source` and `what`."""
    kind = "action" if "verb" in said else "reading"
    whole = {"kind": kind, "at_ns": at_ns, "cell": cell, "cycle": cycle, "data": {}, **said}
    return decode_event(json.dumps(whole))
