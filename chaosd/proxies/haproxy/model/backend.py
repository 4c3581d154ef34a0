"""A backend as the model meets it, what may happen to it, and what then becomes of its users.

Plain values, read from a haproxy.cfg by `cfg/backend.py` and priced by `model/outlook.py`. Nothing
has a default that HAProxy has, too: the reader knows those of each version. Times are in
nanoseconds where HAProxy has a timer, in seconds where people read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from chaosd.plugins.timeline import Failure, RecordType
from chaosd.proxies.haproxy.model.settings import Holds, InitState


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """A `resolvers` section: who is asked, and how often."""

    name: str
    nameservers: int  # 0: nobody is asked; `parse-resolv-conf` alone counts as one
    timeout_resolve_ns: int
    timeout_retry_ns: int
    resolve_retries: int
    holds: Holds
    families: tuple[RecordType, ...]  # those that are asked for at all (`dns-accept-family`)


class Follows(StrEnum):
    """How a server comes to its address."""

    FIXED = "fixed"  # an IP address stands in the file
    START = "start"  # a name without `resolvers`: looked up once, at start
    NAME = "name"  # A and AAAA records, by `resolvers`
    SERVICE = "service"  # SRV records, by `resolvers`


class CheckKind(StrEnum):
    """What a server's health check finds out, and whether its failure asks DNS again."""

    NONE = "none"
    CONNECTS = "connects"  # to the port that requests go to
    ANSWERS = "answers"  # as CONNECTS, and waits for an answer (HTTP, tcp-check expect, TLS)
    ELSEWHERE = "elsewhere"  # to another port or address
    OUTSIDE = "outside"  # an agent alone or an external command: not in the model


class OnError(StrEnum):
    """What too many failed requests in a row do to a server; the values are HAProxy's words."""

    FASTINTER = "fastinter"  # the next check comes soon
    FAIL_CHECK = "fail-check"  # as a failed check
    SUDDEN_DEATH = "sudden-death"  # one more failure, and it is DOWN
    MARK_DOWN = "mark-down"  # it is DOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """`observe`: requests that fail count against their server."""

    answers: bool  # `layer7`: also those that are answered badly
    limit: int  # so many in a row
    on_error: OnError
    fastinter_ns: int | None  # then the next check comes at once so soon; None: when it is due


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLine:
    """A `server` or `server-template` line, with all that it inherits."""

    name: str  # of a template: its prefix
    file: str
    line: int
    slots: int  # 1, or as many as the template makes
    host: str | None  # the name it follows; None: FIXED
    port: int | None
    follows: Follows
    resolver: Resolver | None  # None unless it follows by `resolvers`
    prefers: RecordType
    allow_dup_ip: bool
    init_addr: tuple[str, ...]  # methods in their order, such as ("last", "libc", "none")
    init_state: InitState | None
    check: CheckKind
    inter_ns: int
    fastinter_ns: int
    downinter_ns: int
    fall: int
    rise: int
    backup: bool
    weight: int
    shuts_sessions: bool  # `on-marked-down shutdown-sessions`
    observe: Observe | None
    places: int  # requests at a time (`maxconn`); 0: any number
    slowstart_ns: int  # it gets its share little by little for so long; 0: at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A part of the file that the model leaves out, and what that may change in the answer."""

    file: str
    line: int
    what: str  # the words of the file
    changes: str  # what the answer may be wrong in; a value that `cfg/wording.py` words


class Balance(StrEnum):
    """How a server is chosen for a request."""

    TURNS = "turns"  # one after the other, by weight
    LEAST = "least"  # the one that holds the fewest requests
    RANDOM = "random"  # of some that are drawn the one that holds the fewest
    FIRST = "first"  # the first that is not full


_HELD_S_MAX = 20.0  # how long a request tries an address that is gone, where nothing limits it
_RATE_MAX = 100.0  # requests a second, for which it is looked whether places may be used up


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A `backend` or `listen` section that has servers."""

    name: str
    file: str
    line: int
    mode: Literal["http", "tcp"]
    servers: tuple[ServerLine, ...]
    all_backups: bool
    timeout_connect_ns: int | None  # None: as long as the kernel tries
    timeout_server_ns: int | None
    timeout_check_ns: int | None
    retries: int
    redispatch_every: int  # 0 never, -1 on the last retry, N on every Nth
    balance: Balance
    draws: int  # of RANDOM
    places: int  # requests that HAProxy lets in at a time; 0: any number
    queue_ns: int | None  # how long a request waits for a place at a server; None: for ever
    limits: tuple[Limit, ...] = ()

    def is_few(self, places: int) -> bool:
        """Whether requests that try an address that is gone may take so many places."""
        connect_ns = self.timeout_connect_ns
        held_s = _HELD_S_MAX if connect_ns is None else (self.retries + 1) * connect_ns / 1e9
        return 0 < places < _RATE_MAX * min(held_s, _HELD_S_MAX)

    @property
    def is_crowded(self) -> bool:
        """Whether what becomes of a request depends on those that came before it."""
        if any(self.is_few(places) for places in (self.places, *(s.places for s in self.servers))):
            return True
        if any(line.observe and line.check is not CheckKind.NONE for line in self.servers):
            return True
        several = sum(line.slots for line in self.servers) > 1
        uneven = self.balance is not Balance.TURNS or any(s.slowstart_ns for s in self.servers)
        return several and uneven


# --- what may happen ---


class Happening(StrEnum):
    """What a backend is asked about."""

    MOVE = "move"  # an instance goes; its successor has another address
    NODE_LOST = "node_lost"  # as MOVE, but packets to the old address vanish
    TAKEN = "taken"  # as MOVE, but another application answers at the old address
    GROWS = "grows"  # one more instance; nothing goes
    SHRINKS = "shrinks"  # one instance less; nothing comes
    DNS_TROUBLE = "dns_trouble"  # nothing moves; the nameservers fail for some seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One such happening in numbers; seconds after T0.

    A move: the name is missing (or stale, where `missing` is None) from T0 until `published_s`;
    the new instance accepts connections from `listening_s` on and is well from `healthy_s` on.
    DNS trouble: `missing` is how the nameservers answer, until `published_s`.
    """

    happening: Happening
    published_s: float
    listening_s: float = 0.0
    healthy_s: float = 0.0
    missing: Failure | None = None
    family: RecordType | None = None  # DNS trouble of this record type alone
    nameservers: int | None = None  # so many of them have the trouble; None: all
    dead: int = 0  # so many nameservers never answer, before and after T0
    additional: bool = True  # SRV answers hold the addresses of their targets
    instances: int | None = None  # for a name with many addresses; None: as `instances_of` says


# --- what becomes of it ---

PATIENCE_S = 30.0  # who has no answer by then has gone: the request has failed
SLOW_S = 0.25  # a good answer that is later is masked: as `measure.slow_after` says by default


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution over the phases of HAProxy's timers, in seconds; inf where it is never."""

    p05: float
    p50: float
    p95: float
    mean: float  # of the trials that come to an end; nan if none does
    never: float  # the share of trials that do not, 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a scenario does to the users of a backend.

    Requests are counted in seconds' worth: at 50 requests a second, 2.0 is 100 requests. They count
    if they begin from T0 until `horizon_s`: by then everything that has an end has come to it, and
    what has none has gone on for a minute.
    """

    # To the first good answer to a fresh request from the new instance. DNS trouble: as `stable_s`.
    recovery_s: Spread
    stable_s: Spread  # to the first good answer after which nothing fails; 0: nothing ever failed
    failed_s: Spread
    masked_s: Spread  # answered well, but only after a retry, and `SLOW_S` late or more
    misrouted_s: Spread  # answered by another application, at the old address
    unaffected: float  # the share of trials in which no request fails or is misrouted
    slowest_s: float  # the longest that a single request is kept waiting, at p95
    queries_per_s: float  # DNS queries of this backend, at rest
    queries_in_trouble_per_s: float  # and while the scenario lasts
    horizon_s: float
    trials: int


class Beyond(StrEnum):
    """Why nothing can be said about a backend."""

    NO_SERVER = "no server"
    NO_NAMESERVER = "no nameserver"  # the `resolvers` section of the server that moves has none
    OLD_VERSION = "old version"  # of another algorithm
    TOO_MANY = "too many"  # servers: it would take minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Why there is no outlook; `cfg/wording.py` makes the sentence."""

    why: str  # one of `Beyond`, or what the reader of the file says
    file: str | None = None
    line: int | None = None
    backend: str = ""  # whose outlook it would be
    what: str = ""  # the words of the file that it is about
