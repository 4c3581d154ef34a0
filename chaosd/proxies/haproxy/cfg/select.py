"""Which servers of a file are the app: those at a variable's address, or those of a backend."""

from __future__ import annotations

from chaosd.proxies.haproxy.cfg.effective import Effective, Server


def by_address_variable(effective: Effective, variable: str) -> tuple[Server, ...]:
    """The servers whose address comes from this environment variable."""
    return tuple(s for s in effective.servers if variable in s.address.variables)


def by_backend(effective: Effective, name: str) -> tuple[Server, ...]:
    """The servers of the backend or listen section of this name; none if there is none."""
    backend = effective.backend(name)
    return backend.servers if backend is not None else ()
