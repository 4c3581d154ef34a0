"""One HAProxy server with its resolver and health checks, as events on a virtual clock.

Theory of operation. Three machines run side by side: the resolver (one pending step), the health
check (one pending step), and the requests that wait for a retry. `advance` takes the earliest step
until nothing is due; each step asks the world (DNS, addresses) what it would find at that instant.
No clock and no I/O here: whoever owns the model says what time it is.

The semantics are those of HAProxy 2.1 and later, from its source: src/resolvers.c (resolv_*),
src/server.c (snr_*), src/check.c (process_chk, chk_report_conn_err), src/backend.c and stream.c
(retries). Left out: several servers, SRV, slowstart, observe, sessions killed on DOWN.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any, Literal, NamedTuple, Protocol

from chaosd.proxies.haproxy.config import Config

NEVER_NS = 2**63 - 1
SERVER = "app/app"

# How an attempt to connect ends. "silent": taken, but never answered.
Connected = Literal["ok", "refused", "timeout", "silent"]

# A check that fails to connect asks the nameserver again at once (commit 68a61b632, #1906).
CHECKS_ASK_AGAIN = (2, 6, 7)
# Entering maintenance forgets the address (2.4) and what the last answers held (2.5).
FORGETS_ADDRESS, FORGETS_ANSWERS = (2, 4), (2, 5)
HAS_INIT_STATE = (3, 1)

_HOLDS = {"NXDOMAIN": "nx", "REFUSED": "refused"}
_REASONS = {"nx": "DNS NX status", "refused": "DNS refused status", "timeout": "DNS timeout status"}

Version = tuple[int, ...]


def parse_version(text: str | None) -> Version:
    """Read "2.6.12" or "3.3-dev5" for comparing. No version is newer than all."""
    if text is None:
        return (99,)
    return tuple(int(part) for part in text.partition("-")[0].split("."))


class Answer(NamedTuple):
    """What the nameserver said, and how long that took."""

    rcode: str  # "NOERROR", "NXDOMAIN", …
    ips: tuple[str, ...]
    took_ns: int


class World(Protocol):
    """What the proxy finds outside of itself at an instant."""

    def resolve(self, now_ns: int, qtype: str) -> Answer | None:
        """Answer a query for the app's name; None drops it."""

    def connect(self, now_ns: int, ip: str) -> Connected:
        """Say what becomes of a connection to the app's port there."""

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        """Take what the proxy logs: address_changed, up, down, maint, ready."""


class Request:
    """A request on its way. `end_ns` is None while it waits for a retry."""

    __slots__ = ("end_ns", "ip", "retries", "status")

    def __init__(self) -> None:
        self.ip: str | None = None  # whose answer it was, if there was one
        self.retries = 0
        self.end_ns: int | None = None
        self.status = 0  # the proxy's own 503 or 504; 0: answered by `ip`


Step = Callable[[int], None]


class ProxyModel:
    """A proxy with one server for one name.

    It starts without an address, as `init-addr last,none` does. Its first query and its first
    check are at `start_ns` unless told otherwise: as in HAProxy, their phases are locked at first.
    `rng` makes timers late by what HAProxy's own clock, in milliseconds, makes them late.
    """

    def __init__(
        self,
        config: Config,
        version: str | None,
        world: World,
        rng: Random,
        *,
        start_ns: int,
        poll_at_ns: int | None = None,
        check_at_ns: int | None = None,
    ) -> None:
        self.config = config
        self.ip: str | None = None
        self.maintenance = True
        self._version = parse_version(version)
        self._world, self._rng = world, rng
        server = config.server
        self._health, self._health_full = 0, server.rise + server.fall - 1
        # The resolver.
        self._last_seen: dict[str, int] = {}
        self._last_valid_ns = start_ns
        self._last_resolution_ns = start_ns
        self._valid = False
        self._rounds_left = 0
        self._qtype = ""
        self._sent_ns = 0
        self._resolving = False
        self._dns_at_ns = start_ns if poll_at_ns is None else poll_at_ns
        self._dns_step: Step = self._poll
        # The check.
        self._check_at_ns = start_ns if check_at_ns is None else check_at_ns
        self._check_step: Step = self._check
        if not server.check:
            self._check_at_ns = NEVER_NS
        # Requests that wait: (when, tie-breaker, request, step).
        self._waiting: list[tuple[int, int, Request, Callable[[int, Request], None]]] = []
        self._count = 0

    @property
    def usable(self) -> bool:
        """Whether new requests are given to the server."""
        return not self.maintenance and (
            self._health >= self.config.server.rise or not self.config.server.check
        )

    def next_ns(self) -> int:
        """When it has something to do next."""
        waiting = self._waiting[0][0] if self._waiting else NEVER_NS
        return min(self._dns_at_ns, self._check_at_ns, waiting)

    def advance(self, now_ns: int) -> None:
        """Do everything that is due up to and including this instant."""
        while (at_ns := self.next_ns()) <= now_ns:
            if at_ns == self._dns_at_ns:
                self._dns_step(at_ns)
            elif at_ns == self._check_at_ns:
                self._check_step(at_ns)
            else:
                _, _, request, step = heapq.heappop(self._waiting)
                step(at_ns, request)

    def _late(self, at_ns: int) -> int:
        """The instant at which a timer that was set to `at_ns` strikes."""
        return at_ns + self._rng.randrange(500_000, 1_500_000)

    def _say(self, at_ns: int, what: str, **data: Any) -> None:
        self._world.said(at_ns, what, {"server": SERVER} | data)

    # --- the resolver (reference: resolv_process_responses, process_resolvers) ---

    def _then_resolve(self, at_ns: int, step: Step) -> None:
        self._dns_at_ns, self._dns_step = at_ns, step

    def _preferred(self) -> str:
        return "A" if self.config.server.resolve_prefer == "ipv4" else "AAAA"

    def _poll(self, now_ns: int) -> None:
        self._resolving = True
        self._rounds_left = self.config.resolvers.resolve_retries
        self._round(now_ns)

    def _round(self, now_ns: int) -> None:
        self._ask(now_ns, self._preferred())

    def _ask(self, now_ns: int, qtype: str) -> None:
        self._qtype, self._sent_ns = qtype, now_ns
        answer = self._world.resolve(now_ns, qtype)
        if answer is None:
            self._then_resolve(self._retry_ns(), self._unanswered)
        else:
            self._then_resolve(now_ns + answer.took_ns, lambda at_ns: self._answered(at_ns, answer))

    def _retry_ns(self) -> int:
        return self._late(self._sent_ns + self.config.resolvers.timeout_retry)

    def _unanswered(self, now_ns: int) -> None:
        self._rounds_left -= 1
        if self._rounds_left:
            self._ask(now_ns, self._qtype)  # a silence repeats the same type
        else:
            self._give_up(now_ns, "timeout")

    def _answered(self, now_ns: int, answer: Answer) -> None:
        if answer.rcode == "NOERROR" and answer.ips:
            self._accept(now_ns, answer.ips)
            return
        if self._qtype == self._preferred():
            self._ask(now_ns, "AAAA" if self._qtype == "A" else "A")
            return
        self._rounds_left -= 1
        if self._rounds_left:
            self._then_resolve(max(now_ns, self._retry_ns()), self._round)
        else:
            self._give_up(now_ns, _HOLDS.get(answer.rcode, "other"))

    def _resolved(self, now_ns: int, *, valid: bool) -> None:
        self._resolving, self._valid, self._last_resolution_ns = False, valid, now_ns
        resolve_ns = self.config.resolvers.timeout_resolve
        self._then_resolve(self._late(now_ns + resolve_ns), self._poll)

    def _give_up(self, now_ns: int, hold: str) -> None:
        hold_ns = getattr(self.config.resolvers.hold, hold)
        if now_ns >= self._last_valid_ns + hold_ns:
            self._enter_maintenance(now_ns, _REASONS.get(hold, "unspecified DNS error"))
        self._resolved(now_ns, valid=False)

    def _accept(self, now_ns: int, ips: tuple[str, ...]) -> None:
        """Take a valid answer in: old addresses live on for `hold obsolete`."""
        self._last_valid_ns = now_ns
        self._last_seen |= dict.fromkeys(ips, now_ns)
        obsolete_ns = now_ns - self.config.resolvers.hold.obsolete
        self._last_seen = {ip: at for ip, at in self._last_seen.items() if at >= obsolete_ns}
        if self.ip not in self._last_seen:
            old, self.ip = self.ip, ips[0]
            self._say(now_ns, "address_changed", old=old, new=self.ip)
        if self.maintenance:
            self._leave_maintenance(now_ns)
        self._resolved(now_ns, valid=True)

    def _enter_maintenance(self, now_ns: int, reason: str) -> None:
        if self.maintenance:
            return
        self.maintenance, self._health = True, 0
        if self._version >= FORGETS_ADDRESS:
            self.ip = None
        if self._version >= FORGETS_ANSWERS:
            self._last_seen = {}
        self._say(now_ns, "maint", reason=reason)

    def _leave_maintenance(self, now_ns: int) -> None:
        server = self.config.server
        state = server.init_state if self._version >= HAS_INIT_STATE else None
        self._health = {
            "fully-up": self._health_full,
            "down": server.rise - 1,
            "fully-down": 0,
        }.get(state or "up", server.rise)
        self.maintenance = False
        if self.usable:
            self._say(now_ns, "up")
        self._say(now_ns, "ready")

    # --- the check (reference: process_chk, srv_getinter, chk_report_conn_err) ---

    def _then_check(self, at_ns: int, step: Step) -> None:
        self._check_at_ns, self._check_step = at_ns, step

    def _check(self, now_ns: int) -> None:
        server, timeouts = self.config.server, self.config.timeouts
        if self.maintenance or self.ip is None:  # paused, but it keeps its rhythm
            self._then_check(self._late(now_ns + server.inter), self._check)
            return
        connected = self._world.connect(now_ns, self.ip)
        if connected == "refused":
            self._failed_check(now_ns, "Layer4 connection problem")
        elif connected == "timeout":
            # With `timeout check`, `timeout connect` limits this part of a check too.
            took_ns = min(server.inter, timeouts.connect) if timeouts.check else server.inter
            self._then_check(
                self._late(now_ns + took_ns), lambda at: self._failed_check(at, "Layer4 timeout")
            )
        elif connected == "silent" and self.config.http_check is not None:
            took_ns = timeouts.check or server.inter
            self._then_check(
                self._late(now_ns + took_ns), lambda at: self._failed_check(at, "Layer7 timeout")
            )
        else:
            self._passed_check(now_ns)

    def _passed_check(self, now_ns: int) -> None:
        rise = self.config.server.rise
        if self._health < self._health_full:
            self._health += 1
            if self._health == rise:
                self._say(now_ns, "up")
            if self._health >= rise:
                self._health = self._health_full
        self._then_check(self._late(now_ns + self._interval_ns()), self._check)

    def _failed_check(self, now_ns: int, reason: str) -> None:
        if not self.maintenance:
            rise = self.config.server.rise
            if self._health > rise:
                self._health -= 1
            else:
                if self._health == rise:
                    self._say(now_ns, "down", reason=reason)
                self._health = 0
            if reason.startswith("Layer4"):
                self._ask_again(now_ns)
        self._then_check(self._late(now_ns + self._interval_ns()), self._check)

    def _interval_ns(self) -> int:
        server = self.config.server
        if self.maintenance or self._health == self._health_full:
            return server.inter
        return server.fast_ns if self._health else server.down_ns

    def _ask_again(self, now_ns: int) -> None:
        """A failed check asks at once if the last answer is bad or older than `hold valid`."""
        if self._resolving or self._version < CHECKS_ASK_AGAIN:
            return
        hold_ns = self.config.resolvers.hold.valid
        if not self._valid or now_ns >= self._last_resolution_ns + hold_ns:
            self._then_resolve(now_ns, self._poll)

    # --- requests (reference: sess_update_st_cer, alloc_dst_address) ---

    def request(self, now_ns: int) -> Request:
        """Begin a request now. Its end may be known at once, or after later calls of `advance`."""
        self.advance(now_ns)
        request = Request()
        self._assign(now_ns, request)
        return request

    def _wait(self, at_ns: int, request: Request, step: Callable[[int, Request], None]) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (at_ns, self._count, request, step))

    def _assign(self, now_ns: int, request: Request) -> None:
        if self.usable:
            request.ip = self.ip
            self._attempt(now_ns, request)
        else:
            _end(now_ns, request, 503)

    def _attempt(self, now_ns: int, request: Request) -> None:
        if request.ip is None:  # redispatched
            self._assign(now_ns, request)
            return
        timeouts = self.config.timeouts
        connected = self._world.connect(now_ns, request.ip)
        if connected == "ok":
            request.end_ns = now_ns
        elif connected == "silent":
            _end(now_ns + timeouts.server, request, 504)
        elif connected == "refused":
            # A turn-around before the next attempt, which a mere timeout does not get.
            self._retry(now_ns, request, min(timeouts.connect, 1_000_000_000))
        else:
            self._wait(now_ns + timeouts.connect, request, self._retry)

    def _retry(self, now_ns: int, request: Request, wait_ns: int = 0) -> None:
        """Try the same address again, or look it up again where redispatching says so."""
        retries, every = self.config.retries, self.config.redispatch_every
        request.retries += 1
        if request.retries > retries:
            _end(now_ns, request, 503)
            return
        due = request.retries % every == 0 if every > 0 else request.retries == retries
        if every and (due or not self.usable):
            request.ip = None
        self._wait(now_ns + wait_ns, request, self._attempt)


def _end(at_ns: int, request: Request, status: int) -> None:
    request.end_ns, request.status, request.ip = at_ns, status, None
