"""What a scenario does to the users of a backend, as distributions over the phases of its timers.

A scenario makes a `Scene`: what each name is answered and what each address meets. Each trial runs
HAProxy's algorithm through it, in one phase of its polls and checks; `Users` then looks at what
becomes of requests. A trial is over when nothing can change any more.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from random import Random
from typing import NamedTuple

from chaosd.plugins.simulation import NEVER_NS
from chaosd.plugins.timeline import Failure
from chaosd.proxies.haproxy.model.algorithm import BackendModel, key_of
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Beyond,
    Happening,
    Outlook,
    Scenario,
    ServerLine,
    Spread,
    Unknown,
)
from chaosd.proxies.haproxy.model.scene import ALWAYS_NS, Scene, SceneWorld, instances_of
from chaosd.proxies.haproxy.model.server import SECOND_NS
from chaosd.proxies.haproxy.model.trials import phases_of, quantile_s
from chaosd.proxies.haproxy.model.users import Seen, Usable, Users
from chaosd.proxies.haproxy.model.versions import OLDEST, parse_version

__all__ = [
    "DNS_TROUBLE",
    "MOVE",
    "NODE_LOST",
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
TRIALS_LEAST, STEPS_MOST, STEPS_OF_A_TRIAL_MAX = 8, 20_000, 10_000
# How long what has no end is looked at, after all else is over.
ENDLESS_S = 60.0
# A round trip to a near nameserver, and a timer's lateness, on average.
_ROUND_TRIP_S, _LATE_S = 0.000_225, 0.001


def standard_scenarios() -> tuple[Scenario, ...]:
    """What every backend is asked about."""
    return MOVE, NODE_LOST, DNS_TROUBLE


def moves_at_first(backend: Backend) -> ServerLine | None:
    """The server line whose instance moves where nobody says which; None if there is no server."""
    lines = sorted(backend.servers, key=lambda line: (line.backup, line.resolver is None))
    return lines[0] if lines else None


class Trials(NamedTuple):
    """What users saw in each trial of a scenario, and the DNS queries of each."""

    seen: list[Seen]
    queries: list[float]  # from T0 until the name is published, or the trouble ends
    window_s: float  # how long that is
    until_s: float  # requests count that begin before


def outlook(
    backend: Backend,
    version: str | None,
    scenario: Scenario,
    *,
    moved: str | None = None,
    trials: int = TRIALS_MAX,
) -> Outlook | Unknown:
    """What this scenario does to the users of this backend, on this version (None: the newest).

    `moved` is the name of the server line whose instance moves. There are at most so many trials:
    fewer where they are long.
    """
    ran = run_trials(backend, version, scenario, moved=moved, trials=trials)
    if isinstance(ran, Unknown):
        return ran
    seen, window_s = ran.seen, ran.window_s
    queries = math.fsum(ran.queries) / len(ran.queries)
    at_rest_per_s = queries_per_s(backend)
    return Outlook(
        recovery_s=_spread([one.recovered_s for one in seen]),
        stable_s=_spread([one.stable_s for one in seen]),
        failed_s=_spread([one.failed_s for one in seen]),
        masked_s=_spread([one.masked_s for one in seen]),
        misrouted_s=_spread([one.misrouted_s for one in seen]),
        unaffected=sum(not one.failed_s for one in seen) / len(seen),
        slowest_s=quantile_s(sorted(one.slowest_s for one in seen), 0.95),
        queries_per_s=at_rest_per_s,
        queries_in_trouble_per_s=queries / window_s if window_s else at_rest_per_s,
        horizon_s=ran.until_s,
        trials=len(seen),
    )


def run_trials(
    backend: Backend,
    version: str | None,
    scenario: Scenario,
    *,
    moved: str | None = None,
    trials: int = TRIALS_MAX,
    until_s: float | None = None,
) -> Trials | Unknown:
    """The trials of an outlook. Requests count until `until_s`; None: until all is over."""
    line = moves_at_first(backend)
    if moved is not None:
        line = next(line for line in backend.servers if line.name == moved)
    if line is None:
        return Unknown(why=Beyond.NO_SERVER, file=backend.file, line=backend.line)
    if parse_version(version) < OLDEST:
        return Unknown(why=Beyond.OLD_VERSION, file=backend.file, line=backend.line)
    if line.resolver is not None and not line.resolver.nameservers:
        return Unknown(why=Beyond.NO_NAMESERVER, file=line.file, line=line.line)
    scene = Scene(backend, scenario, line)
    window_s = min(scenario.published_s, until_s or ENDLESS_S)
    ran = _run(scene, version, trials, round(window_s * SECOND_NS))
    if until_s is None:
        last_ns = max(scene.ends_ns, *(trial.history[-1][0] for trial in ran))
        until_s = last_ns / SECOND_NS + ENDLESS_S
    users = Users(backend, ran[0].model.servers)
    seen = [trial.seen_by(users, round(until_s * SECOND_NS)) for trial in ran]
    calm = queries_per_s(backend, but_for=scene.touched) * window_s
    queries = [trial.world.queries + calm for trial in ran]
    return Trials(seen, queries, window_s, until_s)


def _run(scene: Scene, version: str | None, trials: int, window_ns: int) -> list[_Trial]:
    """Trials until there are enough, or their steps are."""
    ran: list[_Trial] = []
    steps = 0
    for number in range(trials):
        trial = _Trial(scene, version, number, window_ns)
        trial.run()
        ran.append(trial)
        steps += trial.steps
        least = TRIALS_MIN if steps < STEPS_MOST else TRIALS_LEAST
        if len(ran) >= least and steps >= STEPS_MAX:
            break
    return ran


def queries_per_s(backend: Backend, *, but_for: Container[str] = ()) -> float:
    """The DNS queries that this backend costs at rest; those for some names are left out.

    A resolution is shared by servers that ask alike. Where AAAA is asked first and does not exist,
    it takes two queries; each goes to every nameserver.
    """
    per_s = 0.0
    for key in {key_of(line): None for line in backend.servers}:
        if key is None or key[1] in but_for:
            continue
        resolver, _, prefers = key
        queries = 2 if prefers == "AAAA" and len(resolver.families) > 1 else 1
        period_s = resolver.timeout_resolve_ns / SECOND_NS + queries * _ROUND_TRIP_S + _LATE_S
        per_s += queries * resolver.nameservers / period_s
    return per_s


class _Trial:
    """One scene, met in one phase of the polls and one of the checks."""

    def __init__(self, scene: Scene, version: str | None, number: int, window_ns: int) -> None:
        phases = phases_of(number)
        rng = Random(phases.seed)  # noqa: S311 - repeatable is the point
        self.steps = 0
        self.world = SceneWorld(scene, rng, count_until_ns=window_ns)
        self._scene = scene
        backend = scene.backend
        inter_ns = min((line.inter_ns for line in backend.servers), default=0)
        self.model = BackendModel(
            backend,
            version,
            self.world,
            rng,
            ask=self.world.ask,
            start_ns=0,
            poll_at_ns=lambda resolver: round(phases.poll * resolver.timeout_resolve_ns),
            check_at_ns=round(phases.check * inter_ns),
            final_name=scene.final_name,
            final_place=scene.final_place,
            late_targets=scene.late_targets,
        )
        scene.settle(self.model)
        self.history: list[tuple[int, Usable]] = [(ALWAYS_NS, self._usable())]

    def run(self) -> None:
        """Run until nothing can change any more."""
        model, world = self.model, self.world
        at_ns = model.next_ns()
        while at_ns < NEVER_NS and self.steps < STEPS_OF_A_TRIAL_MAX:
            self.steps += 1
            next_ns = model.advance_to_next(at_ns)
            if world.changed:
                world.changed = False
                self.history.append((at_ns, self._usable()))
            at_ns = next_ns

    def seen_by(self, users: Users, until_ns: int) -> Seen:
        """What users saw, of the requests that began from T0 until this instant."""
        scene = self._scene
        moves = scene.scenario.happening is not Happening.DNS_TROUBLE
        return users.see(
            self.history,
            meets=scene.meets,
            edges_ns=scene.place_edges(),
            new=scene.new if moves else None,
            until_ns=until_ns,
        )

    def _usable(self) -> Usable:
        return tuple(server.ip if server.usable else None for server in self.model.servers)


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
