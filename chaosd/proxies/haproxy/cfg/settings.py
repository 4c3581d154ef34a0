"""The simple case of a backend, for the closed forms: one server that follows one nameserver."""

from __future__ import annotations

from collections.abc import Sequence

from chaosd.proxies.haproxy.cfg.backend import read_backend
from chaosd.proxies.haproxy.cfg.effective import Effective, Server
from chaosd.proxies.haproxy.cfg.host import Host, here
from chaosd.proxies.haproxy.cfg.limits import TIMES
from chaosd.proxies.haproxy.model.backend import Backend, CheckKind, Follows, Unknown
from chaosd.proxies.haproxy.model.settings import Settings

_FOREVER_NS = (2**31 - 1) * 1_000_000  # the longest timer that HAProxy has
_CHECKS = (CheckKind.NONE, CheckKind.CONNECTS, CheckKind.ANSWERS)


def backend_of(
    effective: Effective, servers: Sequence[Server], host: Host | None = None
) -> Backend | Unknown | None:
    """The backend that these servers stand in; None where there are none, or several of it."""
    names = {server.backend for server in servers}
    if len(names) != 1:
        return None
    return read_backend(effective, effective.backend_of(servers[0]), host or here())


def settings_of(backend: Backend) -> Settings | None:
    """What the closed forms go by; None where they do not reach this backend.

    Nothing of it may be left out that changes when the app is found, or when it is UP.
    """
    server, *others = backend.servers
    resolver, connect_ns = server.resolver, backend.timeout_connect_ns
    if others or server.slots > 1 or server.check not in _CHECKS or server.weight == 0:
        return None
    if server.follows is not Follows.NAME or resolver is None or resolver.nameservers != 1:
        return None
    if backend.is_crowded:
        return None
    if connect_ns is None or any(limit.changes in TIMES for limit in backend.limits):
        return None
    return Settings(
        timeout_resolve_ns=resolver.timeout_resolve_ns,
        timeout_retry_ns=resolver.timeout_retry_ns,
        resolve_retries=resolver.resolve_retries,
        holds=resolver.holds,
        prefers=server.prefers,
        check=server.check is not CheckKind.NONE,
        inter_ns=server.inter_ns,
        fastinter_ns=server.fastinter_ns,
        downinter_ns=server.downinter_ns,
        fall=server.fall,
        rise=server.rise,
        init_state=server.init_state,
        http_check=server.check is CheckKind.ANSWERS,
        timeout_connect_ns=connect_ns,
        timeout_server_ns=backend.timeout_server_ns or _FOREVER_NS,
        timeout_check_ns=backend.timeout_check_ns,
        retries=backend.retries,
        redispatch_every=backend.redispatch_every,
    )
