"""Requests: which server they are given to, and when they are tried again.

Reference: src/backend.c (assign_server, alloc_dst_address) and stream.c (sess_update_st_cer).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from chaosd.plugins.simulation import ANSWERS, NEVER_NS, REFUSES, Ended, Surroundings
from chaosd.plugins.timeline import Meets
from chaosd.proxies.haproxy.model.backend import Backend
from chaosd.proxies.haproxy.model.choosing import Chooser
from chaosd.proxies.haproxy.model.server import SECOND_NS, Group, Server
from chaosd.proxies.haproxy.model.versions import Version

# What Linux does where `timeout connect` is not set: a SYN and six more.
KERNEL_CONNECT_NS = 127 * SECOND_NS


def turn_around_ns(backend: Backend) -> int:
    """The pause before a refused request is tried again."""
    return min(backend.timeout_connect_ns or SECOND_NS, SECOND_NS)


def redispatches(backend: Backend, retries: int, *, others: bool, lost: bool) -> bool:
    """Whether this retry, counted from 1, chooses a server anew: the address is looked at again.

    `others`: several servers that are no backups are usable. `lost`: the one that it had is not.
    """
    every = backend.redispatch_every
    if not every:
        return False
    due = retries % every == 0 if every > 0 else retries == backend.retries
    return due or others or lost


def candidates(backend: Backend, usable: Sequence[Server]) -> Sequence[Server]:
    """Of these usable servers those that requests are given to."""
    active = [server for server in usable if not server.line.backup]
    if active or backend.all_backups:
        return active or usable
    return usable[:1]


def attempt_ns(backend: Backend, met: Meets) -> tuple[int, int]:
    """How long an attempt that meets this takes, and the pause before the next one.

    A mere timeout gets no pause; the kernel's own is an error like any other.
    """
    if met in REFUSES:
        return 0, turn_around_ns(backend)
    if met is Meets.TARPIT:
        return backend.timeout_server_ns or 0, 0
    if met is Meets.UNWELL:
        return 0, 0
    limit_ns = backend.timeout_connect_ns
    if limit_ns is None or limit_ns > KERNEL_CONNECT_NS:
        return KERNEL_CONNECT_NS, turn_around_ns(backend)
    return limit_ns, 0


class _Request:
    """A request on its way."""

    __slots__ = ("ended", "ip", "retries", "server", "waits")

    def __init__(self, ended: Ended) -> None:
        self.ended = ended
        self.ip: str | None = None  # None: to be assigned
        self.server: Server | None = None
        self.retries = 0
        self.waits = False  # for a server that has a place


class PassedBy(NamedTuple):
    """New requests that were over at once."""

    number: int
    answered: bool  # by instances of the app; otherwise by HAProxy: no server is usable
    awaited_ns: int | None = None  # when the instance that is waited for answered the first


_NONE = PassedBy(0, answered=True)
_Step = Callable[[int, _Request], None]


class Requests:
    """Requests that are under way, one by one."""

    def __init__(
        self,
        backend: Backend,
        servers: Sequence[Server],
        world: Surroundings,
        version: Version,
        rng: Random,
        *,
        group: Group,
    ) -> None:
        self._backend, self._servers, self._world = backend, servers, world
        self._chooser = Chooser(backend, servers, version, rng)
        self._group = group
        self._is_narrow = any(server.line.places for server in servers)
        # As they were looked at last: those that are given requests, and how many are no backups.
        self._chosen: Sequence[Server] = ()
        self._active = 0
        # Whether those that wait are nothing to new ones: they keep their servers.
        self.are_apart = (
            not backend.redispatch_every and not self._is_narrow and self._chooser.goes_by_order
        )
        # Those that wait: (when, tie-breaker, request, step).
        self.waiting: list[tuple[int, int, _Request, _Step]] = []
        self._count = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing is under way."""
        self.waiting.clear()
        self._chooser.begin()
        self._inside = 0  # so many have been let in
        self._outside: deque[_Request] = deque()
        self._queue: deque[_Request] = deque()  # those that wait for a server that has a place
        self._drains = False
        self._known_bad: tuple[Sequence[Server], Sequence[int], int] = ((), (), 0)

    def start(self) -> None:
        """Begin at any point of a turn."""
        self._chooser.start()

    def begin(self, now_ns: int, ended: Ended) -> None:
        """Take a new request."""
        request = _Request(ended)
        if 0 < self._backend.places <= self._inside:
            self._outside.append(request)
            return
        self._inside += 1
        self._assign(now_ns, request)

    @property
    def steps_left(self) -> int:
        """How many steps those that wait have at most, if they keep their servers."""
        return len(self.waiting) * (self._backend.retries + 1)

    def next_ns(self) -> int:
        """When one of those that wait has something to do."""
        return self.waiting[0][0] if self.waiting else NEVER_NS

    def do_due(self, now_ns: int) -> None:
        """Do what is due for those that wait, up to and including this instant."""
        while self.waiting and (at_ns := self.waiting[0][0]) <= now_ns:
            self.step(at_ns)

    def step(self, now_ns: int) -> None:
        """Do what is due for the first of those that wait."""
        _, _, request, step = heapq.heappop(self.waiting)
        step(now_ns, request)

    def _wait(self, at_ns: int, request: _Request, step: _Step) -> None:
        self._count += 1
        heapq.heappush(self.waiting, (at_ns, self._count, request, step))

    def pass_by(self, times_ns: range, until_ns: int, awaited: str | None) -> PassedBy:
        """Take the new requests of these instants, as long as each is over at once like the others.

        The world is the same until `until_ns`, and nothing else is due that would matter to them.
        """
        if self._queue or 0 < self._backend.places <= self._inside:
            return _NONE
        if not (free := self._free()):
            return _NONE if self._chosen else PassedBy(len(times_ns), answered=False)
        count, firsts = self._chooser.ahead(free, self._bad(free, times_ns[0], until_ns), times_ns)
        found: list[int] = []
        for place, number in firsts.items():
            server = free[place]
            server.request_passed()
            if server.ip == awaited:
                found.append(times_ns[number])
        return PassedBy(count, answered=True, awaited_ns=min(found, default=None))

    def _bad(self, free: Sequence[Server], now_ns: int, until_ns: int) -> Sequence[int]:
        """The places of those at which no instance of the app answers well."""
        known, found, known_until_ns = self._known_bad
        if known is not free or now_ns >= known_until_ns:
            connect = self._world.connect
            met = [connect(now_ns, server.ip or "") for server in free]
            found = [place for place, each in enumerate(met) if each is not Meets.LISTENING]
            self._known_bad = free, found, until_ns
        return found

    # --- a server for it ---

    def _assign(self, now_ns: int, request: _Request) -> None:
        if self._queue:
            self._drain(now_ns)
        free = self._free()
        if not self._chosen:
            self._end(now_ns, request, now_ns, 503, None)
            return
        if not free or self._queue:
            request.waits = True
            self._queue.append(request)
            if (queue_ns := self._backend.queue_ns) is not None:
                self._wait(now_ns + queue_ns, request, self._give_up)
            return
        self._take(now_ns, request, free)

    def _take(self, now_ns: int, request: _Request, free: Sequence[Server]) -> None:
        request.server = server = self._chooser.choose(free, request.server, now_ns)
        request.ip = server.ip
        server.held += 1
        self._chooser.used(server)
        self._attempt(now_ns, request)

    def _free(self) -> Sequence[Server]:
        """The servers that are given requests and have a place."""
        if self._group.changed:
            self._look()
        if not self._is_narrow:
            return self._chosen
        return [server for server in self._chosen if server.held < server.places]

    def _look(self) -> None:
        usable = [server for server in self._servers if server.usable]
        self._active = sum(not server.line.backup for server in usable)
        self._chosen = candidates(self._backend, [s for s in usable if s.line.weight])
        self._group.changed = False

    def _drain(self, now_ns: int) -> None:
        """Let those in that have waited for a place, while there is one."""
        if self._drains:
            return
        self._drains = True
        while self._queue and (free := self._free()):
            request = self._queue.popleft()
            request.waits = False
            self._take(now_ns, request, free)
        while self._outside and self._inside < self._backend.places:
            self._inside += 1
            self._assign(now_ns, self._outside.popleft())
        self._drains = False

    def _give_up(self, now_ns: int, request: _Request) -> None:
        """It has waited for a place for too long."""
        if request.waits:
            request.waits = False
            self._queue.remove(request)
            self._end(now_ns, request, now_ns, 503, None)

    def _leave(self, request: _Request) -> None:
        """It gives its place at its server back."""
        if (server := request.server) is not None and request.ip is not None:
            server.held -= 1
            self._chooser.used(server)
        request.ip = None

    def _end(
        self, now_ns: int, request: _Request, done_ns: int, status: int, ip: str | None
    ) -> None:
        self._leave(request)
        self._inside -= 1
        request.ended(done_ns, status, ip)
        if self._queue or self._outside:
            self._drain(now_ns)

    # --- its attempts ---

    def _attempt(self, now_ns: int, request: _Request) -> None:
        server, ip = request.server, request.ip
        if server is None or ip is None:  # redispatched
            self._assign(now_ns, request)
            return
        met = self._world.connect(now_ns, ip)
        if met in ANSWERS:
            server.request_passed()
            self._end(now_ns, request, now_ns, 0, ip)
            return
        if met == Meets.UNWELL:
            server.request_failed(now_ns, answered=True)
            self._end(now_ns, request, now_ns, 0, ip)
            return
        took_ns, pause_ns = attempt_ns(self._backend, met)
        if met == Meets.TARPIT:
            self._end(now_ns, request, now_ns + took_ns, 504, None)
        elif took_ns:
            self._wait(now_ns + took_ns, request, partial(self._retry, wait_ns=pause_ns))
        else:
            self._retry(now_ns, request, pause_ns)

    def _retry(self, now_ns: int, request: _Request, wait_ns: int) -> None:
        """Try the same address again, or choose anew where `option redispatch` says so."""
        backend, server = self._backend, request.server
        if server is not None:
            server.request_failed(now_ns, answered=False)
        request.retries += 1
        if request.retries > backend.retries:
            self._end(now_ns, request, now_ns, 503, None)
            return
        if backend.redispatch_every:
            if self._group.changed:
                self._look()
            others, lost = self._active > 1, server is not None and not server.usable
            if redispatches(backend, request.retries, others=others, lost=lost):
                self._leave(request)
                wait_ns = 0 if others else wait_ns
        self._wait(now_ns + wait_ns, request, self._attempt)
