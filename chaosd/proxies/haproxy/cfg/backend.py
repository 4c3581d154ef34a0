"""Each backend of the files as the model has it, or the reason why it can't be one.

A value that HAProxy refuses, and a word that nobody knows, is a reason. What is understood but not
modelled is a `Limit` (`limits.py`). HAProxy's own defaults are those of the version that reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NoReturn, cast, get_args

from chaosd.plugins.timeline import RECORD_TYPES, RecordType
from chaosd.proxies.haproxy.cfg.address import slots, target
from chaosd.proxies.haproxy.cfg.checks import check_kind
from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Resolvers, Server, Value
from chaosd.proxies.haproxy.cfg.host import Host, here
from chaosd.proxies.haproxy.cfg.keywords import RESOLVERS_DEFAULTS, proxy_defaults, server_defaults
from chaosd.proxies.haproxy.cfg.limits import (
    Before,
    Change,
    before_backends,
    limit,
    limits_of,
)
from chaosd.proxies.haproxy.cfg.load import (
    balance_of,
    crowd_limits,
    number_of,
    observe_of,
    places_of,
)
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Follows,
    Limit,
    Resolver,
    ServerLine,
    Unknown,
)
from chaosd.proxies.haproxy.model.settings import Holds, InitState

_MS = 1_000_000
_HOLDS = ("valid", "obsolete", "nx", "refused", "timeout", "other")
_IMPLICIT = "default"  # a resolvers section that HAProxy makes itself, from /etc/resolv.conf


class Unread(StrEnum):
    """Why a backend of the files is none for the model."""

    REFUSED = "refused"  # a value that HAProxy does not take
    UNKNOWN_WORD = "unknown word"  # on a server's line, so the rest of it is not read
    NO_SLOTS = "no slots"  # a template's number that HAProxy does not take
    NO_REQUESTS = "no requests"  # of a mode without users


class _UnreadError(Exception):
    def __init__(self, why: Unread, place: Place, what: str) -> None:
        super().__init__(what)
        self.why, self.place, self.what = why, place, what


def read_backends(effective: Effective, host: Host | None = None) -> tuple[Backend | Unknown, ...]:
    """All `backend` and `listen` sections that have servers, in the order of the files.

    `host` is where HAProxy runs; this machine if it is not given.
    """
    where = here() if host is None else host
    proxies = (p for p in effective.proxies if p.kind in ("backend", "listen") and p.servers)
    before = before_backends(effective)
    return tuple(read_backend(effective, proxy, where, before) for proxy in proxies)


def read_backend(
    effective: Effective, backend: Proxy, host: Host, before: Sequence[Before] | None = None
) -> Backend | Unknown:
    """One section. It has to have servers. `before`: what frontends do, if that is known."""
    if before is None:
        before = before_backends(effective)
    try:
        return _Reader(effective, backend, host, before).backend()
    except _UnreadError as error:
        return Unknown(
            why=error.why,
            file=str(error.place.file),
            line=error.place.line,
            backend=backend.name,
            what=error.what,
        )


@dataclass
class _Reader:
    """Reads one backend; values that are not known are replaced by HAProxy's own, and noted."""

    effective: Effective
    proxy: Proxy
    host: Host
    before: Sequence[Before]
    unset: list[Limit] = field(default_factory=list)

    def backend(self) -> Backend:
        values = self.proxy.values
        own = proxy_defaults(self.effective.dialect.version)
        mode = str(values["mode"].value)
        if mode not in ("http", "tcp"):
            place = values["mode"].place or self.proxy.place
            raise _UnreadError(Unread.NO_REQUESTS, place, f"mode {mode}")
        servers = tuple(self._server(server) for server in self.proxy.servers)
        retry_on = values.get("retry-on")
        never = retry_on is not None and retry_on.value == "none"
        connect_ns = self._time(values["timeout connect"], None) or None
        balance, draws = balance_of(self.proxy)
        found = Backend(
            name=self.proxy.name,
            file=str(self.proxy.place.file),
            line=self.proxy.place.line,
            mode=cast(Literal["http", "tcp"], mode),
            servers=servers,
            all_backups=_is_on(values.get("option allbackups")),
            timeout_connect_ns=connect_ns,
            timeout_server_ns=self._time(values["timeout server"], None) or None,
            timeout_check_ns=self._time(values["timeout check"], None) or None,
            retries=0 if never else self._count(values["retries"], own["retries"], 0),
            redispatch_every=max(-1, self._count(values["option redispatch"], 0, None)),
            balance=balance,
            draws=draws,
            places=places_of(self.effective, self.proxy),
            queue_ns=self._time(values["timeout queue"], None) or connect_ns,
        )
        limits = (
            *limits_of(self.effective, self.proxy, self.before, several=_several(servers)),
            *dict.fromkeys(crowd_limits(self.effective, self.proxy, found)),
            *self.unset,
        )
        return replace(found, limits=limits)

    def _server(self, server: Server) -> ServerLine:
        count = slots(server)
        if not count:
            raise _UnreadError(Unread.NO_SLOTS, server.place, server.count or "")
        for value in server.unread:
            raise _UnreadError(Unread.UNKNOWN_WORD, value.place or server.place, _raw(value))
        there, values = target(server.address.text), server.values
        own = server_defaults(self.effective.dialect.version)
        follows, resolver = self._follows(server)
        families = resolver.families if resolver is not None else RECORD_TYPES
        prefers: RecordType = "A" if values["resolve-prefer"].value == "ipv4" else "AAAA"
        inter_ns = self._time(values["inter"], own["inter"], least_ms=1) or 0
        return ServerLine(
            name=server.name,
            file=str(server.place.file),
            line=server.place.line,
            slots=count,
            host=None if follows is Follows.FIXED else there.host.lower(),
            port=int(there.port) if there.port.isdecimal() else None,
            follows=follows,
            resolver=resolver,
            prefers=prefers if prefers in families else families[0],
            allow_dup_ip=bool(values["allow-dup-ip"].value),
            init_addr=self._init_addr(values["init-addr"], resolves=resolver is not None),
            init_state=_init_state(values.get("init-state")),
            check=check_kind(self.effective, server),
            inter_ns=inter_ns,
            fastinter_ns=self._time(values["fastinter"], None) or inter_ns,
            downinter_ns=self._time(values["downinter"], None) or inter_ns,
            fall=self._count(values["fall"], own["fall"], 1),
            rise=self._count(values["rise"], own["rise"], 1),
            backup=bool(values["backup"].value),
            weight=self._count(values["weight"], own["weight"], 0),
            shuts_sessions=values["on-marked-down"].value == "shutdown-sessions",
            observe=observe_of(server),
            places=number_of(server, "maxconn"),
            slowstart_ns=number_of(server, "slowstart") * _MS,
        )

    # --- how it comes to its address ---

    def _follows(self, server: Server) -> tuple[Follows, Resolver | None]:
        there = target(server.address.text)
        if not there.is_name:
            return Follows.FIXED, None
        used = server.values["resolvers"]
        if not used.is_said:
            return Follows.START, None
        name = str(used.value)
        section = self.effective.resolvers.get(name)
        follows = Follows.SERVICE if there.is_service else Follows.NAME
        if section is not None:
            return follows, self._resolver(section)
        implicit = name == _IMPLICIT and self.effective.dialect.has_default_resolvers
        if not implicit:  # the section may be in a file that was not given
            said = limit(used.place or server.place, f"resolvers {name}", Change.NO_RESOLVERS)
            self.unset.append(said)
        values = {key: Value(value) for key, value in RESOLVERS_DEFAULTS.items()}
        count = max(1, self.host.nameservers) if implicit else 1
        return follows, self._with_values(name, count, values)

    def _resolver(self, section: Resolvers) -> Resolver:
        count = len(section.nameservers)
        if section.parse_resolv_conf is not None:
            count += max(1, self.host.nameservers)
        values = {key: Value(value) for key, value in RESOLVERS_DEFAULTS.items()}
        return self._with_values(section.name, count, values | dict(section.values))

    def _with_values(self, name: str, count: int, values: Mapping[str, Value]) -> Resolver:
        own = RESOLVERS_DEFAULTS
        holds = {
            f"{hold}_ns": self._time(values[f"hold {hold}"], own[f"hold {hold}"]) or 0
            for hold in _HOLDS
        }
        retry = values["timeout retry"], own["timeout retry"]
        resolve = values["timeout resolve"], own["timeout resolve"]
        return Resolver(
            name=name,
            nameservers=count,
            timeout_resolve_ns=self._time(*resolve, least_ms=1) or 0,
            timeout_retry_ns=self._time(*retry, least_ms=1) or 0,
            resolve_retries=self._count(values["resolve_retries"], own["resolve_retries"], 1),
            holds=Holds(**holds),
            families=families_of(self.effective, self.host),
        )

    def _init_addr(self, value: Value, *, resolves: bool) -> tuple[str, ...]:
        """The methods in their order; HAProxy adds `none` where none are said."""
        methods = tuple(filter(None, str(value.value or "").split(",")))
        adds = resolves and self.effective.dialect.starts_without_address
        return (*methods, "none") if not value.is_said and adds else methods

    # --- values ---

    def _time(self, value: Value, own: object, *, least_ms: int = 0) -> int | None:
        """A time in nanoseconds; None where none is set."""
        ms = self._known(value, own)
        if ms is None:
            return None
        if int(ms) < least_ms:
            self._refuse(value, f"which must be at least {least_ms}ms")
        return int(ms) * _MS

    def _count(self, value: Value, own: object, least: int | None) -> int:
        count = int(self._known(value, own) or 0)
        if least is not None and count < least:
            self._refuse(value, f"which must be at least {least}")
        return count

    def _known(self, value: Value, own: object) -> int | None:
        if value.unclear is None:
            return None if value.value is None else int(value.value)
        if value.word is None or not (value.word.unset or value.word.variables):
            self._refuse(value, value.unclear)
        self.unset.append(limit(value.place or self.proxy.place, value.word.raw, Change.UNSET))
        return own if isinstance(own, int) else None

    def _refuse(self, value: Value, why: str) -> NoReturn:
        separator = " " if why.startswith("without") else ", "
        what = f"`{_raw(value)}`{separator}{why}"
        raise _UnreadError(Unread.REFUSED, value.place or self.proxy.place, what)


def families_of(effective: Effective, host: Host) -> tuple[RecordType, ...]:
    """The record types that HAProxy asks for: `dns-accept-family` of 3.2 and later."""
    dialect = effective.dialect
    said = dialect.accepted_families
    if said is None:
        return RECORD_TYPES
    for _, line in effective.document.statements("global"):
        if line.says("dns-accept-family") and line.words[1:]:
            said = frozenset(line.texts[1].split(","))
    if "auto" in said:
        return RECORD_TYPES if host.has_ipv6 else ("A",)
    names: dict[str, RecordType] = {"ipv4": "A", "ipv6": "AAAA"}
    return tuple(record for name, record in names.items() if name in said) or RECORD_TYPES


def _several(servers: tuple[ServerLine, ...]) -> bool:
    return sum(server.slots for server in servers) > 1


def _init_state(value: Value | None) -> InitState | None:
    """What is said; `none` is as if nothing were."""
    if value is None or not value.is_said:
        return None
    known = {state: cast(InitState, state) for state in get_args(InitState)}
    return known.get(str(value.value))


def _is_on(value: Value | None) -> bool:
    return value is not None and bool(value.value)


def _raw(value: Value) -> str:
    return value.word.raw if value.word is not None else ""
