"""Which backend moves, and which of its servers are the app that moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaosd.proxies.haproxy.cfg.address import slots, target
from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Server

TEMPLATE_INSTANCES = 3  # behind a name that stands for several


@dataclass(frozen=True)
class Choice:
    """The backend that moves, and its servers by what becomes of them."""

    backend: Proxy
    name: str  # of the app, as the file has it; it is asked for in lower case
    moved: tuple[Server, ...]  # they are found by this name
    beside: tuple[Server, ...]  # the backend's others

    @property
    def resolves(self) -> bool:
        """Whether the name is looked up while HAProxy runs."""
        return any(is_followed(server) for server in self.moved)

    @property
    def instances(self) -> int:
        """How many instances of the app a name like this stands for."""
        counts = [slots(server) for server in self.moved if server.is_template]
        return min(TEMPLATE_INSTANCES, max(counts)) if counts and max(counts) > 0 else 1

    @property
    def names_beside(self) -> tuple[str, ...]:
        """The names that the other servers are looked up by."""
        names = (target(s.address.text).host.lower() for s in self.beside if is_followed(s))
        return tuple(dict.fromkeys(name for name in names if name != self.name.lower()))


def is_followed(server: Server) -> bool:
    """Whether it has a name that is looked up again and again."""
    return server.values["resolvers"].is_said and target(server.address.text).is_name


class NotChosenError(Exception):
    """No backend, or more than one: what is said, and the names to choose from."""

    def __init__(self, what: str, names: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.names = tuple(names)


def candidates(effective: Effective) -> list[Proxy]:
    """The backends that can move: those found by DNS, or else those with a name at all."""
    backends = [proxy for proxy in effective.proxies if proxy.kind in ("backend", "listen")]
    followed = [b for b in backends if any(is_followed(server) for server in b.servers)]
    by_name = [
        b for b in backends if any(target(server.address.text).is_name for server in b.servers)
    ]
    return followed or by_name


def choose(effective: Effective, name: str | None) -> Choice:
    """The backend of this name, or the only one that can move. Raises NotChosenError."""
    found = candidates(effective)
    if name is not None:
        backend = effective.backend(name)
        if backend is None:
            raise NotChosenError(f"there is no backend `{name}`", [b.name for b in found])
        if not any(target(server.address.text).is_name for server in backend.servers):
            names = [b.name for b in found]
            raise NotChosenError(f"backend `{name}` has no server with a name", names)
        return _chosen(backend)
    if not found:
        raise NotChosenError("no backend has a server with a name: nothing in it can move by DNS")
    if len(found) > 1:
        what = f"{len(found)} backends can move"
        raise NotChosenError(what, [backend.name for backend in found])
    return _chosen(found[0])


def _chosen(backend: Proxy) -> Choice:
    """The first server that is no backup and is looked up again and again says who moves."""
    named = [s for s in backend.servers if target(s.address.text).is_name]

    def last_choice(server: Server) -> tuple[bool, bool]:
        return not is_followed(server), bool(server.values["backup"].value)

    first = min(named, key=last_choice)
    name = target(first.address.text).host
    moved = tuple(
        server
        for server in named
        if target(server.address.text).host.lower() == name.lower()
        and is_followed(server) == is_followed(first)
    )
    beside = tuple(server for server in backend.servers if server not in moved)
    return Choice(backend, name, moved, beside)
