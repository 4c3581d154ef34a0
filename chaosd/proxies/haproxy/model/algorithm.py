"""HAProxy's resolver, health checks and retries, as events on a virtual clock.

Theory of operation. Three kinds of machine run side by side: the resolver (one pending step), each
server's health check (one pending step), and the requests that wait for a retry. `advance` takes
the earliest step until nothing is due; each step asks the world (DNS, addresses) what it would
find at that instant. No clock and no I/O here: the owner of the model says what time it is.

The semantics are those of HAProxy 2.1 and later, from its source: src/resolvers.c (resolv_*),
src/server.c (snr_*), src/check.c (process_chk, chk_report_conn_err), src/backend.c and stream.c
(retries). Left out: SRV, weights, slowstart, observe, sessions killed on DOWN.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from random import Random
from typing import Any

from chaosd.plugins.simulation import ANSWERS, NEVER_NS, REFUSES, Ended, Reply, World, below
from chaosd.plugins.timeline import Failure, Meets, RecordType
from chaosd.proxies.haproxy.model.settings import Hold, Settings

SECOND_NS = 1_000_000_000
BACKEND = "app"

# A check that fails to connect asks the nameserver again at once (commit 68a61b632, #1906).
CHECKS_ASK_AGAIN = (2, 6, 7)
# Entering maintenance forgets the address (2.4) and what the last answers held (2.5).
FORGETS_ADDRESS, FORGETS_ANSWERS = (2, 4), (2, 5)
# Before, the age of a record is a difference of whole seconds (docs/findings.md; seen in 2.2.9).
COUNTS_MILLISECONDS = (2, 5)
HAS_INIT_STATE = (3, 1)

HOLDS = {
    Failure.NXDOMAIN: Hold.NX,
    Failure.REFUSED: Hold.REFUSED,
    Failure.SERVFAIL: Hold.OTHER,
    Failure.EMPTY: Hold.OTHER,
    Failure.SILENCE: Hold.TIMEOUT,
}
_REASONS = {
    Hold.NX: "DNS NX status",
    Hold.REFUSED: "DNS refused status",
    Hold.TIMEOUT: "DNS timeout status",
    Hold.OTHER: "unspecified DNS error",
}


class CheckFailure(Enum):
    """How a check fails; the values are HAProxy's words for it."""

    REFUSED = "Layer4 connection problem"
    UNCONNECTED = "Layer4 timeout"
    UNANSWERED = "Layer7 timeout"


Version = tuple[int, ...]


@lru_cache(maxsize=64)
def parse_version(text: str | None) -> Version:
    """Read "2.6.12" or "3.3-dev5" for comparing. No version is newer than all."""
    if text is None:
        return (99,)
    return tuple(int(part) for part in text.partition("-")[0].split("."))


Step = Callable[[int], None]


def _late(rng: Random, at_ns: int) -> int:
    """The instant at which a timer that was set to `at_ns` strikes: HAProxy's clock counts ms."""
    return at_ns + 500_000 + below(rng, 1_000_000)


class Server:
    """A server's address, its state and its health check.

    `failed_to_connect` is told when a check could not connect.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        version: Version,
        *,
        world: World,
        rng: Random,
        failed_to_connect: Step,
    ) -> None:
        self.name = f"{BACKEND}/{name}"
        self.ip: str | None = None
        self.maintenance = True  # until it has an address
        self.check_at_ns = NEVER_NS
        self._step: Step = self._check
        self._settings, self._version, self._world, self._rng = settings, version, world, rng
        self._failed_to_connect = failed_to_connect
        self._health = 0
        self._health_full = settings.rise + settings.fall - 1

    @property
    def usable(self) -> bool:
        """Whether new requests are given to it."""
        return not self.maintenance and self._health >= self._settings.rise

    def settle(self, ip: str) -> None:
        """Have had this address for long, in full health."""
        self.ip, self.maintenance, self._health = ip, False, self._health_full

    def move(self, now_ns: int, ip: str) -> None:
        """Take this address. Checks under way go on, and come to their end at the old one."""
        if ip != self.ip:
            old, self.ip = self.ip, ip
            self._say(now_ns, "address_changed", old=old, new=ip)
        if self.maintenance:
            self._leave_maintenance(now_ns)

    def enter_maintenance(self, now_ns: int, reason: str) -> None:
        if self.maintenance:
            return
        self.maintenance, self._health = True, 0
        if self._version >= FORGETS_ADDRESS:
            self.ip = None
        self._say(now_ns, "maint", reason=reason)

    def _leave_maintenance(self, now_ns: int) -> None:
        settings = self._settings
        state = settings.init_state if self._version >= HAS_INIT_STATE else None
        self._health = {
            "fully-up": self._health_full,
            "down": settings.rise - 1,
            "fully-down": 0,
        }.get(state or "up", settings.rise)
        if not settings.check:
            self._health = self._health_full
        self.maintenance = False
        if self.usable:
            self._say(now_ns, "up")
        else:
            self._say(now_ns, "down", reason="resolves again")
        self._say(now_ns, "ready")

    def _say(self, at_ns: int, what: str, **data: Any) -> None:
        self._world.said(at_ns, what, {"server": self.name} | data)

    # --- the check (reference: process_chk, srv_getinter, chk_report_conn_err) ---

    def check_step(self, now_ns: int) -> None:
        """Do what is due at `check_at_ns`."""
        self._step(now_ns)

    def _then(self, at_ns: int, step: Step) -> None:
        self.check_at_ns, self._step = _late(self._rng, at_ns), step

    def _check(self, now_ns: int) -> None:
        settings = self._settings
        inter_ns, answer_ns = settings.inter_ns, settings.timeout_check_ns
        if self.maintenance or self.ip is None:  # paused, but it keeps its rhythm
            self._then(now_ns + inter_ns, self._check)
            return
        met = self._world.connect(now_ns, self.ip)
        if met in REFUSES:
            self._fail(now_ns, CheckFailure.REFUSED)
        elif met in (Meets.BLACKHOLE, Meets.VACANT):
            # With `timeout check`, `timeout connect` limits this part of a check too.
            took_ns = min(inter_ns, settings.timeout_connect_ns) if answer_ns else inter_ns
            self._then(now_ns + took_ns, lambda at_ns: self._fail(at_ns, CheckFailure.UNCONNECTED))
        elif met == Meets.TARPIT and settings.http_check:
            took_ns = answer_ns or inter_ns
            self._then(now_ns + took_ns, lambda at_ns: self._fail(at_ns, CheckFailure.UNANSWERED))
        else:
            self._pass(now_ns)

    def _pass(self, now_ns: int) -> None:
        rise = self._settings.rise
        if self._health < self._health_full:
            self._health += 1
            if self._health == rise:
                self._say(now_ns, "up")
            if self._health >= rise:
                self._health = self._health_full
        self._then(now_ns + self._interval_ns(), self._check)

    def _fail(self, now_ns: int, why: CheckFailure) -> None:
        if not self.maintenance:
            rise = self._settings.rise
            if self._health > rise:
                self._health -= 1
            else:
                if self._health == rise:
                    self._say(now_ns, "down", reason=why.value)
                self._health = 0
            if why is not CheckFailure.UNANSWERED:
                self._failed_to_connect(now_ns)
        self._then(now_ns + self._interval_ns(), self._check)

    def _interval_ns(self) -> int:
        settings = self._settings
        if self.maintenance or self._health == self._health_full:
            return settings.inter_ns
        return settings.fastinter_ns if self._health else settings.downinter_ns


class Request:
    """A request on its way."""

    __slots__ = ("ended", "ip", "retries", "server")

    def __init__(self, ended: Ended) -> None:
        self.ended = ended
        self.ip: str | None = None  # None: to be assigned
        self.server: Server | None = None
        self.retries = 0


class ProxyModel:
    """A proxy whose servers share one name, as one `server` line or a `server-template` makes them.

    It starts without addresses, as `init-addr last,none` does. Its first query and its first check
    are at `start_ns` unless told otherwise: as in HAProxy, their phases are locked at first.
    `rng` makes its timers a little late.
    """

    def __init__(
        self,
        settings: Settings,
        version: str | None,
        world: World,
        rng: Random,
        *,
        start_ns: int,
        poll_at_ns: int | None = None,
        check_at_ns: int | None = None,
        servers: int = 1,
    ) -> None:
        self.settings = settings
        self._version = parse_version(version)
        self._world, self._rng = world, rng
        names = ["app"] if servers == 1 else [f"app{n}" for n in range(1, servers + 1)]
        ask = self._ask_again
        self.servers = [
            Server(name, settings, self._version, world=world, rng=rng, failed_to_connect=ask)
            for name in names
        ]
        if settings.check:
            first_ns = start_ns if check_at_ns is None else check_at_ns
            for place, server in enumerate(self.servers):
                server.check_at_ns = first_ns + place * settings.inter_ns // servers
        # The resolver.
        self._last_seen: dict[str, int] = {}
        self._whole_seconds = self._version < COUNTS_MILLISECONDS
        # Where its clock's seconds begin is nobody's choice.
        self._second_ns = below(rng, SECOND_NS) if self._whole_seconds else 0
        self._last_valid_ns = self._last_resolution_ns = start_ns
        self._valid = self._resolving = False
        self._rounds_left = 0
        self._record: RecordType = "A"
        self._sent_ns = 0
        self._dns_at_ns = start_ns if poll_at_ns is None else poll_at_ns
        self._dns_step: Step = self._poll
        # Requests that wait: (when, tie-breaker, request, step).
        self._waiting: list[tuple[int, int, Request, Callable[[int, Request], None]]] = []
        self._count = self._turn = 0

    def settle(self, now_ns: int, ips: Sequence[str]) -> None:
        """Let its servers have these addresses and be in full health, as if for long."""
        for server, ip in zip(self.servers, ips, strict=True):
            server.settle(ip)
        resolve_ns = self.settings.timeout_resolve_ns
        last_ns = min(now_ns, self._dns_at_ns - resolve_ns)
        self._last_seen = dict.fromkeys(ips, last_ns)
        self._last_valid_ns = self._last_resolution_ns = last_ns
        self._valid = True

    def next_ns(self) -> int:
        """When it has something to do next."""
        at_ns = self._dns_at_ns
        if self._waiting and self._waiting[0][0] < at_ns:
            at_ns = self._waiting[0][0]
        for server in self.servers:
            if server.check_at_ns < at_ns:  # noqa: PLR1730 - `min` takes twice the time
                at_ns = server.check_at_ns
        return at_ns

    def advance(self, now_ns: int) -> None:
        """Do everything that is due up to and including this instant, in the order of its time."""
        self.advance_to_next(now_ns)

    def advance_to_next(self, now_ns: int) -> int:
        """As `advance`, and when it has something to do next."""
        while (at_ns := self.next_ns()) <= now_ns:
            if at_ns == self._dns_at_ns:
                self._dns_step(at_ns)
            elif self._waiting and at_ns == self._waiting[0][0]:
                _, _, request, step = heapq.heappop(self._waiting)
                step(at_ns, request)
            else:
                next(s for s in self.servers if s.check_at_ns == at_ns).check_step(at_ns)
        return at_ns

    # --- the resolver (reference: resolv_process_responses, process_resolvers) ---

    def _then_resolve(self, at_ns: int, step: Step) -> None:
        self._dns_at_ns, self._dns_step = at_ns, step

    def _poll(self, now_ns: int) -> None:
        self._resolving = True
        self._rounds_left = self.settings.resolve_retries
        self._round(now_ns)

    def _round(self, now_ns: int) -> None:
        self._ask(now_ns, self.settings.prefers)

    def _ask(self, now_ns: int, record: RecordType) -> None:
        self._record, self._sent_ns = record, now_ns
        reply = self._world.resolve(now_ns, record)
        # An answer may come late, as long as its resolution is still going on.
        retry_ns = self.settings.timeout_retry_ns
        left_ns = self._rounds_left * retry_ns
        if reply.answer == Failure.SILENCE or reply.took_ns >= left_ns:
            self._then_resolve(self._retry_ns(), self._unanswered)
        else:
            self._then_resolve(now_ns + reply.took_ns, lambda at_ns: self._answered(at_ns, reply))

    def _retry_ns(self) -> int:
        return _late(self._rng, self._sent_ns + self.settings.timeout_retry_ns)

    def _unanswered(self, now_ns: int) -> None:
        self._rounds_left -= 1
        if self._rounds_left:
            self._ask(now_ns, self._record)  # a silence repeats the same type
        else:
            self._give_up(now_ns, Hold.TIMEOUT)

    def _answered(self, now_ns: int, reply: Reply) -> None:
        answer = reply.answer
        if not isinstance(answer, Failure):
            self._accept(now_ns, answer)
            return
        if self._record == self.settings.prefers:
            self._ask(now_ns, "AAAA" if self._record == "A" else "A")
            return
        self._rounds_left -= 1
        if self._rounds_left:
            self._then_resolve(max(now_ns, self._retry_ns()), self._round)
        else:
            self._give_up(now_ns, HOLDS[answer])

    def _resolved(self, now_ns: int, *, valid: bool) -> None:
        self._resolving, self._valid, self._last_resolution_ns = False, valid, now_ns
        resolve_ns = self.settings.timeout_resolve_ns
        self._then_resolve(_late(self._rng, now_ns + resolve_ns), self._poll)

    def _give_up(self, now_ns: int, hold: Hold) -> None:
        hold_ns = self.settings.holds.after_ns(hold)
        if now_ns >= self._last_valid_ns + hold_ns:
            for server in self.servers:
                server.enter_maintenance(now_ns, _REASONS[hold])
            if self._version >= FORGETS_ANSWERS:
                self._last_seen = {}
        self._resolved(now_ns, valid=False)

    def _accept(self, now_ns: int, ips: tuple[str, ...]) -> None:
        """Take a valid answer in: old addresses live on for `hold obsolete`.

        A server keeps its address while that lives; another one gets an address that no other
        server has, or, if there is none, goes into maintenance at once, whatever the holds say.
        """
        self._last_valid_ns = now_ns
        seen = self._last_seen
        for ip in ips:
            seen[ip] = now_ns
        for ip in [ip for ip, at_ns in seen.items() if self._is_obsolete(at_ns, now_ns)]:
            del seen[ip]
        for server in self.servers:
            if server.ip is not None and server.ip in seen:
                server.move(now_ns, server.ip)
                continue
            taken = [other.ip for other in self.servers if other is not server]
            free = next((ip for ip in (*ips, *seen) if ip not in taken), None)
            if free is not None:
                server.move(now_ns, free)
            else:
                server.enter_maintenance(now_ns, "No IP for server")
        self._resolved(now_ns, valid=True)

    def _is_obsolete(self, seen_ns: int, now_ns: int) -> bool:
        hold_ns = self.settings.holds.obsolete_ns
        if self._whole_seconds:
            seen, now = ((at + self._second_ns) // SECOND_NS for at in (seen_ns, now_ns))
            return seen + hold_ns // SECOND_NS < now
        return seen_ns < now_ns - hold_ns

    def _ask_again(self, now_ns: int) -> None:
        """A failed check asks at once if the last answer is bad or older than `hold valid`."""
        if self._resolving or self._version < CHECKS_ASK_AGAIN:
            return
        hold_ns = self.settings.holds.valid_ns
        if not self._valid or now_ns >= self._last_resolution_ns + hold_ns:
            self._then_resolve(now_ns, self._poll)

    # --- requests (reference: sess_update_st_cer, alloc_dst_address) ---

    def request(self, now_ns: int, ended: Ended) -> None:
        """Begin a request now. `ended` is called at the instant at which its fate is decided.

        That is within this call, or within a later `advance`.
        """
        self.advance(now_ns)
        self._assign(now_ns, Request(ended))

    def _wait(self, at_ns: int, request: Request, step: Callable[[int, Request], None]) -> None:
        self._count += 1
        heapq.heappush(self._waiting, (at_ns, self._count, request, step))

    def _assign(self, now_ns: int, request: Request) -> None:
        usable = [server for server in self.servers if server.usable]
        if not usable:
            request.ended(now_ns, 503, None)
            return
        self._turn += 1  # round robin
        request.server = usable[self._turn % len(usable)]
        request.ip = request.server.ip
        self._attempt(now_ns, request)

    def _attempt(self, now_ns: int, request: Request) -> None:
        if request.ip is None:  # redispatched
            self._assign(now_ns, request)
            return
        settings = self.settings
        met = self._world.connect(now_ns, request.ip)
        if met in ANSWERS:
            request.ended(now_ns, 0, request.ip)
        elif met == Meets.TARPIT:
            request.ended(now_ns + settings.timeout_server_ns, 504, None)
        elif met in REFUSES:
            # A turn-around before the next attempt, which a mere timeout does not get.
            self._retry(now_ns, request, min(settings.timeout_connect_ns, SECOND_NS))
        else:
            self._wait(now_ns + settings.timeout_connect_ns, request, self._retry)

    def _retry(self, now_ns: int, request: Request, wait_ns: int = 0) -> None:
        """Try the same address again, or choose anew where `option redispatch` says so."""
        retries, every = self.settings.retries, self.settings.redispatch_every
        request.retries += 1
        if request.retries > retries:
            request.ended(now_ns, 503, None)
            return
        due = request.retries % every == 0 if every > 0 else request.retries == retries
        others = sum(server.usable for server in self.servers) > 1
        lost = request.server is not None and not request.server.usable
        if every and (due or others or lost):
            request.ip = None
            wait_ns = 0 if others else wait_ns
        self._wait(now_ns + wait_ns, request, self._attempt)
