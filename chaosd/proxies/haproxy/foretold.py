"""What a fault does to users, foretold for thousands of settings: alike ones are looked at once.

Arms of a sweep differ in settings of which many change nothing. Most versions are alike for the
model; where the nameserver's trouble takes no address away, only the `resolvers` section counts.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from chaosd.plugins.timeline import (
    ALWAYS,
    RECORD_TYPES,
    Clients,
    Failure,
    Foretold,
    Meets,
    Timeline,
    Unreached,
)
from chaosd.proxies.haproxy.model.algorithm import BACKEND, Layout, backend_of
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Beyond,
    CheckKind,
    Happening,
    Outlook,
    Scenario,
    Unknown,
)
from chaosd.proxies.haproxy.model.cycle_requests import StandingScene
from chaosd.proxies.haproxy.model.moves import recognise
from chaosd.proxies.haproxy.model.outlook import SceneTrials, outlook, queries_per_s
from chaosd.proxies.haproxy.model.predicting import began_early_s, predict_any
from chaosd.proxies.haproxy.model.server import SECOND_NS
from chaosd.proxies.haproxy.model.settings import Settings
from chaosd.proxies.haproxy.model.standing import BESIDE, Standing
from chaosd.proxies.haproxy.model.timeline_world import Tracks
from chaosd.proxies.haproxy.model.trouble import is_trouble
from chaosd.proxies.haproxy.model.versions import CHECKS_ASK_AGAIN, HAS_INIT_STATE, parse_version
from chaosd.proxies.haproxy.outlooks import without_names

_KNOWN_MAX = 20_000
_QUERY_TRIALS = 16
_HAPPENINGS = {
    Meets.REFUSE: Happening.MOVE,
    Meets.VACANT: Happening.MOVE,  # on loopback, nobody's address refuses
    Meets.BLACKHOLE: Happening.NODE_LOST,
    Meets.IMPOSTER: Happening.TAKEN,
}
_BEYOND = {
    Beyond.NO_SERVER: Unreached.OTHER_SERVERS,
    Beyond.NO_NAMESERVER: Unreached.NO_NEW_ADDRESS,
    Beyond.OLD_VERSION: Unreached.OLD_VERSION,
    Beyond.TOO_MANY: Unreached.OTHER_SERVERS,
}


def foretell(
    standing: Standing, version: str | None, happening: Timeline, clients: Clients
) -> Foretold | Unreached:
    """What this does to the users of a backend. The name that moves has a server line at least."""
    backend = standing.backend
    place = backend.servers.index(standing.moved[0])
    if happening.undisturbed is not None:
        others = tuple(standing.places.get(line.name, BESIDE) for line in backend.servers)
        return _beside(without_names(backend), version, happening, clients, place, others=others)
    scenario = _scenario(backend, happening, place)
    if isinstance(scenario, Unreached):
        return scenario
    alike = without_names(backend)
    version = _oldest_alike(alike, version)
    found = None
    if scenario.happening is Happening.DNS_TROUBLE:
        found = _outlook(_resolving_only(alike), version, scenario, clients, place)
        if isinstance(found, Outlook) and found.unaffected < 1:
            found = None  # an address is taken away: then all of it counts
    found = found or _outlook(alike, version, scenario, clients, place)
    if isinstance(found, Unknown):
        return _BEYOND.get(Beyond(found.why), Unreached.OTHER_SERVERS)
    return Foretold(
        recovery_p50_s=found.recovery_s.p50,
        recovery_p95_s=found.recovery_s.p95,
        failed_s=found.failed_s.mean,
        misrouted_s=found.misrouted_s.mean,
        rest_queries_per_s=found.queries_per_s,
        trouble_queries_per_s=found.queries_in_trouble_per_s,
    )


def foretell_simple(
    settings: Settings, version: str | None, happening: Timeline, clients: Clients
) -> Foretold | Unreached:
    """The same for the backend of one name that chaosd's own YAML makes."""
    if settings.unknown_words:
        return Unreached.UNKNOWN_WORDS
    servers = len(happening.answer(ALWAYS, "A"))
    backend = backend_of(settings, servers=servers)
    return foretell(Standing(backend=backend, host=BACKEND), version, happening, clients)


def _scenario(backend: Backend, happening: Timeline, place: int) -> Scenario | Unreached:
    if is_trouble(happening):
        return _trouble(happening)
    move = recognise(happening, backend.servers[place].prefers)
    if isinstance(move, Unreached):
        return move
    what = _HAPPENINGS.get(move.old_ip)
    if what is None:
        return Unreached.OTHER_TIMELINE
    return Scenario(
        happening=what,
        published_s=move.published_s,
        listening_s=move.listening_s,
        healthy_s=move.listening_s,
        missing=None if move.missing_s is None else move.missing,
        instances=1 + len(move.others),
    )


def _trouble(happening: Timeline) -> Scenario | Unreached:
    """Nothing moves, and every question is answered by one failure: of one record type, or of both.

    It begins at T0, at each nameserver.
    """
    wrong = [edge for edge in happening.names if edge.at_s > ALWAYS]
    ends_s = max((edge.at_s for edge in wrong), default=0.0)
    wrong = [edge for edge in wrong if edge.at_s < ends_s]
    answers = {edge.answer for edge in wrong}
    records = [record for record in RECORD_TYPES if any(e.record == record for e in wrong)]
    asked = [
        happening.names_of(record, nameserver)
        for record in records
        for nameserver in range(happening.nameservers)
    ]
    is_whole = all(any(edge in wrong for edge in track) for track in asked)
    usual_s = {edge.took_s for edge in happening.names if edge.at_s == ALWAYS}
    is_prompt = (e.is_plain and e.at_s == 0 and e.took_s in usual_s for e in wrong)
    answer = answers.pop() if len(answers) == 1 else None
    if not isinstance(answer, Failure) or not is_whole or not all(is_prompt):
        return Unreached.OTHER_ANSWERS
    return Scenario(
        happening=Happening.DNS_TROUBLE,
        published_s=ends_s,
        missing=answer,
        family=records[0] if len(records) == 1 else None,
        instances=len(happening.answer(ALWAYS, "A")),
    )


@lru_cache(maxsize=_KNOWN_MAX)
def _outlook(
    backend: Backend, version: str | None, scenario: Scenario, clients: Clients, place: int
) -> Outlook | Unknown:
    name = backend.servers[place].name
    return outlook(backend, version, scenario, moved=name, clients=clients)


@lru_cache(maxsize=_KNOWN_MAX)
def _beside(
    backend: Backend,
    version: str | None,
    happening: Timeline,
    clients: Clients,
    place: int,
    *,
    others: tuple[str, ...],
) -> Foretold | Unreached:
    """The same for a move with DNS trouble beside it. `others`: where each line's server stands."""
    places = {line.name: where for line, where in zip(backend.servers, others, strict=True)}
    host = backend.servers[place].host or ""
    standing = Standing(backend=backend, host=host, places=places)
    predicted = predict_any(standing, version, happening, clients)
    if isinstance(predicted, Unreached):
        return predicted
    failed, misrouted = predicted.failed_s, predicted.misrouted_s
    if failed is None or misrouted is None or predicted.quantiles_s is None:
        return Unreached.OTHER_ANSWERS  # they are left to chance
    return Foretold(
        recovery_p50_s=predicted.quantiles_s["p50"],
        recovery_p95_s=predicted.quantiles_s["p95"],
        failed_s=failed["mean"],
        misrouted_s=misrouted["mean"],
        rest_queries_per_s=queries_per_s(backend),
        trouble_queries_per_s=_queries_per_s(standing, version, happening),
    )


def _queries_per_s(standing: Standing, version: str | None, happening: Timeline) -> float:
    """DNS queries from its begin until the name is answered as it will be from then on."""
    move = recognise(happening, standing.moved[0].prefers)
    assert not isinstance(move, Unreached)  # noqa: S101 - it was predicted
    early_s = began_early_s(happening)
    happening, move = happening.later(early_s), move.later(early_s)
    scene = StandingScene(standing, move, happening, Tracks(happening), Meets.REFUSE)
    trials = SceneTrials(scene, Layout(standing.backend, version))
    queries = sum(trials.run(number).queries for number in range(_QUERY_TRIALS))
    return queries / _QUERY_TRIALS / (scene.window_ns / SECOND_NS)


def _oldest_alike(backend: Backend, version: str | None) -> str | None:
    """The oldest version that does the same with this backend, in all that is asked here."""
    has_state = any(line.init_state is not None for line in backend.servers)
    for since in (HAS_INIT_STATE,) if has_state else ():
        if parse_version(version) >= since:
            return ".".join(map(str, since))
    if parse_version(version) >= CHECKS_ASK_AGAIN:
        return ".".join(map(str, CHECKS_ASK_AGAIN))
    return version


def _resolving_only(backend: Backend) -> Backend:
    """The same without what matters only once a server has lost its address."""
    servers = tuple(
        replace(
            line,
            check=CheckKind.NONE,
            fall=1,
            rise=1,
            shuts_sessions=False,
            inter_ns=10**9,
            fastinter_ns=10**9,
            downinter_ns=10**9,
        )
        for line in backend.servers
    )
    return replace(
        backend,
        servers=servers,
        retries=0,
        redispatch_every=0,
        timeout_connect_ns=None,
        timeout_server_ns=None,
        timeout_check_ns=None,
    )
