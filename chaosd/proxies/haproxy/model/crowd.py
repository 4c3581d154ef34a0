"""What users see where it matters how many they are: each request of a trial is walked through.

With `leastconn`, `random`, `maxconn`, `observe` and `slowstart` what becomes of a request depends
on those before it. Requests come evenly, `Clients.rate` of them a second, in a phase of their own.
Those that are answered at once, with nothing between them, are taken together.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from chaosd.plugins.simulation import NEVER_NS, below
from chaosd.plugins.timeline import Clients, Meets
from chaosd.proxies.haproxy.model.algorithm import BackendModel
from chaosd.proxies.haproxy.model.scene import AnyScene
from chaosd.proxies.haproxy.model.server import SECOND_NS
from chaosd.proxies.haproxy.model.timeline_world import whole_ns

BEFORE = 3  # so many requests come before T0
TURNS_MAX = 20  # so many requests for each server, at the end, for the new instance to get one


class Sample(NamedTuple):
    """A request."""

    scheduled_ns: int
    done_ns: int
    ip: str | None  # who answered; None: HAProxy itself
    met: Meets | None  # there


class Row(NamedTuple):
    """Requests one after the other, from T0 on, that were over at once."""

    start_ns: int
    end_ns: int  # when the next one would come
    answered: bool  # by instances of the app; otherwise there was no server
    awaited_ns: int | None  # when the new instance answered the first of them


class Walked(NamedTuple):
    """The requests of one trial."""

    samples: list[Sample]
    rows: list[Row]


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

    def __init__(self, model: BackendModel, scene: AnyScene, clients: Clients, rng: Random) -> None:
        self._model, self._meets, self._clients, self._rng = model, scene.meets, clients, rng
        self._awaited, self._ends_ns = scene.awaited, scene.ends_ns
        self._edges_ns = sorted({0, *scene.place_edges()})
        self._period_ns = round(SECOND_NS / clients.rate)
        self._slow_ns = whole_ns(clients.slow_after_s)
        self._patience_ns = whole_ns(clients.patience_s)
        self.walked = Walked([], [])
        self._is_observed = any(server.line.observe for server in model.servers)
        self._found = False  # whether the new instance has given a fresh answer

    def instants(self, *, most_ns: int, steps_max: int) -> Iterator[tuple[int, int]]:
        """Ask until nothing can change any more, with pauses after instants.

        Each is when that is, and how many instants it stands for; there are so many together at
        most. Where requests still fail in the end, that is for so long at most.
        """
        model, requests, period_ns = self._model, self._model.requests, self._period_ns
        self.walked, self._found, ends_ns = Walked([], []), False, self._ends_ns
        at_ns = below(self._rng, period_ns) - BEFORE * period_ns
        requests.start()
        turns, steps = TURNS_MAX * len(model.servers), 0
        changes_ns = next_ns = model.next_ns()
        while steps < steps_max:
            if next_ns <= at_ns:
                due_ns = next_ns
                if due_ns < changes_ns and not self._is_observed:
                    requests.do_due(due_ns)
                else:
                    model.advance(due_ns)
                    changes_ns = model.next_change_ns()
                changes_ns, next_ns = self._next(changes_ns)
                steps += 1
                yield due_ns, 1
                continue
            room = self._room(at_ns, next_ns, changes_ns, ends_ns, most_ns)
            count = self._pass_by(at_ns, min(room, steps_max - steps)) if room else 0
            if not count:
                requests.begin(at_ns, partial(self._ended, at_ns))
                changes_ns, next_ns = self._next(changes_ns)
                count = 1
            steps += count
            yield at_ns, count
            at_ns += count * period_ns
            if at_ns <= ends_ns or changes_ns < NEVER_NS:
                ends_ns = max(ends_ns, at_ns)
            elif next_ns == NEVER_NS and self._is_calm(at_ns):
                turns -= 1
                if not turns or not self._awaits():
                    return
            elif at_ns > ends_ns + most_ns:
                return

    def _next(self, changes_ns: int) -> tuple[int, int]:
        """When the model does something next that is not about a request, and when anything.

        `changes_ns` is when it was before the last request.
        """
        if self._is_observed:
            changes_ns = self._model.next_change_ns()
        return changes_ns, min(changes_ns, self._model.requests.next_ns())

    def _room(
        self, at_ns: int, next_ns: int, changes_ns: int, ends_ns: int, most_ns: int
    ) -> int:
        """How many requests there are, from this one on, before anything can be different."""
        if at_ns < 0 or self._slow_ns <= 0:
            return 0
        place = bisect_right(self._edges_ns, at_ns)
        edge_ns = self._edges_ns[place] if place < len(self._edges_ns) else NEVER_NS
        room = -((at_ns - min(next_ns, edge_ns)) // self._period_ns)
        if changes_ns < NEVER_NS:
            return room
        if at_ns > ends_ns:  # it is asked after each request whether it is over
            if next_ns == NEVER_NS:
                return 1
            ends_ns += most_ns
        return min(room, max(1, (ends_ns - at_ns) // self._period_ns + 1))

    def _pass_by(self, at_ns: int, most: int) -> int:
        """Take together what is over at once: so many requests at most. Returns how many."""
        end_ns = at_ns + most * self._period_ns
        times_ns = range(at_ns, end_ns, self._period_ns)
        count, answered, awaited_ns = self._model.requests.pass_by(times_ns, self._awaited)
        if count:
            end_ns = at_ns + count * self._period_ns
            self.walked.rows.append(Row(at_ns, end_ns, answered, awaited_ns))
            self._found |= awaited_ns is not None
        return count

    def _is_calm(self, now_ns: int) -> bool:
        """Whether all that is usable answers, where no request is under way."""
        ips = [server.ip for server in self._model.servers if server.usable and server.ip]
        return bool(ips) and all(self._meets(now_ns, ip) is Meets.LISTENING for ip in ips)

    def _awaits(self) -> bool:
        """Whether the new instance may still answer for the first time."""
        awaited = self._awaited
        if awaited is None or self._found:
            return False
        return any(server.ip == awaited and server.usable for server in self._model.servers)

    def _ended(self, at_ns: int, done_ns: int, status: int, ip: str | None) -> None:
        met = None if ip is None or status else self._meets(done_ns, ip)
        sample = Sample(at_ns, done_ns, ip, met)
        self.walked.samples.append(sample)
        if ip == self._awaited and self._is_fresh(sample):
            self._found = True

    def _is_fresh(self, sample: Sample) -> bool:
        slow = sample.done_ns - sample.scheduled_ns > self._slow_ns
        return sample.met is Meets.LISTENING and not slow

    # --- what they come to ---

    def count(self, walked: Walked, *, until_ns: int) -> Counted:
        """What the requests come to that begin from T0 until this instant."""
        rate, awaited = self._clients.rate, self._awaited
        good: list[Sample] = []
        last_ns = -1  # of those that fail
        failed = masked = misrouted = slowest_ns = 0
        for sample in walked.samples:
            at_ns, done_ns, _, met = sample
            if not 0 <= at_ns < until_ns:
                continue
            waited_ns = done_ns - at_ns
            slowest_ns = max(slowest_ns, min(waited_ns, self._patience_ns))
            if met is Meets.LISTENING and waited_ns < self._patience_ns:
                good.append(sample)
                masked += waited_ns >= self._slow_ns
                continue
            last_ns = max(last_ns, at_ns)
            if met is Meets.IMPOSTER:
                misrouted += 1
            else:
                failed += 1
        rows: list[Row] = []
        for row in walked.rows:
            number = -((row.start_ns - min(row.end_ns, until_ns)) // self._period_ns)
            if number > 0 and row.answered:
                rows.append(row)
            elif number > 0:
                failed += number
                last_ns = max(last_ns, row.start_ns + (number - 1) * self._period_ns)
        stable_ns = 0.0
        if last_ns >= 0:
            after = [sample.done_ns for sample in good if sample.scheduled_ns > last_ns]
            stable_ns = min([*after, *self._firsts(rows, last_ns, until_ns)], default=math.inf)
        fresh = [s.done_ns for s in good if s.ip == awaited and self._is_fresh(s)]
        fresh += [at_ns for *_, at_ns in rows if at_ns is not None and at_ns < until_ns]
        recovery_ns = min(fresh, default=math.inf)
        return Counted(
            failed_s=failed / rate,
            masked_s=masked / rate,
            misrouted_s=misrouted / rate,
            slowest_s=slowest_ns / SECOND_NS,
            recovery_s=(stable_ns if awaited is None else recovery_ns) / SECOND_NS,
            stable_s=stable_ns / SECOND_NS,
        )

    def _firsts(self, rows: Sequence[Row], last_ns: int, until_ns: int) -> Iterator[int]:
        """Of each of these rows the first request after an instant."""
        for row in rows:
            behind = max(0, (last_ns - row.start_ns) // self._period_ns + 1)
            first_ns = row.start_ns + behind * self._period_ns
            if first_ns < min(row.end_ns, until_ns):
                yield first_ns
