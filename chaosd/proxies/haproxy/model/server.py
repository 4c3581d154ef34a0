"""A server of HAProxy's: its address, its state and its health check."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Any, Protocol

from chaosd.plugins.simulation import NEVER_NS, REFUSES, Surroundings, below
from chaosd.plugins.timeline import Meets
from chaosd.proxies.haproxy.model.backend import Backend, CheckKind, OnError, ServerLine
from chaosd.proxies.haproxy.model.versions import FORGETS_ADDRESS, HAS_INIT_STATE, Version

SECOND_NS = 1_000_000_000

Step = Callable[[int], None]
# Whether what is met at this address from this instant on never changes again.
Final = Callable[[int, str], bool]


class CheckFailure(Enum):
    """How a check fails; the values are HAProxy's words for it."""

    REFUSED = "Layer4 connection problem"
    UNCONNECTED = "Layer4 timeout"
    UNANSWERED = "Layer7 timeout"
    UNWELL = "Layer7 wrong status"


_CONNECTION = frozenset({CheckFailure.REFUSED, CheckFailure.UNCONNECTED})


LATE_NS = 1_000_000  # a timer is late by that, on average
_LATE_BITS = LATE_NS.bit_length()
_WEIGHT_STEPS = 16  # of a server's weight, with `slowstart`


def late(rng: Random, at_ns: int) -> int:
    """The instant at which a timer that was set to `at_ns` strikes: HAProxy's clock counts ms."""
    while (drawn := rng.getrandbits(_LATE_BITS)) >= LATE_NS:  # as `below` does it, which is slower
        pass
    return at_ns + LATE_NS // 2 + drawn


class AsksAgain(Protocol):
    """What is told when a check cannot connect."""

    def ask_again(self, now_ns: int) -> None:
        """A check could not connect: ask DNS, if it is time."""

    def is_deaf(self, now_ns: int) -> bool:
        """Whether failed checks have no effect on it from now on."""


class Group:
    """The servers of a backend: whether one has changed since they were looked at together."""

    changed = True


class Server:
    """A server's address, its state and its health check.

    With `final`, a check that can change nothing any more sleeps until its server has another
    address.
    """

    def __init__(
        self,
        name: str,
        line: ServerLine,
        backend: Backend,
        version: Version,
        *,
        world: Surroundings,
        rng: Random,
        group: Group,
        final: Final | None = None,
    ) -> None:
        self.name = name
        self.line = line
        self.asks: AsksAgain | None = None
        self._version, self._world, self._rng, self._final = version, world, rng, final
        self._group = group
        self._rise = line.rise
        self.places = line.places or math.inf  # requests at a time
        self._health_full = line.rise + line.fall - 1
        self._answer_ns, self._connect_ns = backend.timeout_check_ns, backend.timeout_connect_ns
        self._settled: str | None = None  # the address that it had for long before it began
        self.begin(NEVER_NS)

    def begin(self, check_at_ns: int) -> None:
        """Begin (anew), as it was settled; the first check is then."""
        self.ip: str | None = None
        self.maintenance = True  # until it has an address
        self.check_at_ns = check_at_ns
        self.check_step: Step = self._check  # what is due at `check_at_ns`
        self._checked: str | None = None  # where the last check went
        self._paused_ns: int | None = None  # when one was left out, for want of an address
        self._took_ns, self._late_why = 0, CheckFailure.UNCONNECTED  # how it fails, if it is slow
        self._health = 0
        self.held = 0  # requests that it has been given and that are not at their end
        self.used = 0  # the last use of it, counted in all servers of the backend
        self._errors = 0  # requests that failed in a row
        self._up_ns: int | None = None  # when it began to be given requests little by little
        self._group.changed = True
        if self._settled is not None:
            self.settle(self._settled)

    @property
    def usable(self) -> bool:
        """Whether new requests may be given to it."""
        return not self.maintenance and self._health >= self._rise

    @property
    def awaits_check(self) -> bool:
        """Whether a check is under way, which may be of another address than it has."""
        return self.check_step == self._time_out

    def weight(self, now_ns: int) -> float:
        """Its share of requests among others. `slowstart` counts in seconds."""
        line = self.line
        if self._up_ns is None or not line.slowstart_ns:
            return line.weight
        since_s = (now_ns - self._up_ns) // SECOND_NS
        parts = (_WEIGHT_STEPS * since_s * SECOND_NS + line.slowstart_ns) // line.slowstart_ns
        return line.weight * min(parts, _WEIGHT_STEPS) / _WEIGHT_STEPS

    def settle(self, ip: str) -> None:
        """Have had this address for long, in full health."""
        self._settled = ip
        self.ip, self.maintenance, self._health = ip, False, self._health_full
        self._group.changed = True

    def move(self, now_ns: int, ip: str) -> None:
        """Take this address. Checks under way go on, and come to their end at the old one."""
        if ip != self.ip:
            old, self.ip = self.ip, ip
            self._say(now_ns, "address_changed", old=old, new=ip)
            if not self.maintenance:
                self._wake(now_ns)
        if self.maintenance:
            self._wake(now_ns)
            self._leave_maintenance(now_ns)

    def enter_maintenance(self, now_ns: int, reason: str) -> None:
        if self.maintenance:
            return
        self.maintenance, self._health = True, 0
        if self._version >= FORGETS_ADDRESS:
            self.ip = None
        self._say(now_ns, "maint", reason=reason)

    def _leave_maintenance(self, now_ns: int) -> None:
        line = self.line
        state = line.init_state if self._version >= HAS_INIT_STATE else None
        self._health = {
            "fully-up": self._health_full,
            "down": line.rise - 1,
            "fully-down": 0,
        }.get(state or "up", line.rise)
        if line.check is CheckKind.NONE:
            self._health = self._health_full
        self.maintenance = False
        if self.usable:
            self._up_ns = now_ns
            self._say(now_ns, "up")
        else:
            self._say(now_ns, "down", reason="resolves again")
        self._say(now_ns, "ready")

    def _say(self, at_ns: int, what: str, **data: Any) -> None:
        self._group.changed = True
        self._world.said(at_ns, what, {"server": self.name} | data)

    # --- the check (reference: process_chk, srv_getinter, chk_report_conn_err) ---

    def sleep(self, now_ns: int) -> None:
        """Check no more, if no check can change anything."""
        if self._final is None or self.ip is None or not self._final(now_ns, self.ip):
            return
        asks = self.asks
        dead = not self._health and self._checked == self.ip
        dead = dead and (asks is None or asks.is_deaf(now_ns))
        if dead or self._health == self._health_full:
            self.check_at_ns = NEVER_NS

    def rouse(self, now_ns: int) -> None:
        """Check again, if it sleeps because its address is dead."""
        if not self.maintenance and not self._health:
            self._wake(now_ns)

    def _wake(self, now_ns: int) -> None:
        """Check again after a sleep, in any phase: a check may just be under way."""
        if self.check_at_ns != NEVER_NS or self.line.check is CheckKind.NONE:
            return
        if self.maintenance and self._paused_ns is not None:
            period_ns = self.line.inter_ns + LATE_NS
            self.check_at_ns = now_ns + period_ns - (now_ns - self._paused_ns) % period_ns
            self.check_step = self._check
            return
        took_ns = 0 if self.maintenance or self._health else self._took_ns
        left_ns = below(self._rng, took_ns + self._interval_ns())
        if left_ns < took_ns:
            self.check_at_ns, self.check_step = now_ns + left_ns, self._time_out
        else:
            self.check_at_ns, self.check_step = now_ns + left_ns - took_ns, self._check

    def _then(self, at_ns: int, step: Step) -> None:
        self.check_at_ns, self.check_step = late(self._rng, at_ns), step

    def _check(self, now_ns: int) -> None:
        line = self.line
        inter_ns, answer_ns = line.inter_ns, self._answer_ns
        if self.maintenance or self.ip is None:  # paused, but it keeps its rhythm
            if self._final is None:
                self._then(now_ns + inter_ns, self._check)
            else:
                self.check_at_ns, self._paused_ns = NEVER_NS, now_ns
            return
        self._checked = self.ip
        self._took_ns = 0
        met = self._world.connect(now_ns, self.ip)
        if met in REFUSES:
            self._fail(now_ns, CheckFailure.REFUSED)
        elif met in (Meets.BLACKHOLE, Meets.VACANT):
            # With `timeout check`, `timeout connect` limits this part of a check too.
            self._took_ns, self._late_why = inter_ns, CheckFailure.UNCONNECTED
            if answer_ns and self._connect_ns is not None:
                self._took_ns = min(inter_ns, self._connect_ns)
            self._then(now_ns + self._took_ns, self._time_out)
        elif met == Meets.TARPIT and line.check is CheckKind.ANSWERS:
            self._took_ns, self._late_why = answer_ns or inter_ns, CheckFailure.UNANSWERED
            self._then(now_ns + self._took_ns, self._time_out)
        elif met == Meets.UNWELL and line.check is CheckKind.ANSWERS:
            self._fail(now_ns, CheckFailure.UNWELL)
        else:
            self._pass(now_ns)

    def _pass(self, now_ns: int) -> None:
        if self._health < self._health_full:
            self._health += 1
            if self._health == self._rise:
                self._up_ns = now_ns
                self._say(now_ns, "up")
            if self._health >= self._rise:
                self._health = self._health_full
        self._then(now_ns + self._interval_ns(), self._check)
        self.sleep(now_ns)

    def _time_out(self, now_ns: int) -> None:
        self._fail(now_ns, self._late_why)

    def _fail(self, now_ns: int, why: CheckFailure) -> None:
        if not self.maintenance:
            self._lose_health(now_ns, why.value)
            if why in _CONNECTION and self.asks is not None:
                self.asks.ask_again(now_ns)
        self._then(now_ns + self._interval_ns(), self._check)
        self.sleep(now_ns)

    def _lose_health(self, now_ns: int, why: str) -> None:
        if self._health > self._rise:
            self._health -= 1
            return
        if self._health == self._rise:
            self._say(now_ns, "down", reason=why)
        self._health = 0

    # --- requests (reference: health_adjust) ---

    def request_passed(self) -> None:
        """One has been answered."""
        self._errors = 0

    def request_failed(self, now_ns: int, *, answered: bool) -> None:
        """An attempt has failed: with `observe`, too many in a row are as a failed check."""
        observe = self.line.observe
        if observe is None or self.maintenance or self.line.check is CheckKind.NONE:
            return
        if answered and not observe.answers:
            self._errors = 0
            return
        self._errors += 1
        if self._errors < observe.limit:
            return
        self._errors = 0
        if observe.on_error is OnError.MARK_DOWN:
            self._health = min(self._health, self._rise)
        elif observe.on_error is OnError.SUDDEN_DEATH:
            self._health = min(self._health, self._rise + 1)
        if observe.on_error is not OnError.FASTINTER:
            self._lose_health(now_ns, "observed")
        self._wake(now_ns)
        if observe.fastinter_ns is not None and not self.awaits_check:
            self.check_at_ns = min(self.check_at_ns, now_ns + observe.fastinter_ns)

    def _interval_ns(self) -> int:
        line = self.line
        if self.maintenance or self._health == self._health_full:
            return line.inter_ns
        return line.fastinter_ns if self._health else line.downinter_ns


def asks_dns(line: ServerLine) -> bool:
    """Whether a check of this server that cannot connect asks DNS again."""
    return line.check not in (CheckKind.NONE, CheckKind.OUTSIDE)
