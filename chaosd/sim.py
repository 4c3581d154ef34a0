"""A world without a world: the proxy's model, a name, an app and its probes under virtual time.

Theory of operation. Each cell is a `_World` that knows only what is due and when: planned changes
(an instance begins to listen, a name is published), the proxy's model, and the probes. Whoever
touches it advances it to now first, so that everything happens in the order of its time although
probes are only looked at every 50 ms. Nothing here asks for real time, and all randomness comes
from the cell's seed: one seed gives one history.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

from pydantic import Field

from chaosd.clock import SECOND_NS, Clock, VirtualClock, VirtualLoop
from chaosd.errors import ConfigError, MachineError
from chaosd.events import Address, Instance, Outcome, Sample, StreamSpec
from chaosd.plugins import (
    CanReplace,
    CellSpec,
    Deliver,
    DnsSpec,
    Holder,
    OldIp,
    ProbeConfig,
    Recorder,
    RuntimeConfig,
)
from chaosd.proxies.haproxy.model import NEVER_NS, Answer, Connected, ProxyModel, Request
from chaosd.units import Duration

BATCH_NS = 50_000_000  # how often samples are delivered
SPAWN_NS = 2_000_000  # from asking for a process to having one
KILL_NS, TERM_NS = 1_000_000, 5_000_000  # from the signal to the process being gone
TAKE_NS = 1_000_000  # until a placeholder has an IP
FIRST_PORT = 20_000

_ERRORS = {"nxdomain": "NXDOMAIN", "servfail": "SERVFAIL", "refused": "REFUSED"}
_FOUND: dict[str, Connected] = {
    "app": "ok",
    "imposter": "ok",
    "refuse": "refused",
    "vacant": "refused",
    "blackhole": "timeout",
    "tarpit": "silent",
}
_UNANSWERED = {"refused": Outcome.REFUSED}  # the rest is silence


class SimConfig(RuntimeConfig):
    """The weather of the simulated world."""

    type: Literal["sim"]
    version: str = Field(
        "3.0.11", pattern=r"^\d+\.\d+(\.\d+)?$", description="the HAProxy that is simulated"
    )
    app_start: Duration = Field(Duration(30_000_000), description="from start to listening")
    latency: Duration = Field(Duration(150_000), description="of a good answer")
    dns_latency: Duration = Field(Duration(200_000), description="of a DNS answer")


def _about(rng: Random, value_ns: int) -> int:
    """This much, give or take a fifth."""
    return value_ns * rng.randrange(800, 1201) // 1000


class _Stream:
    """One row of probes: its grid, and the shots that have not been delivered yet."""

    def __init__(self, spec: StreamSpec, timeout_ns: int, rng: Random) -> None:
        self.spec, self.timeout_ns, self._rng = spec, timeout_ns, rng
        self.target: Address | None = None
        self.origin_ns: int | None = None
        self.scheduled_ns = NEVER_NS
        self.sent_ns = NEVER_NS
        self.waiting: list[tuple[int, int, Request]] = []  # scheduled, sent
        self.ended: list[Sample] = []

    def aim(self, now_ns: int, target: Address | None) -> None:
        """From now on, on the same grid as ever."""
        resumed = self.target is None and target is not None
        self.target = target
        if target is None:
            self.scheduled_ns = self.sent_ns = NEVER_NS
        elif resumed:
            interval_ns = self.spec.interval_ns
            if self.origin_ns is None:
                self.origin_ns = now_ns + self._rng.randrange(interval_ns)
            steps = max(0, -((self.origin_ns - now_ns) // interval_ns))
            self._schedule(self.origin_ns + steps * interval_ns)

    def next(self) -> None:
        self._schedule(self.scheduled_ns + self.spec.interval_ns)

    def _schedule(self, at_ns: int) -> None:
        self.scheduled_ns, self.sent_ns = at_ns, at_ns + self._rng.randrange(10_000, 60_000)

    def end(
        self,
        scheduled_ns: int,
        sent_ns: int,
        done_ns: int,
        outcome: Outcome,
        status: int = 0,
        who: str = "",
    ) -> None:
        deadline_ns = scheduled_ns + self.timeout_ns
        if done_ns > deadline_ns:
            done_ns, outcome, status, who = deadline_ns, Outcome.TIMEOUT, 0, ""
        stream = self.spec.stream
        self.ended.append(Sample(stream, scheduled_ns, sent_ns, done_ns, outcome, status, who))

    def collect(self, now_ns: int) -> tuple[list[Sample], int]:
        """What has ended by now, and up to when everything has been handed over."""
        done = sorted(
            (sample for sample in self.ended if sample.done_ns <= now_ns),
            key=lambda sample: (sample.done_ns, sample.scheduled_ns),
        )
        self.ended = [sample for sample in self.ended if sample.done_ns > now_ns]
        pending = [scheduled_ns for scheduled_ns, *_ in self.waiting]
        pending += [sample.scheduled_ns for sample in self.ended]
        return done, min([*pending, self.scheduled_ns, now_ns])


class _World:
    """One cell: who is at which IP, what the name says, and what is due when."""

    def __init__(self, cell: CellSpec, weather: SimConfig, recorder: Recorder) -> None:
        self.recorder = recorder
        self.rng = Random(f"{cell.seed} world")  # noqa: S311 - a simulation's, and seeded
        self.streams: list[_Stream] = []
        self.at_ip: dict[str, tuple[str, str]] = {}  # what is there, and who that is
        self.dns_queries = 0
        self.model: ProxyModel | None = None
        self._dns, self._weather = cell.dns, weather
        self._zone: tuple[str, ...] = ()
        self._stale: tuple[str, ...] = ()
        self._answers: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._plans: list[tuple[int, int, Callable[[int], None]]] = []
        self._planned = 0

    # --- time ---

    def plan(self, at_ns: int, change: Callable[[int], None]) -> None:
        """Let this happen at that instant."""
        self._planned += 1
        heapq.heappush(self._plans, (at_ns, self._planned, change))

    def next_ns(self) -> int:
        """When something happens next, probes left aside."""
        planned = self._plans[0][0] if self._plans else NEVER_NS
        return min(planned, self.model.next_ns() if self.model is not None else NEVER_NS)

    def advance(self, now_ns: int) -> None:
        """Let everything happen that is due by now, in the order of its time."""
        while True:
            at_ns = self.next_ns()
            stream = min(self.streams, key=lambda stream: stream.sent_ns, default=None)
            if stream is not None and stream.sent_ns < at_ns:
                if stream.sent_ns > now_ns:
                    return
                self._fire(stream)
            elif at_ns > now_ns:
                return
            elif self._plans and self._plans[0][0] == at_ns:
                heapq.heappop(self._plans)[2](at_ns)
            elif self.model is not None:
                self.model.advance(at_ns)

    # --- the name ---

    def publish(self, at_ns: int, ip: str) -> None:
        if ip not in self._zone:
            self._name(at_ns, (*self._zone, ip))

    def withdraw(self, at_ns: int, ip: str) -> None:
        if ip in self._zone:
            self._name(at_ns, tuple(other for other in self._zone if other != ip))

    def _name(self, at_ns: int, ips: tuple[str, ...]) -> None:
        self._stale, self._zone = self._zone, ips
        if ips:
            self.recorder.reading("dns", "published", at_ns=at_ns, ips=list(ips))
        else:
            self.recorder.reading("dns", "withdrawn", at_ns=at_ns)

    def resolve(self, now_ns: int, qtype: str) -> Answer | None:
        """Answer as chaosd's own nameserver does (the model asks)."""
        self.dns_queries += 1
        rcode, ips = _say(self._dns, self._zone, self._stale)
        took_ns = _about(self.rng, self._weather.dns_latency)
        if qtype != "A":
            ips = ()
        if self._answers.get(qtype) != (rcode, ips):
            self._answers[qtype] = (rcode, ips)
            self.recorder.reading(
                *("dns", "answer"),
                at_ns=now_ns,
                qtype=qtype,
                rcode=rcode,
                ips=list(ips),
                took_ns=took_ns,
            )
        return Answer(rcode, ips, took_ns) if rcode != "DROP" else None

    # --- who is where ---

    def connect(self, now_ns: int, ip: str) -> Connected:  # noqa: ARG002 - the model tells the time
        return _FOUND[self.at_ip.get(ip, ("vacant", ""))[0]]

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        self.recorder.reading("proxy.log", what, at_ns=at_ns, **data)

    # --- probes ---

    def _fire(self, stream: _Stream) -> None:
        scheduled_ns, sent_ns, target = stream.scheduled_ns, stream.sent_ns, stream.target
        stream.next()
        if stream.spec.via == "proxy":
            if self.model is not None:
                request = self.model.request(sent_ns)
                if request.end_ns is None:
                    stream.waiting.append((scheduled_ns, sent_ns, request))
                else:
                    self._end(stream, scheduled_ns, sent_ns, request)
        elif target is not None:
            kind, who = self.at_ip.get(target.host, ("vacant", ""))
            connected, took_ns = _FOUND[kind], _about(self.rng, self._weather.latency)
            if connected == "ok":
                stream.end(scheduled_ns, sent_ns, sent_ns + took_ns, Outcome.OK, 200, who)
            elif connected == "refused":
                stream.end(scheduled_ns, sent_ns, sent_ns + took_ns, Outcome.REFUSED)
            else:
                stream.end(scheduled_ns, sent_ns, NEVER_NS, Outcome.TIMEOUT)

    def _end(self, stream: _Stream, scheduled_ns: int, sent_ns: int, request: Request) -> None:
        done_ns = (request.end_ns or 0) + _about(self.rng, self._weather.latency)
        if request.status:
            stream.end(scheduled_ns, sent_ns, done_ns, Outcome.HTTP_ERROR, request.status)
        else:
            _, who = self.at_ip.get(request.ip or "", ("", ""))
            stream.end(scheduled_ns, sent_ns, done_ns, Outcome.OK, 200, who)

    def settle(self, now_ns: int) -> None:
        """Look after the requests that had to wait for a retry."""
        for stream in self.streams:
            waiting, stream.waiting = stream.waiting, []
            for scheduled_ns, sent_ns, request in waiting:
                if request.end_ns is not None:
                    self._end(stream, scheduled_ns, sent_ns, request)
                elif scheduled_ns + stream.timeout_ns <= now_ns:
                    stream.end(scheduled_ns, sent_ns, NEVER_NS, Outcome.TIMEOUT)
                else:
                    stream.waiting.append((scheduled_ns, sent_ns, request))


def _say(
    dns: DnsSpec, zone: tuple[str, ...], stale: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """What the name answers: the rcode ("DROP" for silence) and the addresses."""
    if zone:
        return "NOERROR", zone
    if dns.missing == "stale":
        return "NOERROR", stale
    if dns.missing == "drop":
        return "DROP", ()
    return _ERRORS.get(dns.missing, "NOERROR"), ()
