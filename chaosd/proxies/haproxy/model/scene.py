"""What a backend meets in a scenario: what its names are answered, and what its addresses meet."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple, Protocol

from chaosd.plugins.simulation import NEVER_NS, Reply
from chaosd.plugins.timeline import RECORD_TYPES, Answer, Failure, Meets, RecordType
from chaosd.proxies.haproxy.model.algorithm import BackendModel
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Follows,
    Happening,
    Resolver,
    Scenario,
    ServerLine,
)
from chaosd.proxies.haproxy.model.resolution import Ask
from chaosd.proxies.haproxy.model.timeline_world import (
    ROUND_TRIP_MORE_NS,
    ROUND_TRIP_NS,
    whole_ns,
)

ALWAYS_NS = -NEVER_NS
ENDLESS_S = 60.0  # how long what has no end is looked at
_MORE_BITS = ROUND_TRIP_MORE_NS.bit_length()
SLOTS_USED = 2  # of a `server-template`, where nothing else is said


def instances_of(backend: Backend, server: str) -> int:
    """How many addresses the name of this server line is answered with."""
    line = next(line for line in backend.servers if line.name == server)
    return min(line.slots, SLOTS_USED)


_OLD_MEETS = {
    Happening.MOVE: Meets.REFUSE,
    Happening.NODE_LOST: Meets.BLACKHOLE,
    Happening.TAKEN: Meets.IMPOSTER,
    Happening.GROWS: Meets.LISTENING,
    Happening.SHRINKS: Meets.REFUSE,
}


class AnyScene(Protocol):
    """What a backend meets in a trial, whether a scenario says so or a timeline."""

    @property
    def awaited(self) -> str | None:
        """The address of the new instance, with which it is over; None where nothing moves."""

    @property
    def ends_ns(self) -> int:
        """When all that is answered and met has changed for the last time."""

    @property
    def window_ns(self) -> int:
        """Until when DNS queries are counted."""

    @property
    def late_targets(self) -> bool:
        """Whether SRV answers come without the addresses of their targets."""

    def reply(self, now_ns: int, host: str, record: RecordType, resolver: Resolver) -> Reply:
        """What the nameservers of this section, all together, answer; beyond a round trip."""

    def questions(self, now_ns: int, host: str) -> int:
        """How many names are asked for in a poll of this one."""

    def name_edges(self) -> Sequence[int]:
        """When what is answered, or how many names are asked for, changes."""

    def poll_takes_ns(self, resolver: Resolver) -> int:
        """How long a poll takes at rest, but for round trips."""

    def final_name(self, host: str) -> Callable[[int], bool]:
        """Whether what this name is answered changes no more after an instant."""

    def meets(self, now_ns: int, ip: str) -> Meets:
        """What a connect to this address meets."""

    def place_edges(self) -> Sequence[int]:
        """When what is met at any address changes."""

    def final_place(self, now_ns: int, ip: str) -> bool:
        """Whether what this address meets changes no more after this instant."""

    def settle(self, model: BackendModel) -> None:
        """Let the servers have what they have had for long before T0."""


class Scene:
    """A scenario, met by a backend whose server line `moved` stands for the instance that moves."""

    def __init__(self, backend: Backend, scenario: Scenario, moved: ServerLine) -> None:
        self.backend, self.scenario = backend, scenario
        host = _host(moved)
        self._addresses = _addresses(backend, scenario, host)
        self.old, self.new = f"{host}#1", f"{host}#new"
        moves = scenario.happening is not Happening.DNS_TROUBLE
        self.awaited = self.new if moves else None
        self.late_targets = not scenario.additional
        self._host = host
        self._services = {line.host for line in backend.servers if line.follows is Follows.SERVICE}
        published_ns = whole_ns(scenario.published_s)
        self.window_ns = min(published_ns, whole_ns(ENDLESS_S))
        self._trouble_until_ns = ALWAYS_NS
        # Of the name: from when on it is answered so. Of the addresses: what they meet.
        self._edges: tuple[list[int], list[Answer]] = ([], [])
        self._old_meets = Meets.LISTENING
        self._listening_ns = self._healthy_ns = ALWAYS_NS
        if scenario.happening is Happening.DNS_TROUBLE:
            self._trouble_until_ns = published_ns
        else:
            self._old_meets = _OLD_MEETS[scenario.happening]
            self._listening_ns = whole_ns(scenario.listening_s)
            self._healthy_ns = max(self._listening_ns, whole_ns(scenario.healthy_s))
            if scenario.happening is Happening.SHRINKS:
                self._listening_ns = self._healthy_ns = published_ns = NEVER_NS
            self._edges = self._move_edges(published_ns)
        self.ends_ns = max(0, *(at for at in self.place_edges() if at < NEVER_NS))
        if published_ns < NEVER_NS:
            self.ends_ns = max(self.ends_ns, published_ns)

    def _move_edges(self, published_ns: int) -> tuple[list[int], list[Answer]]:
        before = self._addresses[self._host]
        if self.scenario.happening is Happening.GROWS:
            return [published_ns], [(*before, self.new)]
        rest = before[1:]
        times: list[int] = [0]
        answers: list[Answer] = [before]
        if self.scenario.missing is not None:
            answers = [rest or self.scenario.missing]
        if published_ns < NEVER_NS:
            times.append(published_ns)
            answers.append((*rest, self.new))
        return times, answers

    # --- the names ---

    def before(self, host: str) -> tuple[str, ...]:
        """What this name was answered before T0."""
        return self._addresses[host]

    def answer(self, now_ns: int, host: str) -> Answer:
        times, answers = self._edges
        if host == self._host and (place := bisect_right(times, now_ns)):
            return answers[place - 1]
        return self._addresses[host]

    def reply(self, now_ns: int, host: str, record: RecordType, resolver: Resolver) -> Reply:
        """What the nameservers of this section, all together, answer; in no time."""
        service = host in self._services
        answer = self.answer(now_ns, host)
        if record == "AAAA" and not service and "A" in resolver.families:
            answer = answer if isinstance(answer, Failure) else Failure.EMPTY
        scenario = self.scenario
        living = resolver.nameservers - scenario.dead
        if living <= 0:
            return Reply(Failure.SILENCE)
        some_dead = scenario.dead > 0
        if not 0 <= now_ns < self._trouble_until_ns:
            return Reply(answer, partial=some_dead)
        if scenario.family is not None and (service or scenario.family != record):
            return Reply(answer, partial=some_dead)
        trouble = scenario.missing or Failure.SILENCE
        some = scenario.nameservers
        if some is None or some >= living:
            return Reply(trouble, partial=some_dead)
        return Reply(answer, partial=some_dead or trouble is Failure.SILENCE)

    def poll_takes_ns(self, resolver: Resolver) -> int:
        """How long a poll takes at rest, but for round trips.

        Where a nameserver is dead, that there is no AAAA is believed only after `timeout retry`.
        """
        first = {line.prefers for line in self.backend.servers if line.resolver == resolver}
        waits = self.scenario.dead > 0 and "AAAA" in first and len(resolver.families) > 1
        return resolver.timeout_retry_ns if waits else 0

    def questions(self, now_ns: int, host: str) -> int:
        """How many names are asked for in a poll of this one."""
        answer = self.answer(now_ns, host)
        if host not in self._services or self.scenario.additional or isinstance(answer, Failure):
            return 1
        return 1 + len(answer)

    def name_edges(self) -> list[int]:
        """When what is answered, or how many names are asked for, changes."""
        return [0, self._trouble_until_ns, *self._edges[0]]

    def final_name(self, host: str) -> Callable[[int], bool]:
        """Whether what this name is answered changes no more after an instant."""
        times, _ = self._edges
        last_ns = self.window_ns  # in which queries are counted
        if host == self._host and times:
            last_ns = max(last_ns, times[-1])
        if self._trouble_until_ns < NEVER_NS:
            last_ns = max(last_ns, self._trouble_until_ns)
        return lambda now_ns: now_ns >= last_ns

    # --- the addresses ---

    def meets(self, now_ns: int, ip: str) -> Meets:
        if ip == self.old and now_ns >= 0:
            return self._old_meets
        if ip == self.new:
            if now_ns < self._listening_ns:
                return Meets.REFUSE
            return Meets.LISTENING if now_ns >= self._healthy_ns else Meets.UNWELL
        return Meets.LISTENING

    def place_edges(self) -> list[int]:
        """When what is met at any address changes."""
        return [0, self._listening_ns, self._healthy_ns]

    def final_place(self, now_ns: int, ip: str) -> bool:
        """Whether what this address meets changes no more after this instant."""
        if ip == self.old:
            return now_ns >= 0 or self._old_meets is Meets.LISTENING
        return ip != self.new or now_ns >= self._healthy_ns or self._listening_ns == NEVER_NS

    # --- before T0 ---

    def settle(self, model: BackendModel) -> None:
        """Let the servers have what they have had for long before T0."""
        model.settle_names(0, self.before)
        for server in model.servers:
            line = server.line
            by_dns = line.follows in (Follows.NAME, Follows.SERVICE)
            if not by_dns and line.init_addr[:1] != ("none",):
                server.settle(f"{_host(line)}#1")


class _Answered(NamedTuple):
    """What the nameservers of a section answer to one question, from one edge to the next.

    What holds before all edges is the first of the replies, and of the queries that a poll costs.
    """

    times: list[int]
    replies: list[Reply]
    queries: list[int]

    @classmethod
    def of(cls, scene: AnyScene, resolver: Resolver, host: str, record: RecordType) -> _Answered:
        times = sorted({*scene.name_edges()})
        pieces = (ALWAYS_NS, *times)
        return cls(
            times,
            [scene.reply(at_ns, host, record, resolver) for at_ns in pieces],
            [resolver.nameservers * scene.questions(at_ns, host) for at_ns in pieces],
        )


class SceneWorld:
    """The world that a model meets in one trial of a scene.

    It counts the queries of the first seconds, and notes that a server has changed.
    """

    def __init__(self, scene: AnyScene, rng: Random, *, count_until_ns: int) -> None:
        self.connect = scene.meets
        self._scene, self._rng, self._count_until_ns = scene, rng, count_until_ns
        self.begin()

    def begin(self) -> None:
        """Begin (anew)."""
        self.changed = False
        self.queries = 0

    def ask(self, resolver: Resolver, host: str) -> Ask:
        scene, rng, until_ns = self._scene, self._rng, self._count_until_ns
        answered = {record: _Answered.of(scene, resolver, host, record) for record in RECORD_TYPES}
        draw = rng.getrandbits

        def ask(now_ns: int, record: RecordType) -> Reply:
            times, replies, queries = answered[record]
            place = bisect_right(times, now_ns)
            if 0 <= now_ns < until_ns:
                self.queries += queries[place]
            reply = replies[place]
            if reply.answer is Failure.SILENCE:
                return reply
            while (more_ns := draw(_MORE_BITS)) >= ROUND_TRIP_MORE_NS:  # as `below` does it
                pass
            return Reply(reply.answer, reply.took_ns + ROUND_TRIP_NS + more_ns, reply.partial)

        return ask

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        self.changed = True


def _host(line: ServerLine) -> str:
    return line.host or f"{line.name} of {line.line}"


def _addresses(backend: Backend, scenario: Scenario, moved: str) -> dict[str, tuple[str, ...]]:
    """What each name is answered before T0."""
    counts: dict[str, int] = {}
    for line in backend.servers:
        host = _host(line)
        counts[host] = max(counts.get(host, 1), min(line.slots, SLOTS_USED))
    if scenario.instances is not None:
        counts[moved] = max(1, scenario.instances)
    return {
        host: tuple(f"{host}#{number}" for number in range(1, count + 1))
        for host, count in counts.items()
    }
