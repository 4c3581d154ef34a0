"""The simple case: a timeline that is one instance's move to a new address, in a dozen numbers.

The closed forms go by these. What is not such a move is said so, by a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chaosd.plugins.timeline import (
    Failure,
    Meets,
    NameEdge,
    RecordType,
    Timeline,
    Unreached,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A backend's move as the proxy meets it; seconds after T0."""

    old: str
    new: str
    others: tuple[str, ...]  # other instances that answer for the name all the time
    published_s: float  # the name answers the new address, and no longer the old one
    listening_s: float  # the new instance accepts connections
    missing_s: float | None  # the name began to be missing; None if it never was
    missing: Failure  # how it is answered then
    old_ip: Meets  # what is found at the old address in the end
    held_s: float  # until then, it refuses
    took_s: float  # how long the nameserver takes for an answer, beyond a round trip
    reachable_s: float | None  # the new host answers ARP; None: as soon as it is published

    def later(self, by_s: float) -> Move:
        """The same, with all that happens so much later."""

        def after(at_s: float | None) -> float | None:
            return None if at_s is None else at_s + by_s

        return replace(
            self,
            published_s=self.published_s + by_s,
            listening_s=self.listening_s + by_s,
            held_s=self.held_s + by_s,
            missing_s=after(self.missing_s),
            reachable_s=after(self.reachable_s),
        )


@dataclass(frozen=True, slots=True)
class _Name:
    """What becomes of a name."""

    old: str
    new: str
    others: tuple[str, ...]
    published_s: float
    missing_s: float | None
    missing: Failure


def recognise(timeline: Timeline, prefers: RecordType) -> Move | Unreached:
    """The move that this timeline is, for a proxy that asks for this record type first.

    DNS trouble that came with it makes it no other move.
    """
    timeline = timeline.undisturbed or timeline
    if timeline.proxy:
        return Unreached.PROXY_CHANGES
    if timeline.nameservers > 1 or any(edge.nameserver is not None for edge in timeline.names):
        return Unreached.SEVERAL_NAMESERVERS
    if not all(edge.is_plain for edge in timeline.names):
        return Unreached.OTHER_TIMELINE
    took_s = {edge.took_s for edge in timeline.names}
    name = _name(timeline.names_of("A"))
    if isinstance(name, Unreached):
        return name
    if len(took_s) > 1 or not _is_plain(timeline, prefers):
        return Unreached.OTHER_TIMELINE
    places = timeline.places_of(name.new)
    listens = [place for place in places if place.meets == Meets.LISTENING]
    if not listens:
        return Unreached.NOT_LISTENING
    until = [place for place in places if place.at_s < listens[0].at_s]
    unreachable = [place.meets == Meets.UNREACHABLE for place in until]
    held = _held(timeline, name.old)
    others = (place.meets for other in name.others for place in timeline.places_of(other))
    if (
        held is None
        or places[-1] != listens[0]
        or {place.meets for place in until} - {Meets.REFUSE, Meets.UNREACHABLE}
        or any(unreachable[1:])
        or {*others} - {Meets.LISTENING}
    ):
        return Unreached.OTHER_TIMELINE
    return Move(
        old=name.old,
        new=name.new,
        others=name.others,
        published_s=name.published_s,
        missing_s=name.missing_s,
        missing=name.missing,
        listening_s=max(0.0, listens[0].at_s),
        old_ip=held[1],
        held_s=held[0],
        took_s=took_s.pop(),
        reachable_s=places[1].at_s if any(unreachable) else None,
    )


def _name(edges: Sequence[NameEdge]) -> _Name | Unreached:
    """One address gives way to one other; in between are the old one, one failure or the others."""
    first = edges[0].answer if edges else Failure.EMPTY
    last = edges[-1].answer if edges else Failure.EMPTY
    if isinstance(first, Failure):
        return Unreached.OTHER_TIMELINE
    if isinstance(last, Failure) or not {*last} - {*first}:
        return Unreached.NO_NEW_ADDRESS
    olds, news = {*first} - {*last}, {*last} - {*first}
    others = tuple(address for address in first if address in last)
    if len(olds) != 1 or len(news) != 1:
        return Unreached.OTHER_TIMELINE
    (old,), (new,) = olds, news
    # From the first answer without the old address on.
    gone = edges[next(place for place, edge in enumerate(edges) if not _has(edge, old)) :]
    failures = {edge.answer for edge in gone if isinstance(edge.answer, Failure)}
    answers = [edge for edge in gone if not isinstance(edge.answer, Failure)]
    published = [edge for edge in answers if new in edge.answer]
    expected = len(failures) <= 1 and not (failures and others)
    waits = len(gone) - len(published)
    if (
        not expected
        or any(old in edge.answer for edge in answers)
        or [*gone[waits:]] != published
        or any(edge.answer != others for edge in answers if edge not in published)
        or any({*edge.answer} != {*last} for edge in published)
    ):
        return Unreached.OTHER_TIMELINE
    missing_s = gone[0].at_s if failures else None
    failure = next((f for f in failures if isinstance(f, Failure)), Failure.EMPTY)
    return _Name(old, new, others, published[0].at_s, missing_s, failure)


def _has(edge: NameEdge, address: str) -> bool:
    return not isinstance(edge.answer, Failure) and address in edge.answer


def _is_plain(timeline: Timeline, prefers: RecordType) -> bool:
    """Whether the other record type changes nothing.

    Any failure of it but silence makes the proxy ask for the A record at once, or ends a resolution
    that found none. Where both fail, the closed forms know only what fails alike.
    """
    for at_s in {edge.at_s for edge in timeline.names}:
        here, other = timeline.answer(at_s, "A"), timeline.answer(at_s, "AAAA")
        if not isinstance(other, Failure):
            return False
        if isinstance(here, Failure) and other != here:
            return False
        if prefers == "AAAA" and other == Failure.SILENCE and other != here:
            return False
    return True


def _held(timeline: Timeline, old: str) -> tuple[float, Meets] | None:
    """When the old address meets what it meets in the end, and what that is."""
    places = timeline.places_of(old)
    meets = [place.meets for place in places]
    if meets[:1] != [Meets.LISTENING] or Meets.LISTENING in meets[1:] or len(places) not in (2, 3):
        return None
    if places[1].at_s != 0 or (len(places) == 3 and meets[1] != Meets.REFUSE):  # noqa: PLR2004
        return None
    return places[-1].at_s, meets[-1]
