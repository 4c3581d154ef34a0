"""A name that HAProxy asks for, as the servers of a backend share it.

Reference: src/resolvers.c, process_resolvers and resolv_process_responses. A resolution is shared
by all servers with the same `resolvers` section, name and preferred record type.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random

from chaosd.plugins.simulation import NEVER_NS, Reply
from chaosd.plugins.timeline import Failure, RecordType
from chaosd.proxies.haproxy.model.backend import Resolver
from chaosd.proxies.haproxy.model.server import LATE_NS, SECOND_NS, Server, Step, late
from chaosd.proxies.haproxy.model.settings import Hold
from chaosd.proxies.haproxy.model.versions import (
    CHECKS_ASK_AGAIN,
    COUNTS_MILLISECONDS,
    FORGETS_ANSWERS,
    FORGETS_SERVICES,
    Version,
)

HOLDS = {
    Failure.NXDOMAIN: Hold.NX,
    Failure.REFUSED: Hold.REFUSED,
    Failure.SERVFAIL: Hold.OTHER,
    Failure.EMPTY: Hold.OTHER,
    Failure.ERROR: Hold.OTHER,
    Failure.TRUNCATED: Hold.OTHER,
    Failure.DAMAGED: Hold.OTHER,
    Failure.SILENCE: Hold.TIMEOUT,
}
_REASONS = {
    Hold.NX: "DNS NX status",
    Hold.REFUSED: "DNS refused status",
    Hold.TIMEOUT: "DNS timeout status",
    Hold.OTHER: "unspecified DNS error",
}

_NOTHING = Reply(Failure.SILENCE)

# What all nameservers together answer a query for this record type.
Ask = Callable[[int, RecordType], Reply]


class Resolution:
    """The polls for one name, and which server has which of its addresses.

    With `final`, which says whether the name's answers change no more, polls that can change
    nothing are left out.
    """

    def __init__(
        self,
        resolver: Resolver,
        host: str,
        prefers: RecordType,
        version: Version,
        *,
        ask: Ask,
        rng: Random,
        servers: Sequence[Server],
        peers: Sequence[Server],
        services: bool,
        start_ns: int,
        poll_at_ns: int,
        second_ns: int,
        final: Callable[[int], bool] | None = None,
        late_targets: bool = False,
    ) -> None:
        self.resolver, self.host, self.servers, self.peers = resolver, host, servers, peers
        self._prefers, self._version, self._ask_world, self._rng = prefers, version, ask, rng
        self.services, self._final = services, final
        self._holds_ns = {hold: resolver.holds.after_ns(hold) for hold in Hold}
        self._asks_other = not services and len(resolver.families) > 1
        self._retry_timer_ns = resolver.timeout_retry_ns
        self._whole_seconds = version < COUNTS_MILLISECONDS
        self._late_targets = late_targets and services
        # Servers that no failure puts into maintenance.
        self._stays = services and not late_targets and not _forgets_services(version)
        self._start_ns = start_ns
        self._settled: Sequence[str] | None = None  # what it was answered for long before it began
        self.begin(poll_at_ns, second_ns)

    def begin(self, poll_at_ns: int, second_ns: int) -> None:
        """Begin (anew), as it was settled; the first poll is then, the clock's seconds begin so."""
        self.at_ns = poll_at_ns
        self.step: Step = self._poll
        self._second_ns = second_ns
        self._targets: frozenset[str] = frozenset()  # of the last answer
        self._last_seen: dict[str, int] = {}
        self._order: dict[str, float] = {}
        self._last_valid_ns = self._last_resolution_ns = self._start_ns
        self._valid = self._resolving = False
        self._rounds_left = 0
        self._record: RecordType = self._prefers
        self._began_ns = self._sent_ns = 0
        self._reply = _NOTHING  # to the last question
        self._quiet_until_ns = 0  # until then polls are left out, and checks need not ask
        if self._settled is not None:
            self.settle(self._start_ns, self._settled)

    def settle(self, now_ns: int, ips: Sequence[str]) -> None:
        """Have been answered so for long."""
        self._settled = ips
        last_ns = min(now_ns, self.at_ns - self.resolver.timeout_resolve_ns)
        self._last_seen = dict.fromkeys(ips, last_ns)
        self._targets = frozenset(ips)
        self._last_valid_ns = self._last_resolution_ns = last_ns
        self._valid = True

    # --- polls ---

    def _then(self, at_ns: int, step: Step) -> None:
        self.at_ns, self.step = at_ns, step

    def _poll(self, now_ns: int) -> None:
        self._resolving, self._began_ns = True, now_ns
        if self._quiet_until_ns and now_ns >= self._quiet_until_ns:
            self._quiet_until_ns = 0
            for server in self.servers:
                server.rouse(now_ns)
        self._rounds_left = self.resolver.resolve_retries
        self._round(now_ns)

    def _round(self, now_ns: int) -> None:
        self._ask(now_ns, self._prefers)

    def _ask(self, now_ns: int, record: RecordType) -> None:
        self._record, self._sent_ns = record, now_ns
        self._reply = reply = self._ask_world(now_ns, record)
        answer = reply.answer
        # An answer may come late, as long as its resolution is still going on.
        left_ns = self._rounds_left * self._retry_timer_ns
        if answer is Failure.SILENCE or reply.took_ns >= left_ns:
            self._then(self._retry_ns(), self._unanswered)
        elif reply.partial and isinstance(answer, Failure):
            self._then(self._retry_ns(), self._half_answered)
        else:
            self._then(now_ns + reply.took_ns, self._answered)

    def _retry_ns(self) -> int:
        return late(self._rng, self._sent_ns + self._retry_timer_ns)

    def _unanswered(self, now_ns: int) -> None:
        self._rounds_left -= 1
        if self._rounds_left:
            self._ask(now_ns, self._record)  # a silence repeats the same type
        else:
            self._give_up(now_ns, Hold.TIMEOUT)

    def _half_answered(self, now_ns: int) -> None:
        """Not all nameservers have answered, or no other type may be asked for: the pause is over.

        In the last round no other type is asked for any more.
        """
        last = self._rounds_left <= 1
        if not last and self._record == self._prefers and self._asks_other:
            self._ask(now_ns, _other(self._record))
            return
        self._rounds_left -= 1
        if last:
            self._give_up(now_ns, self._hold())
        else:
            self._round(now_ns)

    def _answered(self, now_ns: int) -> None:
        answer = self._reply.answer
        if not isinstance(answer, Failure):
            self._accept(now_ns, answer)
            return
        if not self._asks_other:
            self._then(max(now_ns, self._retry_ns()), self._half_answered)
            return
        if self._record == self._prefers:
            self._ask(now_ns, _other(self._record))
            return
        self._rounds_left -= 1
        if self._rounds_left:
            self._then(max(now_ns, self._retry_ns()), self._round)
        else:
            self._give_up(now_ns, self._hold())

    def _hold(self) -> Hold:
        """Which hold counts after the failure that was answered last."""
        answer = self._reply.answer
        return HOLDS[answer] if isinstance(answer, Failure) else Hold.OTHER

    def _resolved(self, now_ns: int, *, valid: bool) -> None:
        self._resolving, self._valid, self._last_resolution_ns = False, valid, now_ns
        resolve_ns = self.resolver.timeout_resolve_ns
        self._then(late(self._rng, now_ns + resolve_ns), self._poll)

    def _give_up(self, now_ns: int, hold: Hold) -> None:
        servers = self.servers
        if now_ns >= self._last_valid_ns + self._holds_ns[hold] and not self._stays:
            # One that is in maintenance already keeps what the answers held alive.
            keeps = not self.services and any(server.maintenance for server in servers)
            for server in servers:
                server.enter_maintenance(now_ns, _REASONS[hold])
            if self._version >= FORGETS_ANSWERS and not keeps:
                self._last_seen = {}
        self._resolved(now_ns, valid=False)
        rest = self._stays or all(server.maintenance for server in servers)
        if rest and self._is_final(self._began_ns):
            self.at_ns = NEVER_NS

    def ask_again(self, now_ns: int) -> None:
        """A failed check asks at once if the last answer is bad or older than `hold valid`."""
        if self._resolving or self._version < CHECKS_ASK_AGAIN:
            return
        hold_ns = self.resolver.holds.valid_ns
        if not self._valid or now_ns >= self._last_resolution_ns + hold_ns:
            self._then(now_ns, self._poll)

    def is_deaf(self, now_ns: int) -> bool:
        """Whether failed checks have no effect on it from now on."""
        if self._resolving or not self._valid or not self._is_final(self._sent_ns):
            return False
        early = self.resolver.holds.valid_ns < self.resolver.timeout_resolve_ns
        asks = early and self._version >= CHECKS_ASK_AGAIN
        return self.at_ns == NEVER_NS or not asks or now_ns < self._quiet_until_ns

    # --- a valid answer ---

    def _accept(self, now_ns: int, ips: tuple[str, ...]) -> None:
        """Take a valid answer in: old addresses live on for `hold obsolete`."""
        self._last_valid_ns = now_ns
        seen = self._last_seen
        if self._late_targets:
            # A new target is asked for with the next poll of its name: they go on side by side.
            known, self._targets = self._targets, frozenset(ips)
            ips = tuple(ip for ip in ips if ip in known)
        for ip in ips:
            seen[ip] = now_ns
        since_ns = self._living_since_ns(now_ns)
        for ip in [ip for ip, at_ns in seen.items() if at_ns < since_ns]:
            del seen[ip]
        if self.services:
            self._fill_slots(now_ns)
        else:
            self._fill_servers(now_ns, ips)
        self._resolved(now_ns, valid=True)
        if self._is_final(self._sent_ns):
            self._leave_out(now_ns)

    def _fill_servers(self, now_ns: int, ips: tuple[str, ...]) -> None:
        """A server keeps its address while that lives.

        Another one gets an address that no other server has, or, if there is none, goes into
        maintenance at once, whatever the holds say.
        """
        seen = self._last_seen
        taken = {peer.ip for peer in self.peers}
        spare = seen.keys() - taken
        for server in self.servers:
            if server.ip is not None and server.ip in seen:
                server.move(now_ns, server.ip)
                continue
            found = self._free(ips, taken) if spare else None
            if found is None and server.line.allow_dup_ip:
                found = next(iter((*ips, *seen)), None)
            if found is not None:
                server.move(now_ns, found)
                taken.add(found)
                spare.discard(found)
            else:
                server.enter_maintenance(now_ns, "No IP for server")

    def _free(self, ips: tuple[str, ...], taken: Collection[str | None]) -> str | None:
        """An address that nobody has: the first in the order of its record's hash."""
        seen = self._last_seen
        if len(seen) == len(ips) or self._version < FORGETS_ANSWERS:
            return next((ip for ip in (*ips, *seen) if ip not in taken), None)
        free = [ip for ip in seen if ip not in taken]
        return min(free, key=self._place, default=None)

    def _fill_slots(self, now_ns: int) -> None:
        """SRV: a target keeps its slot while it lives; a new one gets a free slot."""
        seen, servers = self._last_seen, self.servers
        held = {server.ip: server for server in servers if not server.maintenance}
        gone = [server for ip, server in held.items() if ip not in seen]
        new = [ip for ip in seen if ip not in held]
        spare = [server for server in servers if server.maintenance]
        # Records are looked at in the order of their hashes, each new one when its turn comes: one
        # before an old one that is about to be dropped does not find that one's slot.
        turns = sorted([*(s.ip for s in gone if s.ip is not None), *new], key=self._place)
        for ip in turns:
            if ip in held:
                held[ip].enter_maintenance(now_ns, "entry removed from SRV record")
                spare.append(held[ip])
            elif spare:
                spare.pop(0).move(now_ns, ip)

    def _place(self, ip: str) -> float:
        if ip not in self._order:
            self._order[ip] = self._rng.random()
        return self._order[ip]

    def _living_since_ns(self, now_ns: int) -> int:
        """What was last answered before this instant is obsolete."""
        hold_ns = self.resolver.holds.obsolete_ns
        if not self._whole_seconds:
            return now_ns - hold_ns
        seconds = (now_ns + self._second_ns) // SECOND_NS - hold_ns // SECOND_NS
        return seconds * SECOND_NS - self._second_ns

    # --- nothing changes any more ---

    def _is_final(self, now_ns: int) -> bool:
        return self._final is not None and self._final(now_ns)

    def _leave_out(self, now_ns: int) -> None:
        """Leave out polls that find what is known: until an old record is obsolete, or for ever."""
        if self.services and self._waits_for_slot():
            return
        if self._late_targets and not self._targets <= self._last_seen.keys():
            return
        stale = [at_ns for at_ns in self._last_seen.values() if at_ns < now_ns]
        if not stale:
            self.at_ns = NEVER_NS
            return
        period_ns = self.resolver.timeout_resolve_ns + LATE_NS
        left_ns = min(stale) + self.resolver.holds.obsolete_ns - now_ns
        if self._whole_seconds:
            left_ns -= SECOND_NS
        # By then checks go on again, which may ask.
        left_ns -= 2 * max(s.line.inter_ns + s.line.downinter_ns for s in self.servers)
        if (polls := left_ns // period_ns) > 1:
            self.at_ns += (polls - 1) * period_ns
            self._quiet_until_ns = self.at_ns

    def _waits_for_slot(self) -> bool:
        held = {server.ip for server in self.servers if not server.maintenance}
        spare = len(held) < len(self.servers)
        return spare and any(ip not in held for ip in self._last_seen)


def _forgets_services(version: Version) -> bool:
    return version >= FORGETS_SERVICES and not (2, 3) <= version < (2, 3, 6)


def _other(record: RecordType) -> RecordType:
    return "AAAA" if record == "A" else "A"
