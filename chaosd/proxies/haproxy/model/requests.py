"""Requests: which server they are given to, and when they are tried again.

Reference: src/backend.c (assign_server, alloc_dst_address) and stream.c (sess_update_st_cer).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from functools import partial

from chaosd.plugins.simulation import ANSWERS, REFUSES, Ended, Surroundings
from chaosd.plugins.timeline import Meets
from chaosd.proxies.haproxy.model.backend import Backend
from chaosd.proxies.haproxy.model.server import SECOND_NS, Server

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

    __slots__ = ("ended", "ip", "retries", "server")

    def __init__(self, ended: Ended) -> None:
        self.ended = ended
        self.ip: str | None = None  # None: to be assigned
        self.server: Server | None = None
        self.retries = 0


_Step = Callable[[int, _Request], None]


class Requests:
    """Requests that are under way, one by one."""

    def __init__(self, backend: Backend, servers: Sequence[Server], world: Surroundings) -> None:
        self._backend, self._servers, self._world = backend, servers, world
        self._turn = self._count = 0
        # Those that wait: (when, tie-breaker, request, step).
        self.waiting: list[tuple[int, int, _Request, _Step]] = []

    def begin(self, now_ns: int, ended: Ended) -> None:
        self._assign(now_ns, _Request(ended))

    def step(self, now_ns: int) -> None:
        """Do what is due for the first of those that wait."""
        _, _, request, step = heapq.heappop(self.waiting)
        step(now_ns, request)

    def _wait(self, at_ns: int, request: _Request, step: _Step) -> None:
        self._count += 1
        heapq.heappush(self.waiting, (at_ns, self._count, request, step))

    def _assign(self, now_ns: int, request: _Request) -> None:
        usable = [server for server in self._servers if server.usable]
        if not usable:
            request.ended(now_ns, 503, None)
            return
        chosen = candidates(self._backend, usable)
        self._turn += 1  # round robin; the one that it had is avoided, if there is another
        if len(chosen) > 1 and chosen[self._turn % len(chosen)] is request.server:
            self._turn += 1
        request.server = chosen[self._turn % len(chosen)]
        request.ip = request.server.ip
        self._attempt(now_ns, request)

    def _attempt(self, now_ns: int, request: _Request) -> None:
        if request.ip is None:  # redispatched
            self._assign(now_ns, request)
            return
        met = self._world.connect(now_ns, request.ip)
        if met in ANSWERS or met == Meets.UNWELL:
            request.ended(now_ns, 0, request.ip)
            return
        took_ns, pause_ns = attempt_ns(self._backend, met)
        if met == Meets.TARPIT:
            request.ended(now_ns + took_ns, 504, None)
        elif took_ns:
            self._wait(now_ns + took_ns, request, partial(self._retry, wait_ns=pause_ns))
        else:
            self._retry(now_ns, request, pause_ns)

    def _retry(self, now_ns: int, request: _Request, wait_ns: int) -> None:
        """Try the same address again, or choose anew where `option redispatch` says so."""
        backend = self._backend
        request.retries += 1
        if request.retries > backend.retries:
            request.ended(now_ns, 503, None)
            return
        active = sum(server.usable for server in self._servers if not server.line.backup)
        lost = request.server is not None and not request.server.usable
        if redispatches(backend, request.retries, others=active > 1, lost=lost):
            request.ip = None
            wait_ns = 0 if active > 1 else wait_ns
        self._wait(now_ns + wait_ns, request, self._attempt)
