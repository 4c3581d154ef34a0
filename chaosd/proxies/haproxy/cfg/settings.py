"""The effective settings of the app's server, for the model: those the algorithm goes by.

What is not understood is never guessed: there is no prediction then, and a finding says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from chaosd.proxies.haproxy.cfg.effective import Effective, Origin, Proxy, Resolvers, Server, Value
from chaosd.proxies.haproxy.cfg.findings import Finding, Kind
from chaosd.proxies.haproxy.cfg.keywords import server_defaults
from chaosd.proxies.haproxy.cfg.own_file import is_undecided
from chaosd.proxies.haproxy.cfg.source import Place, Trouble
from chaosd.proxies.haproxy.model.settings import Holds, InitState, Settings

_MS = 1_000_000
# Of a server: what the model goes by, and what has nothing to do with when the app is found again.
_MODELLED = frozenset(
    {
        *("check", "inter", "fastinter", "downinter", "fall", "rise", "resolve-prefer"),
        *("init-addr", "init-state", "on-marked-down"),
    }
)
_HARMLESS = frozenset(
    {
        *("resolvers", "weight", "maxconn", "minconn", "maxqueue", "cookie", "id", "pool-max-conn"),
        # How a connection goes on, and not when or where it is made.
        *("ssl", "check-ssl", "verify", "verifyhost", "sni", "check-sni", "ca-file", "crt", "alpn"),
        *("check-alpn", "ssl-reuse", "send-proxy", "send-proxy-v2", "check-send-proxy"),
        *("send-proxy-v2-ssl", "send-proxy-v2-ssl-cn", "proxy-v2-options"),
    }
)
# Options and directives that change how checks or retries go in ways that are not in the model.
_BEYOND_OPTIONS = (
    *("tcp-check", "ssl-hello-chk", "smtpchk", "mysql-check", "pgsql-check", "redis-check"),
    *("ldap-check", "spop-check", "external-check", "transparent", "http_proxy"),
)
_BEYOND = ("retry-on", "tcp-check", "external-check", "dispatch", "use-server", "email-alert")
_HTTP_CHECKS = ("expect", "send", "comment")  # they change what a check asks, not when or where
_BEYOND_GLOBAL = ("spread-checks", "dns-accept-family")
_HOLDS = ("valid", "obsolete", "nx", "refused", "timeout", "other")
_FOREVER_NS = (2**31 - 1) * _MS  # the longest timer that HAProxy has


class _BeyondError(Exception):
    """The model does not reach this."""

    def __init__(self, place: Place, detail: str, kind: Kind = Kind.NOT_MODELLED) -> None:
        super().__init__(detail)
        self.finding = Finding(place, kind, detail)


def read_settings(
    effective: Effective, servers: Sequence[Server], path: Path
) -> tuple[Settings | None, Finding | None]:
    """What the model needs of these servers; or None, and why.

    What the file leaves out is HAProxy's own default of this version. Nothing is found where
    there is no server, or no file: `own_file.problems` says so.
    """
    if not servers:
        return None, None
    try:
        server = _only(effective, servers, path)
        backend = effective.backend_of(server)
        _look_at_backend(backend)
        _look_at_server(effective, server)
        return _settings(effective, server, backend, path), None
    except _BeyondError as error:
        return None, error.finding


# --- what the model does not reach ---


def _only(effective: Effective, servers: Sequence[Server], path: Path) -> Server:
    if is_undecided(effective):
        problem = next(p for p in effective.problems if p.trouble is Trouble.UNDECIDED)
        raise _BeyondError(problem.place, problem.what, Kind.NOT_PREDICTED)
    server = servers[0]
    if len(servers) != 1 or server.is_template:
        raise _BeyondError(Place(path, 0), "more than one server for the app")
    for _, line in effective.document.statements("global"):
        if line.keyword in _BEYOND_GLOBAL:
            raise _BeyondError(line.place, f"`{line.keyword}`")
    for other in effective.backend_of(server).servers:
        if other is not server:
            raise _BeyondError(other.place, "another server beside the app")
    return server


def _look_at_server(effective: Effective, server: Server) -> None:
    for value in server.unread:
        raise _BeyondError(value.place or server.place, _written("", value))
    own = server_defaults(effective.dialect.version)
    for name, value in server.values.items():
        is_own_default = value.value == own.get(name, False) and value.unclear is None
        if value.is_said and not is_own_default and name not in _MODELLED | _HARMLESS:
            raise _BeyondError(value.place or server.place, _written(name, value))


def _look_at_backend(backend: Proxy) -> None:
    for line in (*backend.inherited, *backend.statements):
        is_check = line.keyword == "http-check" and line.texts[1:2] and not line.modifier
        if line.keyword in _BEYOND or (is_check and line.texts[1] not in _HTTP_CHECKS):
            raise _BeyondError(line.place, f"`{' '.join(line.texts[:2])}`")
    for option in _BEYOND_OPTIONS:
        value = backend.values.get(f"option {option}")
        if value is not None and value.value:
            raise _BeyondError(value.place or backend.place, f"`option {option}`")


def _look_at_nameservers(resolvers: Resolvers) -> None:
    if resolvers.parse_resolv_conf is not None:
        raise _BeyondError(resolvers.parse_resolv_conf, "more than one nameserver")
    for nameserver in resolvers.nameservers[1:]:
        raise _BeyondError(nameserver.place, "more than one nameserver")


# --- what it needs ---


def _settings(effective: Effective, server: Server, backend: Proxy, path: Path) -> Settings:
    section = effective.resolvers.get(str(server.values["resolvers"].value))
    if section is not None:
        _look_at_nameservers(section)
    resolvers, own, proxy = effective.resolvers_of(server), server.values, backend.values
    inter_ns = _time_ns("inter", own["inter"], at_least_ms=1) or 0
    connect_ns = _time_ns("timeout connect", proxy["timeout connect"], at_least_ms=1)
    if connect_ns is None:
        what = "`timeout connect` is not set (set it in the backend or in its defaults)"
        raise _BeyondError(Place(path, 0), what, Kind.NOT_PREDICTED)
    holds = {hold: _time_ns(f"hold {hold}", resolvers[f"hold {hold}"]) or 0 for hold in _HOLDS}
    return Settings(
        timeout_resolve_ns=_time_ns("", resolvers["timeout resolve"], at_least_ms=1) or 0,
        timeout_retry_ns=_time_ns("", resolvers["timeout retry"], at_least_ms=1) or 0,
        resolve_retries=_count("resolve_retries", resolvers["resolve_retries"], 1),
        holds=Holds(**{f"{hold}_ns": ns for hold, ns in holds.items()}),
        prefers="A" if _known("", own["resolve-prefer"]) == "ipv4" else "AAAA",
        check=bool(own["check"].value),
        inter_ns=inter_ns,
        fastinter_ns=_time_ns("fastinter", own["fastinter"]) or inter_ns,
        downinter_ns=_time_ns("downinter", own["downinter"]) or inter_ns,
        fall=_count("fall", own["fall"], 1),
        rise=_count("rise", own["rise"], 1),
        init_state=_init_state(own.get("init-state")),
        http_check=http_check(backend) is not None,
        timeout_connect_ns=connect_ns,
        timeout_server_ns=_time_ns("timeout server", proxy["timeout server"]) or _FOREVER_NS,
        timeout_check_ns=_time_ns("timeout check", proxy["timeout check"]),
        retries=_count("retries", proxy["retries"], 0),
        redispatch_every=_count("option redispatch", proxy["option redispatch"], -1),
    )


def http_check(backend: Proxy) -> str | None:
    """The path that a check asks for; None if a check only connects."""
    value = backend.values.get("option httpchk")
    if value is None or not value.value:
        return None
    words = value.value.split() if isinstance(value.value, str) else []
    return next((word for word in words if word.startswith("/")), "/")


def _init_state(value: Value | None) -> InitState | None:
    if value is None or not value.is_said:
        return None
    state = _known("init-state", value)
    for known in get_args(InitState):
        if state == known:
            found: InitState = known
            return found
    return None  # `none` is HAProxy's own


def _time_ns(name: str, value: Value, *, at_least_ms: int = 0) -> int | None:
    ms = _known(name, value)
    if ms is None:
        return None
    if int(ms) < at_least_ms:
        raise _BeyondError(
            _place(value), f"`{_raw(value)}`, which must be at least {at_least_ms}ms"
        )
    return int(ms) * _MS


def _count(name: str, value: Value, at_least: int) -> int:
    count = int(_known(name, value) or 0)
    if count < at_least:
        raise _BeyondError(_place(value), f"`{_raw(value)}`, which must be at least {at_least}")
    return count


def _known(name: str, value: Value) -> bool | int | str | None:
    if value.unclear is not None:
        raise _BeyondError(_place(value), _written(name, value))
    return value.value


def _place(value: Value) -> Place:
    assert value.place is not None  # noqa: S101 - HAProxy's own defaults are in their bounds
    return value.place


def _raw(value: Value) -> str:
    return value.word.raw if value.word is not None else ""


def _written(name: str, value: Value) -> str:
    """The setting as it is written, and what keeps it from being known."""
    if value.unclear is not None:
        separator = " " if value.unclear.startswith("without") else ", "
        return f"`{_raw(value)}`{separator}{value.unclear}"
    where = " on the server line" if value.origin is Origin.OWN else ""
    return f"`{name}`{where}"
