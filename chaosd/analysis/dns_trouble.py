"""From a cycle's events: the DNS trouble as the proxy met it, for the cycle's prediction."""

from __future__ import annotations

from collections.abc import Sequence

from chaosd.history.deeds import Done, FaultDns, RestoreDns
from chaosd.history.disturbances import DnsAnswersWrongly
from chaosd.history.events import (
    AnyEvent,
    DisturbanceBegan,
    DisturbanceEnded,
    FaultBegan,
    earliest,
    only,
)
from chaosd.plugins.dns_trouble import disturbed, rules_as_said, trouble
from chaosd.plugins.timeline import Timeline, Unreached


def met(
    events: Sequence[AnyEvent], *, replicas: int, dns_s: float, nameservers: int = 1
) -> Timeline | Unreached:
    """The trouble between the two deeds, as their events say. Needs the cycle's `begin`.

    So many `replicas` answer for the name all the time; `dns_s` is how long an answer takes.
    """
    begin = earliest(events, FaultBegan)
    done = [(event.at_ns, event.what.deed) for event in only(events, Done)]
    faults = [(at_ns, deed) for at_ns, deed in done if isinstance(deed, FaultDns)]
    ends = [at_ns for at_ns, deed in done if isinstance(deed, RestoreDns)]
    if begin is None or not faults or not ends:
        return Unreached.OTHER_TIMELINE
    began_ns, fault = faults[0]
    return trouble(
        rules_as_said(fault),
        begins_s=(began_ns - begin.at_ns) / 1e9,
        ends_s=(ends[-1] - begin.at_ns) / 1e9,
        replicas=replicas,
        took_s=dns_s,
        nameservers=nameservers,
    )


def beside(
    move: Timeline, events: Sequence[AnyEvent], others: Sequence[str]
) -> Timeline | Unreached | None:
    """The cycle's move with all that came with it: the faults with these labels.

    None where one of them is no DNS trouble.
    """
    begin = earliest(events, FaultBegan)
    began = {event.what.fault: event for event in only(events, DisturbanceBegan)}
    ended_ns = {event.what.fault: event.at_ns for event in only(events, DisturbanceEnded)}
    found = move
    for label in sorted(others, key=lambda each: began[each].at_ns if each in began else 0):
        if begin is None or label not in began or label not in ended_ns:
            return None
        wrong = began[label].what.disturbance
        if not isinstance(wrong, DnsAnswersWrongly):
            return None
        begins_s, ends_s = (
            (at_ns - begin.at_ns) / 1e9 for at_ns in (began[label].at_ns, ended_ns[label])
        )
        laid = disturbed(found, rules_as_said(wrong), begins_s=begins_s, ends_s=ends_s)
        if isinstance(laid, Unreached):
            return laid
        found = laid
    return found
