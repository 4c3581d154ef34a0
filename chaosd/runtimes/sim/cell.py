"""One cell of the simulated world: what is due when, who is where, what the name says, and probes.

It knows nothing of an event loop: its owner advances it to now before touching it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from chaosd.dns.rules import RuleBook
from chaosd.history.events import NameAnswered
from chaosd.history.values import Address, Outcome, Sample, StreamSpec
from chaosd.plugins.dns_trouble import meaning
from chaosd.plugins.proxy import log_event
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec
from chaosd.plugins.simulation import ANSWERS, NEVER_NS, Model, Reply, below, together
from chaosd.plugins.timeline import Answer, Failure, Meets, RecordType
from chaosd.probes.pace import Pace
from chaosd.system.clock import SECOND_NS

# An IP that nobody has taken since its instance is gone refuses connections, as on loopback.
NOBODY = (Meets.REFUSE, "")

RCODES = {
    Failure.NXDOMAIN: "NXDOMAIN",
    Failure.SERVFAIL: "SERVFAIL",
    Failure.REFUSED: "REFUSED",
    Failure.EMPTY: "NOERROR",
    Failure.SILENCE: "",
    Failure.ERROR: "FORMERR",
    Failure.TRUNCATED: "NOERROR",
    Failure.DAMAGED: "NOERROR",
}


def about(rng: Random, value_ns: int) -> int:
    """This much, give or take a fifth."""
    return value_ns * (800 + below(rng, 401)) // 1000


def _failure_of(said: str) -> Failure:
    """How a name without an address is answered; with `stale`, one that never had any."""
    return Failure.NXDOMAIN if said == "stale" else Failure(said)


class Shot:
    """One probe that has been sent and not been delivered yet."""

    __slots__ = ("over", "scheduled_ns", "sent_ns")

    def __init__(self, scheduled_ns: int, sent_ns: int) -> None:
        self.scheduled_ns, self.sent_ns, self.over = scheduled_ns, sent_ns, False


class Stream:
    """One row of probes: its grid, and the shots that are under way."""

    def __init__(self, spec: StreamSpec, timeout_ns: int) -> None:
        self.spec, self.timeout_ns = spec, timeout_ns
        self.rng = Random()  # noqa: S311 - seeded below, once the cell's seed is known
        self.target: Address | None = None
        self.sent_ns = NEVER_NS  # when the next one is sent
        self._scheduled_ns = NEVER_NS
        self._origin_ns: int | None = None
        self._pace = Pace(spec.interval_ns, spec.idle_every)
        self._shots: deque[Shot] = deque()
        self._ended: list[Sample] = []

    def aim(self, now_ns: int, target: Address | None, seed: str) -> None:
        """Send it there from now on, always on the same grid."""
        resumed = self.target is None and target is not None
        self.target = target
        if target is None:
            self.sent_ns = self._scheduled_ns = NEVER_NS
        elif resumed:
            if self._origin_ns is None:
                self.rng.seed(f"{seed} {self.spec.probe} {self.spec.via}")
                self._origin_ns = now_ns + self.rng.randrange(self.spec.interval_ns)
            self._schedule(self._pace.from_ns(max(now_ns, self._origin_ns), self._origin_ns))

    def pace(self, now_ns: int, *, dense: bool) -> None:
        """Use all slots from now on, or only some of them."""
        self._pace.turn(dense=dense)
        # One whose time has come is still sent.
        if self._origin_ns is not None and now_ns < self._scheduled_ns < NEVER_NS:
            self._schedule(self._pace.from_ns(now_ns + 1, self._origin_ns))

    def fire(self) -> Shot:
        """Take the next one, which is sent now."""
        shot = Shot(self._scheduled_ns, self.sent_ns)
        self._shots.append(shot)
        self._schedule(self._pace.from_ns(self._scheduled_ns + 1, self._origin_ns or 0))
        return shot

    def _schedule(self, at_ns: int) -> None:
        self._scheduled_ns, self.sent_ns = at_ns, at_ns + 10_000 + below(self.rng, 50_000)

    def end(
        self, shot: Shot, done_ns: int, outcome: Outcome, status: int = 0, who: str = ""
    ) -> None:
        if shot.over:  # it has timed out
            return
        shot.over = True
        deadline_ns = shot.scheduled_ns + self.timeout_ns
        if done_ns >= deadline_ns:
            done_ns, outcome, status, who = deadline_ns, Outcome.TIMEOUT, 0, ""
        self._ended.append(
            Sample(self.spec.stream, shot.scheduled_ns, shot.sent_ns, done_ns, outcome, status, who)
        )

    def collect(self, now_ns: int) -> tuple[list[Sample], int]:
        """Take what has ended by now; and before which instant nothing is missing."""
        shots = self._shots
        while shots and (shots[0].over or shots[0].scheduled_ns + self.timeout_ns <= now_ns):
            self.end(shots.popleft(), NEVER_NS, Outcome.TIMEOUT)
        done = [sample for sample in self._ended if sample.done_ns <= now_ns]
        done.sort(key=lambda sample: (sample.done_ns, sample.scheduled_ns))
        self._ended = [sample for sample in self._ended if sample.done_ns > now_ns]
        complete_ns = min(self._scheduled_ns, now_ns)
        if shots:
            complete_ns = min(complete_ns, shots[0].scheduled_ns)
        for sample in self._ended:
            complete_ns = min(complete_ns, sample.scheduled_ns)
        return done, complete_ns


class SimCell:
    """One cell: who is at which IP, what the name says, and what is due when."""

    def __init__(
        self, cell: CellSpec, recorder: Recorder, *, latency_ns: int, dns_latency_ns: int
    ) -> None:
        self.cell, self.recorder = cell, recorder
        self.rng = Random(f"{cell.seed} world")  # noqa: S311 - repeatable is the point
        self.streams: list[Stream] = []
        self.at_ip: dict[str, tuple[Meets, str]] = {}  # what is there, and its identity
        self.dns_queries = 0
        self.rules = RuleBook()  # what faults have made wrong with the name's answers
        self.model: Model | None = None
        self._latency_ns = latency_ns
        self._dns_latency_ns = dns_latency_ns + round(cell.dns.delay_s * SECOND_NS)
        self._zone: tuple[str, ...] = ()
        self._answers: dict[tuple[RecordType, int], Answer] = {}
        self._plans: list[tuple[int, int, Callable[[int], None]]] = []
        self._planned = 0

    # --- time ---

    def plan(self, at_ns: int, change: Callable[[int], None]) -> None:
        """Let this happen at that instant."""
        self._planned += 1
        heapq.heappush(self._plans, (at_ns, self._planned, change))

    def next_ns(self) -> int:
        """When something happens next, probes left aside."""
        at_ns = self._plans[0][0] if self._plans else NEVER_NS
        return at_ns if self.model is None else min(at_ns, self.model.next_ns())

    def advance(self, now_ns: int) -> None:
        """Let everything happen that is due by now, in the order of its time."""
        while True:
            at_ns = self.next_ns()
            stream, sent_ns = None, min(at_ns, now_ns + 1)
            for each in self.streams:
                if each.sent_ns < sent_ns:
                    stream, sent_ns = each, each.sent_ns
            if stream is not None:
                self._fire(stream)
            elif at_ns > now_ns:
                return
            elif self._plans and self._plans[0][0] == at_ns:
                heapq.heappop(self._plans)[2](at_ns)
            elif self.model is not None:
                self.model.advance(at_ns)

    # --- the name ---

    def answer_with(self, ips: list[str]) -> None:
        """Let the name have these addresses from now on; none: it is missing."""
        self._zone = tuple(ips)

    def resolve(self, now_ns: int, record: RecordType) -> Reply:
        """Answer a query of the proxy's model, which goes to all nameservers."""
        nameservers = range(self.cell.dns.nameservers)
        return together([self._resolve(now_ns, record, number) for number in nameservers])

    def _resolve(self, now_ns: int, record: RecordType, nameserver: int) -> Reply:
        self.dns_queries += 1
        answer: Answer = _failure_of(self.cell.dns.missing)
        if self._zone:
            answer = self._zone if record == "A" else Failure.EMPTY
        took_ns = about(self.rng, self._dns_latency_ns)
        wrong = self.rules.wrong(self.cell.dns.name, record, "udp", nameserver)
        if wrong is not None and (means := meaning(wrong)) is not None:
            took_ns += round((means.late_s + means.jitter_s * self.rng.random()) * SECOND_NS)
            answer = means.failure or answer
        if self._answers.get((record, nameserver)) != answer:
            self._answers[record, nameserver] = answer
            failed = isinstance(answer, Failure)
            said = NameAnswered(
                qtype=record,
                rcode=RCODES[answer] if isinstance(answer, Failure) else "NOERROR",
                ips=() if failed else tuple(answer),
                took_ns=took_ns,
                nameserver=nameserver + 1 if self.cell.dns.nameservers > 1 else None,
            )
            self.recorder.record(said, at_ns=now_ns)
        return Reply(answer, took_ns)

    # --- who is where ---

    def connect(self, now_ns: int, ip: str) -> Meets:
        """Say what the proxy's model meets there; this world is always at `now_ns`."""
        return self.at_ip.get(ip, NOBODY)[0]

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        """Store what the proxy's model would have logged."""
        self.recorder.record(log_event(what, data), at_ns=at_ns)

    # --- probes ---

    def _fire(self, stream: Stream) -> None:
        shot = stream.fire()
        if stream.spec.via == "proxy" and self.model is not None:

            def ended(at_ns: int, status: int, ip: str | None) -> None:
                done_ns = at_ns + about(stream.rng, self._latency_ns)
                if ip is None:
                    stream.end(shot, done_ns, Outcome.HTTP_ERROR, status)
                else:
                    stream.end(shot, done_ns, Outcome.OK, 200, self.at_ip[ip][1])

            self.model.request(shot.sent_ns, ended)
        elif stream.target is not None:
            met, who = self.at_ip.get(stream.target.host, NOBODY)
            done_ns = shot.sent_ns + about(stream.rng, self._latency_ns)
            if met in ANSWERS:
                stream.end(shot, done_ns, Outcome.OK, 200, who)
            elif met == Meets.REFUSE:
                stream.end(shot, done_ns, Outcome.REFUSED)
