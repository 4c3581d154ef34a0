"""The model's two questions: what is the recovery from this timeline, and what is the trace?"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from chaosd.history.cycles import Prediction
from chaosd.plugins.timeline import (
    ALWAYS,
    Clients,
    Failure,
    ServerHealth,
    Timeline,
    Trace,
    TraceEdge,
    Unreached,
)
from chaosd.proxies.haproxy.model import closed_forms, trials, trouble
from chaosd.proxies.haproxy.model.algorithm import BACKEND, ProxyModel, backend_of
from chaosd.proxies.haproxy.model.backend import Resolver
from chaosd.proxies.haproxy.model.cycle_requests import from_requests, with_requests
from chaosd.proxies.haproxy.model.moves import Move, recognise
from chaosd.proxies.haproxy.model.resolution import HOLDS
from chaosd.proxies.haproxy.model.server import SECOND_NS, Server
from chaosd.proxies.haproxy.model.settings import Settings
from chaosd.proxies.haproxy.model.standing import Standing
from chaosd.proxies.haproxy.model.timeline_world import Tracks, TrackWorld, whole_ns
from chaosd.proxies.haproxy.model.versions import FORGETS_ANSWERS, OLDEST, parse_version


def predict(
    settings: Settings, version: str | None, timeline: Timeline, clients: Clients | None = None
) -> Prediction | Unreached:
    """The recovery of a fresh request, as a band and a distribution; or why there is none.

    The version is as HAProxy says it, "2.6.12"; None: newer than all. With `clients` also what
    their requests come to.
    """
    if timeline.undisturbed is not None or trouble.is_trouble(timeline):
        if (why := closed_forms.unreached(settings, version)) is not None:
            return why
        answered = timeline.answer(ALWAYS, "A")
        backend = backend_of(
            settings, servers=1 if isinstance(answered, Failure) else len(answered)
        )
        return predict_any(Standing(backend=backend, host=BACKEND), version, timeline, clients)
    band = closed_forms.recovery(settings, version, timeline)
    if isinstance(band, Unreached):
        return band
    found = trials.recoveries(settings, version, timeline)
    if isinstance(found, Unreached):
        return band
    predicted = trials.distribution(band, found)
    move = recognise(timeline, settings.prefers)
    if clients is None or isinstance(move, Unreached):
        return predicted
    backend = backend_of(settings, servers=1 + len(move.others))
    standing = Standing(backend=backend, host=BACKEND)
    return with_requests(predicted, standing, version, timeline, move=move, clients=clients)


def predict_any(
    standing: Standing, version: str | None, timeline: Timeline, clients: Clients | None = None
) -> Prediction | Unreached:
    """The same for a backend of any shape, from trials alone."""
    if trouble.is_trouble(timeline):
        return trouble.predicted(standing, version, timeline)
    known = parse_version(version)
    if known < OLDEST:
        return Unreached.OLD_VERSION
    if not standing.moved:
        return Unreached.LOOKED_UP_ONCE
    line = standing.moved[0]
    resolver = line.resolver
    if resolver is None or not resolver.nameservers:
        return Unreached.NO_NEW_ADDRESS
    move = recognise(timeline, line.prefers)
    if isinstance(move, Unreached):
        return move
    if sum(each.slots for each in standing.moved) < 1 + len(move.others):
        return Unreached.OTHER_TIMELINE
    slowest_s = max(edge.took_s + edge.jitter_s for edge in timeline.names)
    if whole_ns(slowest_s) >= resolver.timeout_retry_ns:
        return Unreached.SLOW_NAMESERVER
    disturbed = timeline.undisturbed is not None
    if known < FORGETS_ANSWERS and _may_be_in_maintenance(resolver, move, disturbed=disturbed):
        return Unreached.OBSOLETE_IN_MAINTENANCE
    if (early_s := began_early_s(timeline)) > 0:  # trials begin in steady state
        timeline, move = timeline.later(early_s), move.later(early_s)
    asks = None if clients is None else replace(clients, until_s=clients.until_s + early_s)
    is_plain = all(edge.is_plain for edge in timeline.names)
    if standing.backend.is_crowded:
        if not is_plain:
            return Unreached.OTHER_ANSWERS  # they are left to chance
        predicted = from_requests(standing, version, timeline, move=move, clients=asks)
    else:
        predicted = trials.predicted(standing, version, move, timeline)
        if asks is not None and is_plain and not isinstance(predicted, Unreached):
            predicted = with_requests(
                predicted, standing, version, timeline, move=move, clients=asks
            )
    if isinstance(predicted, Unreached) or early_s == 0:
        return predicted
    return _earlier(predicted, early_s)


def began_early_s(timeline: Timeline) -> float:
    """How long before T0 the DNS trouble began that came with a move."""
    if timeline.undisturbed is None:
        return 0.0
    return max(0.0, *(-edge.at_s for edge in timeline.names if edge.at_s > ALWAYS))


def _earlier(predicted: Prediction, by_s: float) -> Prediction:
    """The same with all its instants so much earlier."""

    def quantiles_s(found: dict[str, float] | None) -> dict[str, float] | None:
        return found and {name: round(value_s - by_s, 6) for name, value_s in found.items()}

    stable_s = predicted.stable_mean_s
    return replace(
        predicted,
        lower_s=predicted.lower_s - by_s,
        mean_s=predicted.mean_s - by_s,
        upper_s=predicted.upper_s - by_s,
        quantiles_s=quantiles_s(predicted.quantiles_s),
        stable_mean_s=None if stable_s is None else stable_s - by_s,
        stable_quantiles_s=quantiles_s(predicted.stable_quantiles_s),
    )


def _may_be_in_maintenance(resolver: Resolver, move: Move, *, disturbed: bool) -> bool:
    """Whether the name may be missing for so long that the address is taken away while it holds."""
    if not resolver.holds.obsolete_ns:
        return False
    if disturbed:
        return True
    if move.missing_s is None:
        return False
    missing_ns = whole_ns(move.published_s - move.missing_s)
    cycle_ns = resolver.timeout_resolve_ns + resolver.resolve_retries * resolver.timeout_retry_ns
    return missing_ns + 2 * cycle_ns >= resolver.holds.after_ns(HOLDS[move.missing])


def trace(
    settings: Settings,
    version: str | None,
    timeline: Timeline,
    *,
    until_s: float,
    poll_phase: float = 0.5,
    check_phase: float = 0.5,
) -> Trace | Unreached:
    """What the servers do about any timeline until this instant, in one phase of their timers.

    At T0 they have the addresses that the name is answered with, in full health. The next poll
    comes after `poll_phase` of `timeout resolve`, the next check after `check_phase` of `inter`.
    """
    if (why := closed_forms.unreached(settings, version)) is not None:
        return why
    if timeline.proxy:
        return Unreached.PROXY_CHANGES
    if timeline.nameservers > 1:
        return Unreached.SEVERAL_NAMESERVERS
    addresses = timeline.answer(ALWAYS, "A")
    if isinstance(addresses, Failure):
        return Unreached.OTHER_TIMELINE
    rng = Random("trace")  # noqa: S311 - repeatable is the point
    model = ProxyModel(
        settings,
        version,
        TrackWorld(Tracks(timeline), rng, vacant_refuses=False),
        rng,
        start_ns=0,
        poll_at_ns=round(poll_phase * settings.timeout_resolve_ns),
        check_at_ns=round(check_phase * settings.inter_ns),
        servers=len(addresses),
    )
    model.settle(0, addresses)
    edges = [_edge(server, ALWAYS) for server in model.servers]
    known = {edge.server: edge for edge in edges}
    while (at_ns := model.next_ns()) <= whole_ns(until_s):
        model.advance(at_ns)
        for server in model.servers:
            now, last = _edge(server, at_ns / SECOND_NS), known[server.name]
            if (now.address, now.health) != (last.address, last.health):
                known[server.name] = now
                edges.append(now)
    return Trace(edges=tuple(edges))


def _edge(server: Server, at_s: float) -> TraceEdge:
    health: ServerHealth = "up" if server.usable else "down"
    if server.maintenance:
        health = "maint"
    return TraceEdge(at_s=at_s, server=server.name, address=server.ip, health=health)
