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
        self._awaited, self._scene_ends_ns = scene.awaited, scene.ends_ns
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
        self._begin()
        left = steps_max
        while left > 0:
            now_ns, asks = self._at_ns, self._next_ns > self._at_ns
            count = self._ask(left, most_ns) if asks else self._do_due(left)
            yield (now_ns if asks else self._done_ns), count
            left -= count
            if asks and self._is_over(most_ns):
                return

    def _begin(self) -> None:
        model, period_ns = self._model, self._period_ns
        self.walked, self._found = Walked([], []), False
        self._ends_ns = self._scene_ends_ns
        self._at_ns = below(self._rng, period_ns) - BEFORE * period_ns  # of the next request
        model.requests.start()
        self._turns = TURNS_MAX * len(model.servers)
        # When the model does something next that is not about a request, and when anything.
        self._changes_ns = self._next_ns = model.next_ns()
        self._done_ns = 0  # what was due last

    def _do_due(self, left: int) -> int:
        """Do what is due before the next request: at one instant, or at several if nothing changes.

        Returns at how many, so many at most.
        """
        requests, count = self._model.requests, 1
        if self._is_observed or self._next_ns >= self._changes_ns:
            self._done_ns = self._next_ns
            self._model.advance(self._done_ns)
            self._changes_ns = self._model.next_change_ns()
        else:
            before_ns = min(self._at_ns + 1, self._changes_ns)
            requests.do_due(self._next_ns)
            while count < left and requests.next_ns() < before_ns:
                requests.do_due(requests.next_ns())
                count += 1
        self._next_ns = min(self._changes_ns, requests.next_ns())
        return count

    def _ask(self, left: int, most_ns: int) -> int:
        """Begin the next request, or so many as are over at once. Returns how many."""
        model, at_ns, period_ns = self._model, self._at_ns, self._period_ns
        count = 0
        place = bisect_right(self._edges_ns, at_ns)
        edge_ns = self._edges_ns[place] if place < len(self._edges_ns) else NEVER_NS
        if (room := min(left, self._room(edge_ns, left, most_ns))) > 0:
            times_ns = range(at_ns, at_ns + room * period_ns, period_ns)
            passed = model.requests.pass_by(times_ns, edge_ns, self._awaited)
            count, answered, awaited_ns = passed
            if count:
                end_ns = at_ns + count * period_ns
                self.walked.rows.append(Row(at_ns, end_ns, answered, awaited_ns))
                self._found |= awaited_ns is not None
        if not count:
            model.requests.begin(at_ns, partial(self._ended, at_ns))
            count = 1
            if self._is_observed:
                self._changes_ns = model.next_change_ns()
            self._next_ns = min(self._changes_ns, model.requests.next_ns())
        self._at_ns += count * period_ns
        return count

    def _room(self, edge_ns: int, left: int, most_ns: int) -> int:
        """How many requests there are, from the next one on, before anything can be different."""
        at_ns, period_ns, ends_ns = self._at_ns, self._period_ns, self._ends_ns
        if at_ns < 0 or self._slow_ns <= 0:
            return 0
        changes, requests = self._changes_ns < NEVER_NS, self._model.requests
        is_late = not changes and at_ns > ends_ns  # it may be over after each request
        if is_late:
            if self._next_ns == NEVER_NS and self._is_calm(at_ns):
                return 1
            ends_ns += most_ns
        until_ns = min(edge_ns, self._next_ns)
        if not changes:
            until_ns = min(until_ns, max(ends_ns, at_ns) + 1)
        if requests.are_apart and not (self._is_observed or is_late):
            later_ns = self._changes_ns if changes else ends_ns + 1 - period_ns
            until_ns = max(until_ns, min(edge_ns, later_ns))
        room = -((at_ns - until_ns) // period_ns)
        # What waits may not come too late for its steps to count.
        return room if room + requests.steps_left <= left else min(room, 1)

    def _is_over(self, most_ns: int) -> bool:
        """Whether that was the last request."""
        at_ns = self._at_ns
        if at_ns <= self._ends_ns or self._changes_ns < NEVER_NS:
            self._ends_ns = max(self._ends_ns, at_ns)
        elif self._next_ns == NEVER_NS and self._is_calm(at_ns):
            self._turns -= 1
            return not self._turns or not self._awaits()
        else:
            return at_ns > self._ends_ns + most_ns
        return False

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
