"""What a scenario does to the users of a backend, as distributions over the phases of its timers.

A scenario makes a `Scene`: what each name is answered and what each address meets. Each trial runs
HAProxy's algorithm through it, in one phase of its polls and checks; `Users` then looks at what
becomes of requests. A trial is over when nothing can change any more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import islice
from random import Random
from typing import NamedTuple

from chaosd.plugins.timeline import Clients, Failure
from chaosd.proxies.haproxy.model.algorithm import BackendModel, Layout, key_of
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Beyond,
    Happening,
    Outlook,
    Resolver,
    Scenario,
    ServerLine,
    Spread,
    Unknown,
)
from chaosd.proxies.haproxy.model.crowd import Counted, Crowd, Walked
from chaosd.proxies.haproxy.model.phases import AT_ONCE, phases_of, quantile_s
from chaosd.proxies.haproxy.model.scene import (
    ALWAYS_NS,
    ENDLESS_S,
    SLOTS_USED,
    AnyScene,
    Scene,
    SceneWorld,
    instances_of,
)
from chaosd.proxies.haproxy.model.server import SECOND_NS
from chaosd.proxies.haproxy.model.users import PATIENT, Seen, Usable, Users
from chaosd.proxies.haproxy.model.versions import OLDEST, parse_version

__all__ = [
    "DNS_TROUBLE",
    "MOVE",
    "NODE_LOST",
    "SLOTS_USED",
    "instances_of",
    "moves_at_first",
    "outlook",
    "queries_per_s",
    "run_trials",
    "standard_scenarios",
]

# An ordinary recreate of a container: its name is missing for a second, then its successor listens.
MOVE = Scenario(
    happening=Happening.MOVE,
    published_s=1.0,
    listening_s=1.0,
    healthy_s=1.0,
    missing=Failure.NXDOMAIN,
)
# A machine is gone: packets vanish, and DNS goes on listing its address until somebody notices.
NODE_LOST = Scenario(
    happening=Happening.NODE_LOST, published_s=10.0, listening_s=10.0, healthy_s=10.0
)
# The nameservers say nothing for ten seconds, while everything else goes on.
DNS_TROUBLE = Scenario(happening=Happening.DNS_TROUBLE, published_s=10.0, missing=Failure.SILENCE)

# What bounds the work of an outlook: trials, and the model's steps in all of them, at some 5 µs
# each. Where trials are very long, there are few of them.
TRIALS_MIN, TRIALS_MAX, STEPS_MAX = 32, 256, 2_500
TRIALS_LEAST, STEPS_MOST, STEPS_OF_A_TRIAL_MAX = 12, 20_000, 10_000
SERVERS_MAX = 256  # of a backend: what the model does grows with their square
_ENDLESS_NS = round(ENDLESS_S * SECOND_NS)
# A round trip to a near nameserver, and a timer's lateness, on average.
_ROUND_TRIP_S, _LATE_S = 0.000_225, 0.001


def standard_scenarios() -> tuple[Scenario, ...]:
    """What every backend is asked about."""
    return MOVE, NODE_LOST, DNS_TROUBLE


def moves_at_first(backend: Backend) -> ServerLine | None:
    """The server line whose instance moves where nobody says which; None if there is no server.

    What has an address in the file comes last, a primary too: only what has a name moves by DNS.
    """
    lines = sorted(
        backend.servers, key=lambda line: (line.host is None, line.backup, line.resolver is None)
    )
    return lines[0] if lines else None


class Trial(NamedTuple):
    """What users see of one trial; requests in seconds' worth. What never comes is inf."""

    recovery_s: float
    stable_s: float
    failed_s: float
    masked_s: float
    misrouted_s: float
    slowest_s: float
    queries: int  # until the name is published or the trouble ends, for a minute at most
    horizon_s: float  # requests count that begin before it


def outlook(
    backend: Backend,
    version: str | None,
    scenario: Scenario,
    *,
    moved: str | None = None,
    trials: int = TRIALS_MAX,
    clients: Clients = PATIENT,
) -> Outlook | Unknown:
    """What this scenario does to the users of this backend, on this version (None: the newest).

    `moved` is the name of the server line whose instance moves. There are at most so many trials:
    fewer where they are long. Clients wait for 30 s, unless others are given.
    """
    ran = run_trials(backend, version, scenario, moved=moved, most=trials, clients=clients)
    if isinstance(ran, Unknown):
        return ran
    at_rest_per_s, window_s = queries_per_s(backend), min(scenario.published_s, ENDLESS_S)
    queries = sum(trial.queries for trial in ran) / len(ran)
    return Outlook(
        recovery_s=_spread([trial.recovery_s for trial in ran]),
        stable_s=_spread([trial.stable_s for trial in ran]),
        failed_s=_spread([trial.failed_s for trial in ran]),
        masked_s=_spread([trial.masked_s for trial in ran]),
        misrouted_s=_spread([trial.misrouted_s for trial in ran]),
        unaffected=sum(not trial.failed_s + trial.misrouted_s for trial in ran) / len(ran),
        slowest_s=quantile_s(sorted(trial.slowest_s for trial in ran), 0.95),
        queries_per_s=at_rest_per_s,
        queries_in_trouble_per_s=queries / window_s if window_s else at_rest_per_s,
        horizon_s=ran[0].horizon_s,
        trials=len(ran),
    )


def run_trials(
    backend: Backend,
    version: str | None,
    scenario: Scenario,
    *,
    moved: str | None = None,
    least: int = TRIALS_LEAST,
    most: int = TRIALS_MAX,
    horizon_s: float | None = None,
    clients: Clients = PATIENT,
) -> list[Trial] | Unknown:
    """The trials that an outlook is of, each in a phase of its own.

    Requests are looked at until `horizon_s`; None: until a minute after all has come to its end.
    """
    line = moves_at_first(backend)
    if moved is not None:
        line = next(line for line in backend.servers if line.name == moved)
    if line is None:
        return Unknown(why=Beyond.NO_SERVER, file=backend.file, line=backend.line)
    if sum(each.slots for each in backend.servers) > SERVERS_MAX:
        return Unknown(why=Beyond.TOO_MANY, file=backend.file, line=backend.line)
    if parse_version(version) < OLDEST:
        return Unknown(why=Beyond.OLD_VERSION, file=backend.file, line=backend.line)
    if line.resolver is not None and not line.resolver.nameservers:
        return Unknown(why=Beyond.NO_NAMESERVER, file=line.file, line=line.line)
    scene = Scene(backend, scenario, line)
    trials = SceneTrials(scene, Layout(backend, version), clients)
    ran = _run(trials, least, most)
    if horizon_s is None:
        last_ns = max(scene.ends_ns, *(trial.history[-1][0] for trial in ran))
        horizon_s = last_ns / SECOND_NS + ENDLESS_S
    seen = trials.seen(ran, round(horizon_s * SECOND_NS))
    return [
        Trial(
            recovery_s=each.recovery_s,
            stable_s=each.stable_s,
            failed_s=each.failed_s,
            masked_s=each.masked_s,
            misrouted_s=each.misrouted_s,
            slowest_s=each.slowest_s,
            queries=trial.queries,
            horizon_s=horizon_s,
        )
        for trial, each in zip(ran, seen, strict=True)
    ]


def _run(trials: SceneTrials, least: int, most: int) -> list[Ran]:
    """Trials until there are enough, or their steps are."""
    ran: list[Ran] = []
    for number in range(most):
        ran.append(trials.run(number))
        wanted = TRIALS_MIN if trials.steps < STEPS_MOST else TRIALS_LEAST
        if len(ran) >= max(least, wanted) and trials.steps >= STEPS_MAX:
            break
    return ran


def queries_per_s(backend: Backend) -> float:
    """The DNS queries that this backend costs at rest.

    A resolution is shared by servers that ask alike. Where AAAA is asked first and does not exist,
    it takes two queries; each goes to every nameserver.
    """
    per_s = 0.0
    for key in {key_of(line): None for line in backend.servers}:
        if key is None:
            continue
        resolver, _, prefers = key
        queries = 2 if prefers == "AAAA" and len(resolver.families) > 1 else 1
        period_s = resolver.timeout_resolve_ns / SECOND_NS + queries * _ROUND_TRIP_S + _LATE_S
        per_s += queries * resolver.nameservers / period_s
    return per_s


class Ran(NamedTuple):
    """What one trial came to."""

    history: list[tuple[int, Usable]]  # from which instant on which servers are usable
    queries: int
    walked: Walked | None = None  # its requests, where each was walked through


class SceneTrials:
    """One scene, met in one phase of the polls and one of the checks after the other.

    All trials have one model, which begins each of them anew.
    """

    def __init__(self, scene: AnyScene, layout: Layout, clients: Clients) -> None:
        self.steps = 0  # in all trials together
        self._scene, self._clients = scene, clients
        self._rng = rng = Random(0)  # noqa: S311 - seeded by each trial: repeatable is the point
        self._world = world = SceneWorld(scene, rng, count_until_ns=scene.window_ns)
        self._model = BackendModel(
            layout,
            world,
            rng,
            ask=world.ask,
            start_ns=0,
            poll_at_ns=AT_ONCE.poll_at_ns,
            check_at_ns=AT_ONCE.check_at_ns,
            final_name=scene.final_name,
            final_place=scene.final_place,
            late_targets=scene.late_targets,
        )
        scene.settle(self._model)
        # Where nothing moves, what requests come to is the same for any number of them.
        crowded = layout.backend.is_crowded and scene.awaited is not None
        self._crowd = Crowd(self._model, scene, clients, rng) if crowded else None

    def run(self, number: int) -> Ran:
        """Run the trial of this number until nothing can change any more."""
        model, world, phases = self._model, self._world, phases_of(number)
        self._rng.seed(phases.seed)
        world.begin()
        model.begin(partial(self._poll_at_ns, phases.poll), phases.check_at_ns)
        for server in model.servers:
            server.sleep(ALWAYS_NS)
        history: list[tuple[int, Usable]] = [(ALWAYS_NS, model.usable())]
        crowd = self._crowd
        if crowd is not None:
            instants = crowd.instants(most_ns=_ENDLESS_NS, steps_max=STEPS_OF_A_TRIAL_MAX)
            for at_ns, steps in instants:
                self.steps += steps
                self._note(history, at_ns)
            return Ran(history, world.queries, crowd.walked)
        for at_ns, _ in islice(model.instants(), STEPS_OF_A_TRIAL_MAX):
            self.steps += 1
            if world.changed:
                self._note(history, at_ns)
        return Ran(history, world.queries)

    def _note(self, history: list[tuple[int, Usable]], at_ns: int) -> None:
        """Note which servers are usable, if one has changed."""
        if self._world.changed:
            self._world.changed = False
            history.append((at_ns, self._model.usable()))

    def _poll_at_ns(self, part: float, resolver: Resolver) -> int:
        """The first poll: at any time after the last answer, or already under way at T0."""
        takes_ns = self._scene.poll_takes_ns(resolver)
        return round(part * (resolver.timeout_resolve_ns + takes_ns)) - takes_ns

    def seen(self, ran: Sequence[Ran], until_ns: int) -> Sequence[Seen | Counted]:
        """What users saw of each, of the requests that began from T0 until this instant.

        In many trials all servers are usable all the time: what is alike is looked at once.
        """
        scene, edges_ns = self._scene, self._scene.place_edges()
        if self._crowd is not None:
            count = partial(self._crowd.count, until_ns=until_ns)
            return [count(trial.walked) for trial in ran if trial.walked is not None]
        users = Users(self._model.backend, self._model.servers, self._clients)
        found: dict[tuple[tuple[int, Usable], ...], Seen] = {}
        for history in {tuple(trial.history) for trial in ran}:
            found[history] = users.see(
                history, meets=scene.meets, edges_ns=edges_ns, new=scene.awaited, until_ns=until_ns
            )
        return [found[tuple(trial.history)] for trial in ran]


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values)
    ends = [value for value in ordered if value < math.inf]
    return Spread(
        p05=quantile_s(ordered, 0.05),
        p50=quantile_s(ordered, 0.5),
        p95=quantile_s(ordered, 0.95),
        mean=math.fsum(ends) / len(ends) if ends else math.nan,
        never=1 - len(ends) / len(ordered),
    )
