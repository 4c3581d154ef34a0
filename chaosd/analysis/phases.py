"""Where a recovery's seconds went: its edges, the phases between them, and the move as it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, NamedTuple

from chaosd.history.events import PHASES, Action, Event, Outcome, Reading, Sample, rounded_ns
from chaosd.plugins import timeline
from chaosd.plugins.timeline import Timeline

# Below, log outranks API: the log says things when they happen, the API when it is asked.
LOG, API = "proxy.log", "proxy.api"
LEFT, CAME_BACK = ("down", "maint"), ("up",)


class Edges(NamedTuple):
    """The instants between the phases; None where nobody told."""

    listening_ns: int | None  # the new instance accepts connections
    published_ns: int | None  # the name answers the new IP
    switched_ns: int | None  # the proxy has the new IP
    usable_ns: int | None  # the proxy holds the server there for usable
    error_ns: int = 0  # of the one that is known worst


def reading(events: Iterable[Event], source: str, what: str) -> Reading | None:
    """The earliest reading of this kind."""
    found = _readings(events, (source,), (what,))
    return min(found, key=_at_ns) if found else None


def first_answer_ns(samples: Iterable[Sample], stream: int | None, identity: str) -> int | None:
    """When this instance first answered well on this stream."""
    return min(
        (
            s.scheduled_ns + rounded_ns(s.done_ns - s.scheduled_ns)
            for s in samples
            if s.stream == stream and s.outcome == Outcome.OK and s.who == identity
        ),
        default=None,
    )


def edges(
    events: Sequence[Event], begin: Reading, *, recovered_ns: int | None, direct_ns: int | None
) -> Edges:
    """What the world said of the way to the new instance.

    `direct_ns` is when it first answered the direct probe: what is known of `listening` where the
    runtime does not tell.
    """
    new, new_ip = begin.data["new"], begin.data["new_ip"]
    listening = _said(events, "app", "listening", identity=new)
    published = _published(events, begin.data["old_ip"], new_ip)
    moved = _switch(events, new_ip)
    if moved is None and stays(begin):
        moved = _stayed(events, begin)
    usable = _usable(events, begin.at_ns, moved, recovered_ns) if moved else None
    known = [said for said in (listening, published, moved, usable) if said is not None]
    return Edges(
        listening_ns=direct_ns if listening is None else listening.at_ns,
        published_ns=published.at_ns if published else None,
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
    either side is unknown.
    """
    ends: list[int | None] = []
    latest_ns = t0_ns
    known = edges.listening_ns, edges.published_ns, edges.switched_ns, edges.usable_ns
    for edge_ns in (*known, recovered_ns):
        if edge_ns is not None:
            latest_ns = max(latest_ns, edge_ns)
            if recovered_ns is not None:
                latest_ns = min(latest_ns, recovered_ns)
        ends.append(None if edge_ns is None else latest_ns)
    ends.append(stable_ns)
    starts = [t0_ns, *ends]
    return {
        f"{phase}_s": None if start is None or end is None else (end - start) / 1e9
        for phase, start, end in zip(PHASES, starts, ends, strict=False)
    }


def move(
    events: Sequence[Event],
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
    begin = reading(events, "engine", "begin")
    if begin is None:
        raise ValueError("a cycle that never began has no move")
    direct_ns = first_answer_ns(samples, direct, begin.data["new"])
    edge = edges(events, begin, recovered_ns=None, direct_ns=direct_ns)
    reachable = _said(events, "app", "reachable", identity=begin.data["new"])
    # A name that is withdrawn while others still answer for it is not missing.
    missing = [
        w.at_ns
        for w in _readings(events, ("dns",), ("withdrawn",))
        if not w.data.get("ips") and w.at_ns >= begin.at_ns
    ]
    manner, held_s = _held(events, begin)
    # Once the old instance's address was gone from the answers, was there any but the new one's?
    gone = {begin.data["old_ip"], begin.data["new_ip"]}
    left = [r for r in _readings(events, ("dns",), ("published",)) if r.at_ns >= begin.at_ns]
    others = any(
        begin.data["old_ip"] not in r.data["ips"] and set(r.data["ips"]) - gone for r in left
    )
    return timeline.move(
        published_s=_after(begin.at_ns, edge.published_ns),
        listening_s=_after(begin.at_ns, edge.listening_ns),
        missing_s=_after(begin.at_ns, min(missing, default=None)),
        missing=_missing_class(events) or missing_class,
        old_ip=manner,
        held_s=held_s,
        others=others,
        took_s=dns_s,
        reachable_s=_after(begin.at_ns, reachable.at_ns if reachable is not None else None),
    )


def _held(events: Iterable[Event], begin: Reading) -> tuple[str, float]:
    """What was found at the old address in the end, and until when it refused, as on loopback.

    Elsewhere nobody refuses where there is no host, and a black hole begins at once.
    """
    held = [e for e in events if isinstance(e, Action) and e.verb == "hold"]
    if not held:
        return "vacant", 0.0
    manner = str(held[0].data["manner"])
    done_ns = min((e.at_ns for e in held if e.edge == "done"), default=begin.at_ns)
    old_ip = begin.data["old_ip"]
    if manner in ("refuse", "vacant") or old_ip is None or not ip_address(old_ip).is_loopback:
        return manner, 0.0
    return manner, max(0, done_ns - begin.at_ns) / 1e9


def _missing_class(events: Iterable[Event]) -> str | None:
    """How a missing name is answered, where the runtime has found that out."""
    said = _readings(events, ("dns",), ("withdrawn",))
    return next((r.data["missing"] for r in said if r.data.get("missing")), None)


def _after(t0_ns: int, at_ns: int | None) -> float | None:
    return None if at_ns is None else max(0, at_ns - t0_ns) / 1e9


def _at_ns(reading: Reading) -> int:
    return reading.at_ns


def _readings(
    events: Iterable[Event], sources: Sequence[str], whats: Sequence[str]
) -> list[Reading]:
    return [e for e in events if isinstance(e, Reading) and e.what in whats and e.source in sources]


def _said(events: Iterable[Event], source: str, what: str, **data: Any) -> Reading | None:
    wanted = data.items()
    found = _readings(events, (source,), (what,))
    return min((r for r in found if wanted <= r.data.items()), key=_at_ns, default=None)


def _published(events: Iterable[Event], old_ip: str | None, new_ip: str) -> Reading | None:
    """When the name answered the new IP and no longer the old one.

    As long as the old one is among the answers, a proxy may well stay there.
    """
    found = [r for r in _readings(events, ("dns",), ("published",)) if new_ip in r.data["ips"]]
    alone = [r for r in found if old_ip not in r.data["ips"]]
    return min(alone or found, key=_at_ns, default=None)


def _switch(events: Iterable[Event], new_ip: str) -> Reading | None:
    """When the proxy took the new IP, as its log says, or else as its API showed."""
    for source in (LOG, API):
        found = _readings(events, (source,), ("address_changed",))
        if to_new := [r for r in found if r.data["new"] == new_ip]:
            return min(to_new, key=_at_ns)
    return None


def stays(begin: Reading) -> bool:
    """Whether the instance comes back at the address that it had."""
    new_ip = begin.data["new_ip"]
    return new_ip is not None and new_ip == begin.data["old_ip"]


def _stayed(events: Iterable[Event], begin: Reading) -> Reading | None:
    """The proxy has the address all the time; None if it is unknown which server that is.

    Unless it has put the server into maintenance: then it forgets the address, and takes it anew.
    """
    left = _readings(events, (LOG, API), LEFT)
    servers = {r.data["server"] for r in left if r.at_ns >= begin.at_ns} or {None}
    return replace(begin, data={"server": servers.pop()}) if len(servers) == 1 else None


def _usable(
    events: Iterable[Event], t0_ns: int, moved: Reading, recovered_ns: int | None
) -> Reading | None:
    """The switch, or when the server came back from its last absence before the recovery.

    None if it went away and nobody told of its return.
    """
    for source in (LOG, API):
        said = [
            r
            for r in _readings(events, (source,), LEFT + CAME_BACK)
            if r.at_ns >= t0_ns and r.data["server"] == moved.data["server"]
        ]
        left = [
            r.at_ns
            for r in said
            if r.what in LEFT and (recovered_ns is None or r.at_ns <= recovered_ns)
        ]
        if left:
            came_back = [r for r in said if r.what in CAME_BACK and r.at_ns >= max(left)]
            first = min(came_back, key=_at_ns, default=None)
            return first and max(moved, first, key=_at_ns)
        if said:
            break  # the log told of this server, and not that it was away
    return moved
