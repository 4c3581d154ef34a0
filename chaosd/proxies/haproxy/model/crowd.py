"""What users see where it matters how many they are: each request of a trial is walked through.

With `leastconn`, `random`, `maxconn`, `observe` and `slowstart` what becomes of a request depends
on those before it. Requests come evenly, `Clients.rate` of them a second, in a phase of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import NamedTuple

from chaosd.plugins.simulation import NEVER_NS, below
from chaosd.plugins.timeline import Clients, Meets
from chaosd.proxies.haproxy.model.algorithm import BackendModel
from chaosd.proxies.haproxy.model.server import SECOND_NS
from chaosd.proxies.haproxy.model.timeline_world import whole_ns

BEFORE = 3  # so many requests come before T0
REQUESTS_MAX = 20_000  # of a trial
TURNS_MAX = 20  # so many requests for each server, at the end, for the new instance to get one


class Sample(NamedTuple):
    """A request."""

    scheduled_ns: int
    done_ns: int
    ip: str | None  # who answered; None: HAProxy itself
    met: Meets | None  # there


class Counted(NamedTuple):
    """What all requests of one trial came to, in seconds' worth; as `users.Seen` says it."""

    failed_s: float
    masked_s: float
    misrouted_s: float
    slowest_s: float
    recovery_s: float
    stable_s: float


class Crowd:
    """The requests of one trial after the other."""

    def __init__(
        self, model: BackendModel, meets: Callable[[int, str], Meets], clients: Clients, rng: Random
    ) -> None:
        self._model, self._meets, self._clients, self._rng = model, meets, clients, rng
        self.samples: list[Sample] = []

    def instants(self, *, ends_ns: int, most_ns: int, awaited: str | None) -> Iterator[int]:
        """Ask until nothing can change any more, with a pause after each instant.

        Where requests still fail then, that is for so long at most.
        """
        model, self.samples = self._model, []
        period_ns = round(SECOND_NS / self._clients.rate)
        at_ns = below(self._rng, period_ns) - BEFORE * period_ns
        model.requests.start()
        turns = TURNS_MAX * len(model.servers)
        for _ in range(REQUESTS_MAX):
            while model.next_ns() <= at_ns:
                model.advance(next_ns := model.next_ns())
                yield next_ns
            model.request(at_ns, partial(self._ended, at_ns))
            yield at_ns
            at_ns += period_ns
            if at_ns <= ends_ns or model.next_change_ns() < NEVER_NS:
                ends_ns = max(ends_ns, at_ns)
            elif self._is_calm(at_ns):
                turns -= 1
                if not turns or not self._awaits(awaited):
                    return
            elif at_ns > ends_ns + most_ns:
                return

    def _is_calm(self, now_ns: int) -> bool:
        """Whether all that is usable answers, and no request is under way."""
        model = self._model
        if model.next_ns() < NEVER_NS:
            return False
        ips = [server.ip for server in model.servers if server.usable and server.ip]
        return bool(ips) and all(self._meets(now_ns, ip) is Meets.LISTENING for ip in ips)

    def _awaits(self, awaited: str | None) -> bool:
        """Whether this instance may still answer for the first time."""
        if awaited is None or any(s.ip == awaited and self._is_fresh(s) for s in self.samples):
            return False
        return any(server.ip == awaited and server.usable for server in self._model.servers)

    def _ended(self, at_ns: int, done_ns: int, status: int, ip: str | None) -> None:
        met = None if ip is None or status else self._meets(done_ns, ip)
        self.samples.append(Sample(at_ns, done_ns, ip, met))

    def _is_fresh(self, sample: Sample) -> bool:
        slow = sample.done_ns - sample.scheduled_ns > whole_ns(self._clients.slow_after_s)
        return sample.met is Meets.LISTENING and not slow

    def count(self, samples: list[Sample], *, until_ns: int, awaited: str | None) -> Counted:
        """What the requests come to that begin from T0 until this instant."""
        clients = self._clients
        slow_ns, patience_ns = whole_ns(clients.slow_after_s), whole_ns(clients.patience_s)
        good: list[Sample] = []
        bad: list[Sample] = []
        masked = misrouted = slowest_ns = 0
        for sample in sorted(samples):
            if not 0 <= sample.scheduled_ns < until_ns:
                continue
            waited_ns = sample.done_ns - sample.scheduled_ns
            slowest_ns = max(slowest_ns, min(waited_ns, patience_ns))
            if sample.met is Meets.LISTENING and waited_ns < patience_ns:
                good.append(sample)
                masked += waited_ns >= slow_ns
            else:
                bad.append(sample)
                misrouted += sample.met is Meets.IMPOSTER
        last_ns = bad[-1].scheduled_ns if bad else -1
        after = [sample.done_ns for sample in good if sample.scheduled_ns > last_ns]
        stable_s = (min(after) / SECOND_NS if after else math.inf) if bad else 0.0
        fresh = [s.done_ns for s in good if s.ip == awaited and self._is_fresh(s)]
        recovery_s = min(fresh) / SECOND_NS if fresh else math.inf
        return Counted(
            failed_s=(len(bad) - misrouted) / clients.rate,
            masked_s=masked / clients.rate,
            misrouted_s=misrouted / clients.rate,
            slowest_s=slowest_ns / SECOND_NS,
            recovery_s=stable_s if awaited is None else recovery_s,
            stable_s=stable_s,
        )
