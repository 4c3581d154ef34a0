"""What DNS trouble does to users: nothing moves, and the name is answered wrongly for a while.

As in `trials.py`, each trial begins in steady state, in another phase of the polls and checks; as
in `outlook.py`, it goes on until nothing can change any more, and then requests are looked at.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from random import Random

from chaosd.history.cycles import Prediction
from chaosd.plugins.simulation import NEVER_NS, Reply
from chaosd.plugins.timeline import (
    ALWAYS,
    RECORD_TYPES,
    Failure,
    Meets,
    NameEdge,
    RecordType,
    Timeline,
    Unreached,
)
from chaosd.proxies.haproxy.model import trials
from chaosd.proxies.haproxy.model.algorithm import BackendModel, Layout
from chaosd.proxies.haproxy.model.backend import Resolver
from chaosd.proxies.haproxy.model.phases import AT_ONCE, Phases, corners, phases_of
from chaosd.proxies.haproxy.model.server import SECOND_NS
from chaosd.proxies.haproxy.model.standing import BESIDE, Standing, StandingWorld
from chaosd.proxies.haproxy.model.timeline_world import Tracks, whole_ns
from chaosd.proxies.haproxy.model.trials import (
    LATE_SHARE,
    STEPS_OF_A_TRIAL_MAX,
    TRIALS_MAX,
    WHOLE_STEPS_MAX,
    WHOLE_STEPS_MOST,
    WHOLE_TRIALS_LEAST,
    WHOLE_TRIALS_MIN,
    Recovery,
)
from chaosd.proxies.haproxy.model.users import Seen, Usable, Users
from chaosd.proxies.haproxy.model.versions import OLDEST, parse_version

LOOKED_S = 5.0  # how long requests are looked at after the last change
ALWAYS_NS = -NEVER_NS
# On a machine that does other work each answer is later, too, so that a poll meets the end of the
# trouble or a hold the other way round: so many trials more have answers that are so much later.
SLOWER_NS, SLOWER_TRIALS = 8_000_000, 24


def is_trouble(timeline: Timeline) -> bool:
    """Whether nothing moves: who listens does so all the time, and names end as they began."""
    tracks = [
        timeline.names_of(record, nameserver)
        for record in RECORD_TYPES
        for nameserver in range(timeline.nameservers)
    ]
    listens = all(place.meets is Meets.LISTENING for place in timeline.places)
    ends = all(not track or track[0].answer == track[-1].answer for track in tracks)
    return listens and ends and not timeline.proxy


def predicted(
    standing: Standing, version: str | None, timeline: Timeline
) -> Prediction | Unreached:
    """What users see of such a timeline, over all phases of the timers; or why that is unknown."""
    if (why := _unreached(standing, version, timeline)) is not None:
        return why
    runs = _Trials(standing, Layout(standing.backend, version), timeline)
    found: list[Seen] = []
    for number in range(TRIALS_MAX):
        found.append(runs.run(phases_of(number)))
        least = WHOLE_TRIALS_MIN if runs.steps < WHOLE_STEPS_MOST else WHOLE_TRIALS_LEAST
        if len(found) >= least and runs.steps >= WHOLE_STEPS_MAX:
            break
    ends = [runs.run(phases) for phases in corners()]
    slower = (phases_of(number) for number in range(SLOWER_TRIALS))
    ends += [runs.run(phases, SLOWER_NS) for phases in (*corners(), *slower)]
    if any(seen.stable_s == float("inf") for seen in (*found, *ends)):
        return Unreached.NO_RECOVERY
    return _folded(found, ends)


def _unreached(standing: Standing, version: str | None, timeline: Timeline) -> Unreached | None:
    if parse_version(version) < OLDEST:
        return Unreached.OLD_VERSION
    if not standing.moved:
        return Unreached.LOOKED_UP_ONCE
    line = standing.moved[0]
    answered = timeline.answer(ALWAYS, "A")
    if line.resolver is None or not line.resolver.nameservers or isinstance(answered, Failure):
        return Unreached.OTHER_TIMELINE
    if sum(each.slots for each in standing.moved) < len(answered):
        return Unreached.OTHER_TIMELINE
    late = [edge for edge in timeline.names if _is_half_late(edge, line.resolver, line.prefers)]
    return Unreached.SLOW_NAMESERVER if late else None


def _is_half_late(edge: NameEdge, resolver: Resolver, prefers: RecordType) -> bool:
    """Whether an answer may come after its question was asked again, and decides nothing by then.

    One with addresses ends the resolution, and one that comes after that is none at all. Of one
    that may come before or after its end it is not known here which of several counts.
    """
    soonest_ns, latest_ns = whole_ns(edge.took_s), whole_ns(edge.took_s + edge.jitter_s)
    ends_ns = resolver.resolve_retries * resolver.timeout_retry_ns
    if edge.record != prefers or edge.answer is Failure.SILENCE:
        return False
    if latest_ns < resolver.timeout_retry_ns or soonest_ns >= ends_ns:
        return False
    return isinstance(edge.answer, Failure) or latest_ns >= ends_ns


def _folded(found: list[Seen], ends: list[Seen]) -> Prediction:
    """The bands, and the distribution of the evenly spread trials in which requests fail."""
    hit = [seen for seen in (*found, *ends) if seen.failed_s]
    if not hit:
        none = Prediction(lower_s=0.0, mean_s=0.0, upper_s=0.0)
        return replace(none, unaffected_share=1.0, failed_s=_spread(0.0, 0.0, 0.0))
    lower_s, upper_s = trials.widened([seen.stable_s for seen in hit])
    least_s, most_s = trials.widened([seen.failed_s for seen in hit])
    mean_s = math.fsum(seen.failed_s for seen in hit) / len(hit)
    late_s = LATE_SHARE * upper_s  # the end of the outage, or its begin: then it is shorter
    band = Prediction(
        lower_s=lower_s,
        mean_s=0.0,
        upper_s=upper_s + late_s,
        unaffected_share=1 - len(hit) / (len(found) + len(ends)),
        failed_s=_spread(max(0.0, least_s - late_s), mean_s, most_s + late_s),
    )
    seconds = sorted(seen.stable_s for seen in found if seen.failed_s) or [lower_s, upper_s]
    return trials.distribution(band, [Recovery(each, each) for each in seconds])


def _spread(lower_s: float, mean_s: float, upper_s: float) -> dict[str, float]:
    return {"lower": round(lower_s, 6), "mean": round(mean_s, 6), "upper": round(upper_s, 6)}


class _World(StandingWorld):
    """A standing backend's world whose nameservers may be slower."""

    slower_ns = 0

    def resolve(self, now_ns: int, record: RecordType) -> Reply:
        reply = super().resolve(now_ns, record)
        if not self.slower_ns:
            return reply
        return reply._replace(took_ns=reply.took_ns + self.slower_ns)


class _Trials:
    """The trouble, met in one phase of the polls and one of the checks after the other."""

    def __init__(self, standing: Standing, layout: Layout, timeline: Timeline) -> None:
        self.steps = 0  # in all trials together
        self._last_ns = last_ns = max(whole_ns(edge.at_s) for edge in timeline.names)
        self._rng = rng = Random(0)  # noqa: S311 - seeded by each trial: repeatable is the point
        self._world = world = _World(standing, Tracks(timeline), rng, vacant_refuses=True)
        host = standing.host
        answered = timeline.answer(ALWAYS, "A")
        assert not isinstance(answered, Failure)  # noqa: S101 - then it was not reached
        finals = (BESIDE, *answered)
        self._model = BackendModel(
            layout,
            world,
            rng,
            ask=world.ask,
            start_ns=0,
            poll_at_ns=AT_ONCE.poll_at_ns,
            check_at_ns=AT_ONCE.check_at_ns,
            final_name=lambda name: lambda at_ns: name != host or at_ns >= last_ns,
            final_place=lambda _at_ns, ip: ip in finals,
        )
        standing.settle(self._model, answered)
        self._users = Users(standing.backend, self._model.servers)

    def run(self, phases: Phases, slower_ns: int = 0) -> Seen:
        """Run until nothing can change any more, and look at the requests of all that time."""
        model, world = self._model, self._world
        self._rng.seed(phases.seed)
        world.begin(vacant_refuses=True)
        world.slower_ns = slower_ns
        model.begin(phases.poll_at_ns, phases.check_at_ns)
        history: list[tuple[int, Usable]] = [(ALWAYS_NS, model.usable())]
        for at_ns, _ in islice(model.instants(), STEPS_OF_A_TRIAL_MAX):
            self.steps += 1
            if world.changed:
                world.changed = False
                history.append((at_ns, model.usable()))
        until_ns = max(self._last_ns, history[-1][0], 0) + round(LOOKED_S * SECOND_NS)
        return self._users.see(
            history, meets=world.connect, edges_ns=[0], new=None, until_ns=until_ns
        )
