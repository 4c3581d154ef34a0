"""From a cycle in which nothing moves: the DNS trouble as the proxy met it, for its prediction."""

from __future__ import annotations

from collections.abc import Sequence

from chaosd.history.events import AnyEvent, Done, FaultBegan, FaultDns, RestoreDns, earliest, only
from chaosd.plugins.dns_trouble import rules_of, trouble
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
        rules_of(
            preset=fault.preset,
            answer=fault.answer,
            delay_s=fault.delay_s,
            qtype=fault.qtype,
            nameserver=fault.nameserver,
        ),
        begins_s=(began_ns - begin.at_ns) / 1e9,
        ends_s=(ends[-1] - begin.at_ns) / 1e9,
        replicas=replicas,
        took_s=dns_s,
        nameservers=nameservers,
    )
