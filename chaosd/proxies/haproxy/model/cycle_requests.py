"""What the requests of one move in a run come to: a move's timeline, met by a standing backend.

Each trial runs on until nothing can change any more, and `Users` looks at its requests from T0
until the cycle's observation is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from chaosd.history.cycles import Prediction
from chaosd.plugins.simulation import NEVER_NS, Reply
from chaosd.plugins.timeline import Clients, Failure, Meets, RecordType, Timeline, Unreached
from chaosd.proxies.haproxy.model.algorithm import BackendModel, Layout
from chaosd.proxies.haproxy.model.backend import Balance, Resolver
from chaosd.proxies.haproxy.model.crowd import Counted
from chaosd.proxies.haproxy.model.moves import Move
from chaosd.proxies.haproxy.model.outlook import Ran, SceneTrials
from chaosd.proxies.haproxy.model.scene import ALWAYS_NS, ENDLESS_S
from chaosd.proxies.haproxy.model.server import SECOND_NS
from chaosd.proxies.haproxy.model.standing import BESIDE, NOBODY, Standing
from chaosd.proxies.haproxy.model.timeline_world import Tracks, whole_ns
from chaosd.proxies.haproxy.model.trials import Recovery, distribution, widened
from chaosd.proxies.haproxy.model.trials import predicted as predicted_in_turn
from chaosd.proxies.haproxy.model.users import PATIENT, Seen

# Trials, of which some say how far apart requests may be; fewer where they are very long.
TRIALS_MIN, TRIALS_LEAST, STEPS_MOST = 32, 12, 12_000
WIDER = 0.1  # of the range of all trials, at each end: they only come near to what is possible


class StandingScene:
    """A move's timeline as a scene: what names are answered and what addresses meet."""

    late_targets = False

    def __init__(
        self, standing: Standing, move: Move, timeline: Timeline, tracks: Tracks, vacant: Meets
    ) -> None:
        self.backend = standing.backend
        self.awaited = move.new
        self._standing, self._move, self._tracks, self._vacant = standing, move, tracks, vacant
        self._edges = sorted({whole_ns(edge.at_s) for edge in timeline.places if edge.at_s >= 0})
        self._last_ns: dict[str, int] = {}
        for edge in timeline.places:
            self._last_ns[edge.address] = whole_ns(max(0.0, edge.at_s))
        self._name_edges = [whole_ns(edge.at_s) for edge in timeline.names]
        self._answers_ns = max(whole_ns(max(0.0, edge.at_s)) for edge in timeline.names)
        self.window_ns = self._answers_ns
        self.ends_ns = max([self._answers_ns, *self._edges])

    # --- the names ---

    def reply(self, now_ns: int, host: str, record: RecordType, resolver: Resolver) -> Reply:
        if host == self._standing.host:
            return self._tracks.reply(now_ns, record)
        return Reply((BESIDE,) if record == "A" else Failure.EMPTY)

    def questions(self, now_ns: int, host: str) -> int:
        return 1

    def name_edges(self) -> Sequence[int]:
        return self._name_edges

    def poll_takes_ns(self, resolver: Resolver) -> int:
        return 0

    def final_name(self, host: str) -> Callable[[int], bool]:
        last_ns = self._answers_ns if host == self._standing.host else ALWAYS_NS
        return lambda now_ns: now_ns >= last_ns

    # --- the addresses ---

    def meets(self, now_ns: int, ip: str) -> Meets:
        if ip in (BESIDE, NOBODY):
            return Meets.LISTENING if ip == BESIDE else Meets.REFUSE
        met = self._tracks.meets(now_ns, ip)
        return self._vacant if met is Meets.VACANT else met

    def place_edges(self) -> Sequence[int]:
        return self._edges

    def final_place(self, now_ns: int, ip: str) -> bool:
        return now_ns >= self._last_ns.get(ip, ALWAYS_NS)

    # --- before T0 ---

    def settle(self, model: BackendModel) -> None:
        self._standing.settle(model, (self._move.old, *self._move.others))


def with_requests(
    predicted: Prediction,
    standing: Standing,
    version: str | None,
    timeline: Timeline,
    *,
    move: Move,
    clients: Clients,
) -> Prediction:
    """The prediction, and what requests come to beside it."""
    tried = _tried(standing, version, timeline, move, clients)
    changes_ns = [trial.history[-1][0] for _, ran in tried for trial in ran]
    last_s = max(0.0, max(changes_ns) / SECOND_NS)
    until_s = min(clients.until_s, last_s + predicted.upper_s + ENDLESS_S)
    return _with_spreads(predicted, _seen(tried, until_s))


def from_requests(
    standing: Standing,
    version: str | None,
    timeline: Timeline,
    *,
    move: Move,
    clients: Clients | None,
) -> Prediction | Unreached:
    """All of the prediction, where what becomes of a request depends on others.

    Without `clients` nothing is said of what requests come to. `balance leastconn` gives a server
    that holds a request none while another is idle, but requests that are late meet others: then
    it may have one as soon as it is found.
    """
    tried = _tried(standing, version, timeline, move, clients or PATIENT)
    seen = _seen(tried, math.inf)
    if any(one.recovery_s == math.inf for one in seen):
        return Unreached.NO_RECOVERY
    found = sorted(Recovery(one.recovery_s, max(one.recovery_s, one.stable_s)) for one in seen)
    lower_s, upper_s = widened([one.first_s for one in found])
    if standing.backend.balance is Balance.LEAST:
        soonest = predicted_in_turn(standing, version, move, timeline)
        lower_s = lower_s if isinstance(soonest, Unreached) else min(lower_s, soonest.lower_s)
    band = Prediction(lower_s=max(move.listening_s, lower_s), mean_s=0.0, upper_s=upper_s)
    predicted = distribution(band, found)
    return predicted if clients is None else _with_spreads(predicted, _seen(tried, clients.until_s))


_Tried = Sequence[tuple[SceneTrials, Sequence[Ran]]]


def _tried(
    standing: Standing, version: str | None, timeline: Timeline, move: Move, clients: Clients
) -> _Tried:
    """Trials: a vacant address refuses on loopback and is a black hole on a bridge: half each."""
    layout, tracks = Layout(standing.backend, version), Tracks(timeline)
    both = [
        SceneTrials(StandingScene(standing, move, timeline, tracks, vacant), layout, clients)
        for vacant in (Meets.REFUSE, Meets.BLACKHOLE)
    ]
    ran: list[Ran] = []
    steps = 0
    while len(ran) < TRIALS_MIN and (len(ran) < TRIALS_LEAST or steps < STEPS_MOST):
        ran.append(both[len(ran) % 2].run(len(ran)))
        steps = sum(trials.steps for trials in both)
    return [(trials, ran[place::2]) for place, trials in enumerate(both)]


def _seen(tried: _Tried, until_s: float) -> Sequence[Seen | Counted]:
    until_ns = min(whole_ns(until_s), NEVER_NS)
    return [each for trials, ran in tried for each in trials.seen(ran, until_ns)]


def _with_spreads(predicted: Prediction, seen: Sequence[Seen | Counted]) -> Prediction:
    return replace(
        predicted,
        failed_s=_spread(seen, lambda one: one.failed_s),
        masked_s=_spread(seen, lambda one: one.masked_s),
        misrouted_s=_spread(seen, lambda one: one.misrouted_s),
    )


def _spread(
    seen: Sequence[Seen | Counted], of: Callable[[Seen | Counted], float]
) -> dict[str, float]:
    values = [of(one) for one in seen]
    low, high = min(values), max(values)
    wider = WIDER * (high - low)
    return {
        "lower": round(max(0.0, low - wider), 6),
        "mean": round(math.fsum(values) / len(values), 6),
        "upper": round(high + wider, 6),
    }
