"""The recovery that HAProxy's algorithm gives, by trying: the model, run in many phases.

Each trial begins in steady state, with polls and checks at phases that fill their periods evenly,
and goes on until the new instance answers fresh requests for good. Nothing is random but the
lateness of timers, and that is seeded: one timeline under one set of settings has one distribution.
The closed forms of `closed_forms.py` bound it where there is one server and one nameserver: then
this says what is likely between those bounds. For any other shape all of it is from here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from random import Random
from typing import NamedTuple

from chaosd.history.cycles import Prediction
from chaosd.plugins.timeline import Timeline, Unreached
from chaosd.proxies.haproxy.model.algorithm import BACKEND, BackendModel, Layout, backend_of
from chaosd.proxies.haproxy.model.closed_forms import ARP_LATE_S_MAX, ARP_RETRY_S
from chaosd.proxies.haproxy.model.moves import Move, recognise
from chaosd.proxies.haproxy.model.phases import AT_ONCE, Phases, corners, phases_of, quantile_s
from chaosd.proxies.haproxy.model.requests import candidates
from chaosd.proxies.haproxy.model.server import SECOND_NS
from chaosd.proxies.haproxy.model.settings import Settings
from chaosd.proxies.haproxy.model.standing import BESIDE, Standing, StandingWorld
from chaosd.proxies.haproxy.model.timeline_world import Tracks, whole_ns

# What bounds the work: trials, and what the model does in all of them, at some 5 µs each.
TRIALS_MIN, TRIALS_MAX, STEPS_MAX = 32, 256, 1_500
# Where all of the prediction is from trials; few of them where they are very long.
WHOLE_TRIALS_MIN, WHOLE_STEPS_MAX = 64, 3_000
WHOLE_TRIALS_LEAST, WHOLE_STEPS_MOST = 16, 20_000
WIDER, WIDER_S = 0.1, 0.005
# Polls go on from one timer to the next while the trouble lasts. On a machine that does other work
# each is a little later than the trials have it, and so much of the time it comes to.
LATE_SHARE = 0.01
STEPS_OF_A_TRIAL_MAX = 20_000
QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

# A probe is sent each 10 ms by default, and each of several servers gets one in its turn.
TURN_NS = 10_000_000


class Recovery(NamedTuple):
    """What one trial came to, in seconds after T0."""

    first_s: float  # the first fresh good answer
    stable_s: float  # the first one after which all are good: later only where it relapsed


def recoveries(
    settings: Settings, version: str | None, timeline: Timeline, *, steps_max: int = STEPS_MAX
) -> list[Recovery] | Unreached:
    """A recovery for each trial, the soonest first; or why there is none."""
    move = recognise(timeline, settings.prefers)
    if isinstance(move, Unreached):
        return move
    backend = backend_of(settings, servers=1 + len(move.others))
    standing = Standing(backend=backend, host=BACKEND)
    trials = _Trials(standing, Layout(backend, version), move, Tracks(timeline))
    found: list[Recovery] = []
    for number in range(TRIALS_MAX):
        recovery = trials.run(phases_of(number))
        if recovery is None:
            return Unreached.NO_RECOVERY
        found.append(recovery)
        if len(found) >= TRIALS_MIN and trials.steps >= steps_max:
            break
    return sorted(found)


def predicted(
    standing: Standing, version: str | None, move: Move, timeline: Timeline
) -> Prediction | Unreached:
    """The prediction for a backend of any shape: all of it is from trials.

    Beside the evenly spread ones there are trials in the corners, where the phases are at their
    ends. The band is their range, and `WIDER` of it more at each end: trials only come near to what
    is possible.
    """
    layout, tracks = Layout(standing.backend, version), Tracks(timeline)
    calm_ns = 0 if timeline.undisturbed is None else _calm_ns(standing, timeline)
    trials = _Trials(standing, layout, move, tracks, turn_ns=TURN_NS, calm_ns=calm_ns)
    extreme = [trials.run(phases) for phases in corners()]
    found: list[Recovery] = []
    before = trials.steps
    for number in range(TRIALS_MAX):
        recovery = trials.run(phases_of(number))
        if recovery is None:
            return Unreached.NO_RECOVERY
        found.append(recovery)
        steps = trials.steps - before
        least = WHOLE_TRIALS_MIN if steps < WHOLE_STEPS_MOST else WHOLE_TRIALS_LEAST
        if len(found) >= least and steps >= WHOLE_STEPS_MAX:
            break
    ends = [recovery.first_s for recovery in (*found, *extreme) if recovery is not None]
    lower_s, upper_s = widened(ends)
    if timeline.undisturbed is not None:  # polls that go unanswered are late one after the other
        upper_s += LATE_SHARE * upper_s
    band = Prediction(lower_s=max(move.listening_s, lower_s), mean_s=0.0, upper_s=upper_s)
    return distribution(band, sorted(found))


def _calm_ns(standing: Standing, timeline: Timeline) -> int:
    """When a resolution that began after the last change of answers is over."""
    resolver, last_s = standing.moved[0].resolver, timeline.names[-1].at_s
    if resolver is None:
        return whole_ns(last_s)
    asked_ns = resolver.resolve_retries * resolver.timeout_retry_ns
    return whole_ns(last_s) + 2 * (resolver.timeout_resolve_ns + asked_ns)


def widened(found: Sequence[float]) -> tuple[float, float]:
    """The band of what trials have found: they only come near to what is possible."""
    lower_s, upper_s = min(found), max(found)
    wider_s = WIDER * (upper_s - lower_s) + WIDER_S
    return max(0.0, lower_s - wider_s), upper_s + wider_s


def distribution(band: Prediction, found: Sequence[Recovery]) -> Prediction:
    """The band of the closed form with what the trials say of its inside: mean and quantiles.

    The band itself stays: it holds for every phase, and trials only come near to its ends. Where
    some relapse, there is a distribution of the stable recovery, too, which has no band.
    """
    inside = [min(max(value.first_s, band.lower_s), band.upper_s) for value in found]
    stable = sorted(value.stable_s for value in found)
    relapses = sum(value.stable_s > value.first_s for value in found)
    return replace(
        band,
        mean_s=math.fsum(inside) / len(inside),
        quantiles_s=_quantiles(inside),
        stable_mean_s=math.fsum(stable) / len(stable),
        stable_quantiles_s=_quantiles(stable),
        relapse_share=relapses / len(found),
    )


def _quantiles(ordered: list[float]) -> dict[str, float]:
    return {f"p{round(p * 100):02}": round(quantile_s(ordered, p), 6) for p in QUANTILES}


class _Trials:
    """One move, met in one phase of the polls and one of the checks after the other.

    All trials have one model, which begins each of them anew.
    """

    def __init__(
        self,
        standing: Standing,
        layout: Layout,
        move: Move,
        tracks: Tracks,
        *,
        turn_ns: int = 0,
        calm_ns: int = 0,
    ) -> None:
        self.steps = 0  # in all trials together
        self._move = move
        self._listening_ns = whole_ns(move.listening_s)
        self._reachable_ns = None if move.reachable_s is None else whole_ns(move.reachable_s)
        self._turns_ns = turn_ns
        self._calm_ns = calm_ns  # from then on DNS troubles nobody any more
        self._is_checked = standing.is_checked
        self._is_uniform = len(standing.backend.servers) == 1
        self._rng = rng = Random(0)  # noqa: S311 - seeded by each trial: repeatable is the point
        self._world = world = StandingWorld(standing, tracks, rng, vacant_refuses=True)
        host, others = standing.host, (BESIDE, *move.others)
        self._model = BackendModel(
            layout,
            world,
            rng,
            ask=world.ask,
            start_ns=0,
            poll_at_ns=AT_ONCE.poll_at_ns,
            check_at_ns=AT_ONCE.check_at_ns,
            final_name=lambda name: lambda _at_ns: name != host,
            final_place=lambda _at_ns, ip: ip in others,
        )
        standing.settle(self._model, (move.old, *move.others))

    def run(self, phases: Phases) -> Recovery | None:
        """The recovery in these phases; None if there is none in any reasonable time."""
        rng, model, world = self._rng, self._model, self._world
        rng.seed(phases.seed)
        again_ns = whole_ns(ARP_RETRY_S + rng.random() * ARP_LATE_S_MAX)
        turn_ns = round(phases.coin * self._turns_ns)
        # A vacant IP refuses on loopback and is a black hole on a bridge: half of each.
        world.begin(vacant_refuses=phases.coin < 1 / 2)
        model.begin(phases.poll_at_ns, phases.check_at_ns)
        asked_ns: int | None = None  # when the first request went to the new host
        at_ns, next_ns, among = 0, model.next_ns(), self._among()
        instants = model.instants()
        for _ in range(STEPS_OF_A_TRIAL_MAX):
            self.steps += 1
            if among is not None:
                if asked_ns is None:
                    asked_ns = at_ns
                reached_ns = self._reached_ns(asked_ns, again_ns)
                arrived_ns = max(at_ns, self._listening_ns, reached_ns) + among * turn_ns
                if arrived_ns <= next_ns:
                    stable_ns = self._stable_ns(arrived_ns, instants)
                    return Recovery(arrived_ns / SECOND_NS, stable_ns / SECOND_NS)
            at_ns, next_ns = next(instants)
            if world.changed:
                world.changed, among = False, self._among()
        return None

    def _among(self) -> int | None:
        """How many servers requests go to beside the new instance; None if it gets none."""
        new, model = self._move.new, self._model
        for server in model.servers:
            if server.ip == new and server.usable:
                if len(model.servers) == 1:
                    return 0
                usable = [s for s in model.servers if s.usable and s.line.weight]
                chosen = candidates(model.backend, usable)
                if any(each.ip == new for each in chosen):
                    return len(chosen) - 1
                return None
        return None

    def _stable_ns(self, recovered_ns: int, instants: Iterator[tuple[int, int]]) -> int:
        """When it recovered for good, if it first did at this instant.

        A check that began at the old address may still take the server DOWN. The first one that the
        new instance passes makes it whole again, from then on nothing changes: unless by DNS.
        """
        world, stable_ns = self._world, recovered_ns
        calm = recovered_ns >= self._calm_ns
        if calm and (not self._is_checked or self._is_certain()):
            return stable_ns
        usable, world.passed = True, None
        for at_ns, _ in islice(instants, STEPS_OF_A_TRIAL_MAX):
            self.steps += recovered_ns < self._calm_ns
            if world.changed:
                was_usable, usable = usable, self._among() is not None
                world.changed = False
                if usable and not was_usable:
                    stable_ns = at_ns
            whole = world.passed == self._move.new or not self._is_checked
            if usable and whole and at_ns >= self._calm_ns:
                break
            world.passed = None
        return stable_ns

    def _is_certain(self) -> bool:
        """Whether the new instance's server stays as it is: all its checks are of that, and pass.

        Where lines are of several kinds, others may take its place.
        """
        servers = self._model.servers
        if not self._is_uniform or servers[0].line.backup:
            return False
        return not any(server.awaits_check for server in servers if server.ip == self._move.new)

    def _reached_ns(self, asked_ns: int, again_ns: int) -> int:
        """When packets arrive at the new host, if the first one was sent at this instant.

        That one asks for the host by ARP. If it does not answer yet, the kernel asks again in its
        own time, and holds back all packets until then.
        """
        if self._reachable_ns is None or asked_ns >= self._reachable_ns:
            return asked_ns
        return asked_ns + again_ns
