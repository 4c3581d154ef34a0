"""Backends as they are found in files, for tests of the model.

Where nothing is said, a value is HAProxy's own.
"""

from __future__ import annotations

from typing import Any

from chaosd.plugins.timeline import RECORD_TYPES
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Balance,
    CheckKind,
    Follows,
    Resolver,
    ServerLine,
)
from chaosd.proxies.haproxy.model.settings import Holds

S = 1_000_000_000


def ns(seconds: float) -> int:
    return round(seconds * S)


def resolver(
    *,
    resolve: float = 1,
    retry: float = 1,
    rounds: int = 3,
    nameservers: int = 1,
    families: Any = RECORD_TYPES,
    name: str = "dns",
    **holds: float,
) -> Resolver:
    """A `resolvers` section; `holds` are `hold` lines in seconds, such as `obsolete=10`."""
    held = {"valid": 10, "obsolete": 0, "nx": 30, "refused": 30, "timeout": 30, "other": 30}
    held |= holds
    return Resolver(
        name=name,
        nameservers=nameservers,
        timeout_resolve_ns=ns(resolve),
        timeout_retry_ns=ns(retry),
        resolve_retries=rounds,
        holds=Holds(**{f"{word}_ns": ns(value) for word, value in held.items()}),
        families=families,
    )


def server(
    name: str = "srv1",
    host: str | None = "h1",
    *,
    dns: Resolver | None = None,
    inter: float = 2,
    fastinter: float | None = None,
    downinter: float | None = None,
    **others: Any,
) -> ServerLine:
    """A server line: checked by connecting, where nothing else is said."""
    follows = Follows.NAME if dns is not None else Follows.START
    values: dict[str, Any] = {
        "file": "haproxy.cfg",
        "line": 1,
        "slots": 1,
        "port": 80,
        "follows": follows if host is not None else Follows.FIXED,
        "prefers": "AAAA",
        "allow_dup_ip": False,
        "init_addr": ("last", "libc", "none"),
        "init_state": None,
        "check": CheckKind.CONNECTS,
        "fall": 3,
        "rise": 2,
        "backup": False,
        "weight": 1,
        "shuts_sessions": False,
        "observe": None,
        "places": 0,
        "slowstart_ns": 0,
    }
    return ServerLine(
        name=name,
        host=host,
        resolver=dns,
        inter_ns=ns(inter),
        fastinter_ns=ns(inter if fastinter is None else fastinter),
        downinter_ns=ns(inter if downinter is None else downinter),
        **(values | others),
    )


def backend(*servers: ServerLine, connect: float | None = 5, **others: Any) -> Backend:
    """A backend with these servers; no redispatch where nothing else is said."""
    values: dict[str, Any] = {
        "name": "be1",
        "file": "haproxy.cfg",
        "line": 1,
        "mode": "http",
        "all_backups": False,
        "timeout_server_ns": ns(30),
        "timeout_check_ns": None,
        "retries": 3,
        "redispatch_every": 0,
        "balance": Balance.TURNS,
        "draws": 2,
        "places": 0,
        "queue_ns": None,
    }
    return Backend(
        servers=servers,
        timeout_connect_ns=None if connect is None else ns(connect),
        **(values | others),
    )
