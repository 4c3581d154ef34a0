"""Where a recovery's seconds went: its edges, the phases between them, and the move as it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, NamedTuple, TypeVar

from chaosd.history.cycles import PHASES, PHASES_OF_NODES
from chaosd.history.deeds import Asked, Done, HoldAddress, ImpairInstance, RenewProxy, SwitchName
from chaosd.history.disturbances import AppRolled, AppScaled
from chaosd.history.events import (
    AnyEvent,
    DisturbanceBegan,
    Event,
    FaultBegan,
    InstanceListening,
    InstancePlaced,
    InstanceReachable,
    InstanceRetired,
    NameKnown,
    NamePublished,
    NameWithdrawn,
    ServerChange,
    ServerChanged,
    Teller,
    earliest,
    only,
)
from chaosd.history.values import RETIRED, Outcome, Sample, rounded_ns
from chaosd.plugins import timeline
from chaosd.plugins.timeline import Timeline

# The log says things when they happen, the API when it is asked: the log goes first.
TELLERS = (Teller.LOG, Teller.API)
LEFT = (ServerChange.DOWN, ServerChange.MAINT)
Named = TypeVar("Named", NamePublished, NameKnown)
Lifecycle = TypeVar("Lifecycle", InstanceListening, InstanceReachable)


class Edges(NamedTuple):
    """The instants between the phases; None where nobody told."""

    serving_ns: int | None  # the new instance accepts connections, and answers well
    published_ns: int | None  # the name answers the new IP
    switched_ns: int | None  # the proxy has the new IP
    usable_ns: int | None  # the proxy holds the server there for usable
    error_ns: int = 0  # of the one that is known worst
    # The first node's nameserver answers the new IP, where each has its own.
    announced_ns: int | None = None


def first_answer_ns(
    samples: Iterable[Sample], stream: int | None, identity: str | None
) -> int | None:
    """When this instance first answered well on this stream."""
    return min(
        (
            s.scheduled_ns + rounded_ns(s.done_ns - s.scheduled_ns)
            for s in samples
            if s.stream == stream and s.outcome == Outcome.OK and s.who == identity
        ),
        default=None,
    )


class DirectAnswers(NamedTuple):
    """What the new instance itself answered, past the proxy."""

    well_ns: int | None = None  # its first good answer
    was_unwell: bool = False  # it answered before that, and not well


def direct_answers(
    samples: Iterable[Sample], stream: int | None, identity: str | None
) -> DirectAnswers:
    """What this instance answered on the stream past the proxy."""
    of_stream = [s for s in samples if s.stream == stream and s.who == identity]
    well_ns = first_answer_ns(of_stream, stream, identity)
    bad = [s.done_ns for s in of_stream if s.outcome == Outcome.HTTP_ERROR]
    return DirectAnswers(well_ns, well_ns is not None and min(bad, default=well_ns) < well_ns)


def begun(events: Iterable[AnyEvent]) -> Event[FaultBegan] | None:
    """How the cycle began, with the new instance's address; None if it never began.

    Mostly that is not known at T0: InstancePlaced says it once it is, and under which identity it
    answers if that is not the one that was expected.
    """
    begin = earliest(events, FaultBegan)
    if begin is None or begin.what.new is None or begin.what.new_ip is not None:
        return begin
    for placed in only(events, InstancePlaced):
        there = placed.what
        if (there.expected or there.identity) == begin.what.new:
            return begin.saying(replace(begin.what, new=there.identity, new_ip=there.ip))
    return begin


def edges(
    events: Sequence[AnyEvent],
    begin: Event[FaultBegan],
    *,
    recovered_ns: int | None,
    direct: DirectAnswers,
) -> Edges:
    """What the world said of the way to the new instance.

    It serves since it listens, as the runtime says; since its first good answer to the direct probe
    where the runtime says nothing, or where it listened and was not well.
    """
    fault = begin.what
    listening = _of_instance(events, InstanceListening, fault.new)
    published = _published(events, fault.old_ip, fault.new_ip) if fault.new_ip else None
    announced = _announced(events, fault.old_ip, fault.new_ip) if fault.new_ip else None
    moved = _switch(events, fault.new_ip) if fault.new_ip else None
    if moved is None and stays(fault):
        moved = _stayed(events, begin)
    usable = _usable(events, begin.at_ns, moved, recovered_ns) if moved else None
    known: list[Event[Any]] = [
        said for said in (listening, announced, published, moved, usable) if said is not None
    ]
    return Edges(
        serving_ns=direct.well_ns if listening is None or direct.was_unwell else listening.at_ns,
        published_ns=published.at_ns if published else None,
        announced_ns=announced.at_ns if announced else None,
        switched_ns=moved.at_ns if moved else None,
        usable_ns=usable.at_ns if usable else None,
        error_ns=max((said.error_ns for said in known), default=0),
    )


def phases(
    t0_ns: int, edges: Edges, recovered_ns: int | None, stable_ns: int | None
) -> dict[str, float | None]:
    """The seconds of each phase, `replace_s` to `settle_s`.

    Each edge counts as the latest of itself and those before it, and as no later than the recovery,
    so that the known phases before `settle` add up to the recovery. A phase with an unknown edge at
    either side is unknown. There is a `gossip_s` only where each node has its own nameserver: from
    when the first one answered the new address until the proxy's did.
    """
    ends: list[int | None] = []
    latest_ns = t0_ns
    names = [edges.published_ns]
    if has_gossip := edges.announced_ns is not None:
        names.insert(0, edges.announced_ns)
    for edge_ns in (edges.serving_ns, *names, edges.switched_ns, edges.usable_ns, recovered_ns):
        if edge_ns is not None:
            latest_ns = max(latest_ns, edge_ns)
            if recovered_ns is not None:
                latest_ns = min(latest_ns, recovered_ns)
        ends.append(None if edge_ns is None else latest_ns)
    ends.append(stable_ns)
    starts = [t0_ns, *ends]
    told = PHASES_OF_NODES if has_gossip else PHASES
    return {
        f"{phase}_s": None if start is None or end is None else (end - start) / 1e9
        for phase, start, end in zip(told, starts, ends, strict=False)
    }


def is_plain_move(events: Iterable[AnyEvent], samples: Iterable[Sample]) -> bool:
    """Whether one instance moved, and nothing else happened that a proxy's model does not know.

    It knows requests over fresh connections: kept ones may go to the old instance (`reused`).
    """
    known = list(events)
    begin = begun(known)
    if begin is None or reused(known, begin, samples):
        return False
    deeds = [e.what.deed for e in only(known, Asked)]
    disturbances = [e.what.disturbance for e in only(known, DisturbanceBegan)]
    return not any(isinstance(deed, ImpairInstance | RenewProxy) for deed in deeds) and not any(
        isinstance(each, AppScaled | AppRolled) for each in disturbances
    )


def move(
    events: Sequence[AnyEvent],
    *,
    missing_class: str,
    dns_s: float,
    samples: Iterable[Sample] = (),
    direct: int | None = None,
) -> Timeline:
    """The move as the proxy met it, for its prediction. Needs the cycle's `begin`.

    `missing_class` is how a missing name was answered if no event tells, `dns_s` how long an answer
    takes, `direct` the stream past the proxy.
    """
    begin = begun(events)
    if begin is None:
        raise ValueError("a cycle that never began has no move")
    fault = begin.what
    answered = direct_answers(samples, direct, fault.new)
    edge = edges(events, begin, recovered_ns=None, direct=answered)
    reachable = _of_instance(events, InstanceReachable, fault.new)
    # A name that is withdrawn while others still answer for it is not missing.
    missing = [
        said.at_ns
        for said in only(events, NameWithdrawn)
        if not said.what.ips and said.at_ns >= begin.at_ns
    ]
    manner, held_s = _held(events, begin)
    # Once the old instance's address was gone from the answers, was there any but the new one's?
    gone = {fault.old_ip, fault.new_ip}
    left = [
        said
        for said in only(events, NamePublished)
        if said.at_ns >= begin.at_ns and fault.old_ip not in said.what.ips
    ]
    others = max((len(set(said.what.ips) - gone) for said in left), default=0)
    gone_ns = min((said.at_ns for said in left), default=begin.at_ns)
    return timeline.move(
        published_s=_after(begin.at_ns, edge.published_ns),
        listening_s=_after(begin.at_ns, edge.serving_ns),
        missing_s=_after(begin.at_ns, min(missing, default=None)),
        missing=_missing_class(events) or missing_class,
        old_ip=manner,
        held_s=held_s,
        others=others,
        gone_s=(gone_ns - begin.at_ns) / 1e9,
        took_s=dns_s,
        reachable_s=_after(begin.at_ns, reachable.at_ns if reachable is not None else None),
    )


def _held(events: Iterable[AnyEvent], begin: Event[FaultBegan]) -> tuple[str, float]:
    """What was found at the old address in the end, and until when it refused, as on loopback.

    Elsewhere nobody refuses where there is no host, and a black hole begins at once.
    """
    deeds = [e.what.deed for e in only(events, Asked)]
    asked = [deed for deed in deeds if isinstance(deed, HoldAddress)]
    if any(isinstance(deed, SwitchName) for deed in deeds):
        return "imposter", 0.0  # the old instance answers there all the same
    if not asked:
        return "vacant", 0.0
    manner, old_ip = asked[0].manner, begin.what.old_ip
    done = [e.at_ns for e in only(events, Done) if isinstance(e.what.deed, HoldAddress)]
    if manner in ("refuse", "vacant") or old_ip is None or not ip_address(old_ip).is_loopback:
        return manner, 0.0
    return manner, max(0, min(done, default=begin.at_ns) - begin.at_ns) / 1e9


def _missing_class(events: Iterable[AnyEvent]) -> str | None:
    """How a missing name is answered, where the runtime has found that out."""
    return next((e.what.missing for e in only(events, NameWithdrawn) if e.what.missing), None)


def _after(t0_ns: int, at_ns: int | None) -> float | None:
    return None if at_ns is None else max(0, at_ns - t0_ns) / 1e9


def _at_ns(event: Event[Any]) -> int:
    return event.at_ns


def _of_instance(
    events: Iterable[AnyEvent], kind: type[Lifecycle], identity: str | None
) -> Event[Lifecycle] | None:
    found = [e for e in only(events, kind) if e.what.identity == identity]
    return min(found, key=_at_ns, default=None)


def _published(
    events: Iterable[AnyEvent], old_ip: str | None, new_ip: str | None
) -> Event[NamePublished] | None:
    """When the name answered the new IP and no longer the old one.

    As long as the old one is among the answers, a proxy may well stay there.
    """
    return _first_alone(only(events, NamePublished), old_ip, new_ip)


def _announced(
    events: Iterable[AnyEvent], old_ip: str | None, new_ip: str | None
) -> Event[NameKnown] | None:
    """The same of the first node to know; None where there is one nameserver for all."""
    return _first_alone(only(events, NameKnown), old_ip, new_ip)


def _first_alone(
    said: Iterable[Event[Named]], old_ip: str | None, new_ip: str | None
) -> Event[Named] | None:
    found = [e for e in said if new_ip in e.what.ips]
    alone = [e for e in found if old_ip not in e.what.ips]
    return min(alone or found, key=_at_ns, default=None)


def _server_changes(
    events: Iterable[AnyEvent], tellers: Sequence[Teller], changes: Sequence[ServerChange]
) -> list[Event[ServerChanged]]:
    return [
        e
        for e in only(events, ServerChanged)
        if e.what.told_by in tellers and e.what.change in changes
    ]


def _switch(events: Iterable[AnyEvent], new_ip: str | None) -> Event[ServerChanged] | None:
    """When the proxy took the new IP, as its log says, or else as its API showed."""
    for teller in TELLERS:
        found = _server_changes(events, (teller,), (ServerChange.ADDRESS,))
        if to_new := [e for e in found if e.what.new == new_ip]:
            return min(to_new, key=_at_ns)
    return None


def reused(
    events: Sequence[AnyEvent], begin: Event[FaultBegan], samples: Iterable[Sample]
) -> int | None:
    """How many requests went to a retired instance after the proxy had the new one's address.

    None: there was no retired one, or nobody told when the proxy took the new address.
    """
    retired = {e.what.identity + RETIRED for e in only(events, InstanceRetired)}
    moved = _switch(events, begin.what.new_ip) if retired else None
    if moved is None:
        return None
    return sum(s.who in retired and s.scheduled_ns >= moved.at_ns for s in samples)


def stays(fault: FaultBegan) -> bool:
    """Whether the instance comes back at the address that it had."""
    return fault.new_ip is not None and fault.new_ip == fault.old_ip


def _stayed(events: Iterable[AnyEvent], begin: Event[FaultBegan]) -> Event[ServerChanged] | None:
    """The proxy has the address all the time; None if it is unknown which server that is.

    Unless it has put the server into maintenance: then it forgets the address, and takes it anew.
    """
    left = _server_changes(events, TELLERS, LEFT)
    servers = {e.what.server for e in left if e.at_ns >= begin.at_ns} or {""}
    if len(servers) > 1:
        return None
    kept = ServerChanged(
        told_by=Teller.LOG, change=ServerChange.ADDRESS, server=servers.pop(), new=begin.what.new_ip
    )
    return Event(at_ns=begin.at_ns, cell=begin.cell, cycle=begin.cycle, what=kept)


def _usable(
    events: Iterable[AnyEvent],
    t0_ns: int,
    moved: Event[ServerChanged],
    recovered_ns: int | None,
) -> Event[ServerChanged] | None:
    """The switch, or when the server came back from its last absence before the recovery.

    None if it went away and nobody told of its return.
    """
    for teller in TELLERS:
        said = [
            e
            for e in _server_changes(events, (teller,), (*LEFT, ServerChange.UP))
            if e.at_ns >= t0_ns and e.what.server == moved.what.server
        ]
        left = [
            e.at_ns
            for e in said
            if e.what.change in LEFT and (recovered_ns is None or e.at_ns <= recovered_ns)
        ]
        if left:
            came_back = [e for e in said if e.what.change not in LEFT and e.at_ns >= max(left)]
            first = min(came_back, key=_at_ns, default=None)
            return first and max(moved, first, key=_at_ns)
        if said:
            break  # the log told of this server, and not that it was away
    return moved
