"""A server's effective settings by their paths in chaosd's YAML: what is stored with a run.

So two runs can be compared setting by setting, whether these stand in a haproxy.cfg or in the YAML,
and whether or not the model knows them. What the YAML has no path for has HAProxy's keyword.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaosd.proxies.haproxy.cfg.checks import http_check
from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Server, Value
from chaosd.proxies.haproxy.cfg.keywords import SERVER, Kind
from chaosd.units import Duration

_MS = 1_000_000
_HOLDS = ("valid", "obsolete", "nx", "refused", "timeout", "other")
_SERVER_TIMES = ("inter", "fastinter", "downinter")
_TIMEOUTS = ("connect", "client", "server", "check")
_SERVER_PATHS = frozenset(
    {*_SERVER_TIMES, "check", "fall", "rise", "resolve-prefer", "init-addr", "init-state"}
    | {"on-marked-down"}
)
_BACKEND_PATHS = frozenset(
    {*(f"timeout {name}" for name in _TIMEOUTS), "retries", "option redispatch", "http-reuse"}
    | {"option httpchk"}
)
_OF_CHAOSD = frozenset({"resolvers"})  # a name in the file, which says nothing
_AS_CHAOSD = {"mode": "http"}  # what the haproxy.cfg that is made of the YAML always says, too


def record(effective: Effective, servers: Sequence[Server]) -> dict[str, Any]:
    """The settings of these servers; where one differs, that of each by `BACKEND/SERVER`.

    What is not known, such as a variable without a value, is as it is written. Empty without
    servers.
    """
    return _together({f"{s.backend}/{s.name}": _record(effective, s) for s in servers})


def _record(effective: Effective, server: Server) -> dict[str, Any]:
    backend, resolvers = effective.backend_of(server), effective.resolvers_of(server)
    payload = resolvers["accepted_payload_size"]
    redispatch, reuse = backend.values["option redispatch"], backend.values["http-reuse"]
    found = {
        "resolvers": {
            "timeout_resolve": _time(resolvers["timeout resolve"]),
            "timeout_retry": _time(resolvers["timeout retry"]),
            "resolve_retries": _plain(resolvers["resolve_retries"]),
            "accepted_payload_size": _plain(payload) if payload.is_said else None,
            "hold": {hold: _time(resolvers[f"hold {hold}"]) for hold in _HOLDS},
        },
        "server": _of_server(server),
        "timeouts": {name: _time(backend.values[f"timeout {name}"]) for name in _TIMEOUTS},
        "retries": _plain(backend.values["retries"]),
        "redispatch": True if redispatch.value == -1 else _plain(redispatch) or False,
        "http_reuse": _plain(reuse) if reuse.is_said else None,
        "http_check": http_check(backend),
        "nbthread": None,
    }
    others = _others(backend)
    return found | {"backend": others} if others else found


def _of_server(server: Server) -> dict[str, Any]:
    own = server.values

    def plain(name: str) -> Any:
        return _plain(own[name]) if name in own else None

    marked_down, init_state = plain("on-marked-down"), own.get("init-state")
    others = {
        name: _time(value) if SERVER[name].kind is Kind.TIME else _plain(value)
        for name, value in own.items()
        if value.is_said and name in SERVER and name not in _SERVER_PATHS | _OF_CHAOSD
    }
    return {
        "check": plain("check"),
        **{name: _time(own[name]) for name in _SERVER_TIMES},
        "fall": plain("fall"),
        "rise": plain("rise"),
        "resolve_prefer": plain("resolve-prefer"),
        "init_addr": plain("init-addr"),
        "init_state": _plain(init_state) if init_state and init_state.is_said else None,
        "on_marked_down": None if marked_down == "none" else marked_down,
        "extra": " ".join(_written(value) for value in server.unread),
        **others,
    }


def _others(backend: Proxy) -> dict[str, Any]:
    """What the backend or its defaults say that the YAML has no path for."""
    return {
        name: _time(value) if name.startswith("timeout ") else _plain(value)
        for name, value in backend.values.items()
        if value.is_said and name not in _BACKEND_PATHS and _AS_CHAOSD.get(name) != value.value
    }


def _time(value: Value | None) -> str | None:
    if value is None or value.unclear is not None:
        return None if value is None else _written(value)
    return None if value.value is None else str(Duration(int(value.value) * _MS))


def _plain(value: Value) -> Any:
    return value.value if value.unclear is None else _written(value)


def _written(value: Value) -> str:
    return value.word.raw if value.word is not None else ""


def _together(each: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One tree of several; a value that is not the same in all has a branch for each."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for tree in each.values() for key in tree):
        values = {name: tree.get(key) for name, tree in each.items()}
        first, *rest = values.values()
        if any(isinstance(value, dict) for value in values.values()):
            found[key] = _together({name: value or {} for name, value in values.items()})
        elif all(value == first for value in rest):
            found[key] = first
        else:
            found[key] = values
    return found
