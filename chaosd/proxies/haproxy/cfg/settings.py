"""The effective settings of the app's server, for the prediction: those the algorithm goes by.

What is not understood is never guessed: there is no prediction then, and a finding says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chaosd.proxies.haproxy.cfg.effective import Effective, Origin, Proxy, Resolvers, Server, Value
from chaosd.proxies.haproxy.cfg.findings import Finding, Kind
from chaosd.proxies.haproxy.cfg.keywords import server_defaults
from chaosd.proxies.haproxy.cfg.source import Place, Trouble
from chaosd.proxies.haproxy.config import Config

# With a value each, and nothing to do with when the app is found again.
_HARMLESS = frozenset(
    {"resolvers", "weight", "maxconn", "minconn", "maxqueue", "cookie", "id", "pool-max-conn"}
)
_TIMES = {"inter": "inter", "fastinter": "fastinter", "downinter": "downinter"}
_PLAIN = {
    "check": "check",
    "fall": "fall",
    "rise": "rise",
    "resolve-prefer": "resolve_prefer",
    "init-addr": "init_addr",
    "init-state": "init_state",
    "on-marked-down": "on_marked_down",
}
_TIMEOUTS = ("connect", "client", "server", "check")
_HOLDS = ("valid", "obsolete", "nx", "refused", "timeout", "other")
# Options and directives that change how checks or retries go in ways that are not in the model.
_BEYOND_OPTIONS = (
    *("tcp-check", "ssl-hello-chk", "smtpchk", "mysql-check", "pgsql-check", "redis-check"),
    *("ldap-check", "spop-check", "external-check", "transparent", "http_proxy"),
)
_BEYOND = ("retry-on", "tcp-check", "external-check", "dispatch", "use-server", "email-alert")
_HTTP_CHECKS = ("expect", "send", "comment")  # they change what a check asks, not when or where
_BEYOND_GLOBAL = ("spread-checks", "dns-accept-family")


class _BeyondError(Exception):
    """The model does not reach this."""

    def __init__(self, place: Place, detail: str, kind: Kind = Kind.NOT_MODELLED) -> None:
        super().__init__(detail)
        self.finding = Finding(place, kind, detail)


def read_settings(
    effective: Effective, servers: Sequence[Server], path: Path
) -> tuple[Config | None, Finding | None]:
    """What the file says of these servers in chaosd's own words; or None, and why.

    What it leaves out is HAProxy's own default, which is `resolve-prefer ipv6`, for instance.
    Nothing is found where there is no server, or no file: `problems` says so.
    """
    if not servers:
        return None, None
    try:
        return Config.model_validate(_settings(effective, servers, path)), None
    except _BeyondError as error:
        return None, error.finding
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        detail = f"{where}: {first['msg'].removeprefix('Value error, ')}"
        return None, Finding(Place(path, 0), Kind.NOT_PREDICTED, detail)


def _settings(effective: Effective, servers: Sequence[Server], path: Path) -> dict[str, Any]:
    for problem in effective.problems:
        if problem.trouble is Trouble.UNDECIDED:
            raise _BeyondError(problem.place, problem.what, Kind.NOT_PREDICTED)
    server = servers[0]
    if len(servers) != 1 or server.is_template:
        raise _BeyondError(Place(path, 0), "more than one server for the app")
    for _, line in effective.document.statements("global"):
        if line.keyword in _BEYOND_GLOBAL:
            raise _BeyondError(line.place, f"`{line.keyword}`")
    backend = next(proxy for proxy in effective.proxies if server in proxy.servers)
    for other in backend.servers:
        if other is not server:
            raise _BeyondError(other.place, "another server beside the app")
    return {
        "type": "haproxy",
        "server": _server(effective, server),
        "resolvers": _resolvers(effective.resolvers.get(str(server.values["resolvers"].value))),
        **_backend(backend, path),
    }


def _server(effective: Effective, server: Server) -> dict[str, Any]:
    for value in server.unread:
        raise _BeyondError(value.place or server.place, _written(value, None))
    own = server_defaults(effective.dialect.version)
    # Where the YAML's defaults are not HAProxy's own.
    found: dict[str, Any] = {"check": False, "resolve_prefer": "ipv6"}
    for name, value in server.values.items():
        if name in _TIMES or name in _PLAIN:
            plain = _known(name, value)
            if value.is_said or _PLAIN.get(name) in found:
                found[_TIMES.get(name) or _PLAIN[name]] = (
                    f"{plain}ms" if name in _TIMES and plain is not None else plain
                )
        elif value.is_said and name not in _HARMLESS and value.value != own.get(name, False):
            raise _BeyondError(value.place or server.place, _written(value, name))
    return found


def _resolvers(resolvers: Resolvers | None) -> dict[str, Any]:
    if resolvers is None:
        return {}
    if resolvers.parse_resolv_conf is not None:
        raise _BeyondError(resolvers.parse_resolv_conf, "more than one nameserver")
    for nameserver in resolvers.nameservers[1:]:
        raise _BeyondError(nameserver.place, "more than one nameserver")
    values = resolvers.values
    return {
        "timeout_resolve": f"{_known('timeout resolve', values['timeout resolve'])}ms",
        "timeout_retry": f"{_known('timeout retry', values['timeout retry'])}ms",
        "resolve_retries": _known("resolve_retries", values["resolve_retries"]),
        "hold": {hold: f"{_known('hold', values[f'hold {hold}'])}ms" for hold in _HOLDS},
    }


def _backend(backend: Proxy, path: Path) -> dict[str, Any]:
    for line in (*backend.inherited, *backend.statements):
        is_check = line.keyword == "http-check" and line.texts[1:2] and not line.modifier
        if (line.keyword in _BEYOND) or (is_check and line.texts[1] not in _HTTP_CHECKS):
            raise _BeyondError(line.place, f"`{' '.join(line.texts[:2])}`")
    values = backend.values
    for option in _BEYOND_OPTIONS:
        value = values.get(f"option {option}")
        if value is not None and value.value:
            raise _BeyondError(value.place or backend.place, f"`option {option}`")
    timeouts = _timeouts(values)
    if "connect" not in timeouts:
        what = "`timeout connect` is not set (set it in the backend or in its defaults)"
        raise _BeyondError(Place(path, 0), what, Kind.NOT_PREDICTED)
    redispatch = _known("option redispatch", values["option redispatch"])
    check = values.get("option httpchk")
    asked = check.value if check is not None else None
    words = asked.split() if isinstance(asked, str) else []
    path_asked = next((word for word in words if word.startswith("/")), "/")
    return {
        "timeouts": timeouts,
        "retries": _known("retries", values["retries"]),
        "redispatch": True if redispatch == -1 else redispatch,
        "http_check": path_asked if asked else None,
    }


def _timeouts(values: Mapping[str, Value]) -> dict[str, Any]:
    found: dict[str, Any] = {"check": None}
    for name in _TIMEOUTS:
        value = values[f"timeout {name}"]
        ms = _known(f"timeout {name}", value)
        if ms is not None:
            found[name] = f"{ms}ms"
    return found


def _known(name: str, value: Value) -> Any:
    if value.unclear is not None and value.place is not None:
        raise _BeyondError(value.place, _written(value, name))
    return value.value


def _written(value: Value, name: str | None) -> str:
    """The setting as it is written, and what keeps it from being known."""
    word = value.word.raw if value.word is not None else ""
    if value.unclear is not None:
        separator = " " if value.unclear.startswith("without") else ", "
        return f"`{word}`{separator}{value.unclear}"
    where = " on the server line" if value.origin is Origin.OWN else ""
    return f"`{name}`{where}"
