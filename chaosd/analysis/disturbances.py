"""From a cycle's events to what its faults did to the world, and when."""

from __future__ import annotations

from collections.abc import Iterable

from chaosd.history.codec import disturbance_words
from chaosd.history.cycles import DisturbanceSpan
from chaosd.history.events import AnyEvent, DisturbanceBegan, DisturbanceEnded, only


def spans(events: Iterable[AnyEvent], t0_ns: int, end_ns: int) -> tuple[DisturbanceSpan, ...]:
    """One for each disturbance, in the order in which they began.

    What was undone after the end of the observation lasted for all of it.
    """
    known = list(events)
    ended_ns = {e.what.fault: e.at_ns for e in only(known, DisturbanceEnded) if e.at_ns <= end_ns}
    found = []
    for began in sorted(only(known, DisturbanceBegan), key=lambda event: event.at_ns):
        word, data = disturbance_words(began.what.disturbance)
        at_ns = ended_ns.get(began.what.fault)
        found.append(
            DisturbanceSpan(
                fault=began.what.fault,
                type=word,
                began_s=(began.at_ns - t0_ns) / 1e9,
                ended_s=None if at_ns is None else (at_ns - t0_ns) / 1e9,
                data=dict(data),
            )
        )
    return tuple(found)
