"""What scenarios do to the users of all backends of a user's files: one answer for those alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from chaosd.proxies.haproxy.model.backend import Backend, Limit, Outlook, Scenario, Unknown
from chaosd.proxies.haproxy.model.outlook import moves_at_first, outlook, standard_scenarios


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """Backends that have the same outlook, and what is left out of it."""

    backends: tuple[Backend, ...]  # at least one; they differ by names and places only
    found: tuple[tuple[Scenario, Outlook | Unknown], ...]
    limits: tuple[Limit, ...]


def foresee(backends: Sequence[Backend | Unknown], version: str | None) -> list[Foreseen | Unknown]:
    """The outlooks of each backend in the standard scenarios, in the order of the files."""
    alike: dict[tuple[Backend, tuple[Limit, ...]], list[Backend]] = {}
    places: list[tuple[Backend, tuple[Limit, ...]] | Unknown] = []
    for backend in backends:
        if isinstance(backend, Unknown):
            places.append(backend)
            continue
        key = (without_names(backend), backend.limits)
        if key not in alike:
            places.append(key)
        alike.setdefault(key, []).append(backend)
    return [
        place
        if isinstance(place, Unknown)
        else Foreseen(
            backends=tuple(alike[place]),
            found=tuple(
                (scenario, _outlook(place[0], version, scenario))
                for scenario in standard_scenarios()
            ),
            limits=place[1],
        )
        for place in places
    ]


@lru_cache(maxsize=1024)
def _outlook(backend: Backend, version: str | None, scenario: Scenario) -> Outlook | Unknown:
    first = moves_at_first(backend)
    return outlook(backend, version, scenario, moved=None if first is None else first.name)


def without_names(backend: Backend) -> Backend:
    """The same for the model: names and places are numbers in the order in which they come.

    Of names only it matters which are the same.
    """
    hosts: dict[str, str] = {}
    resolvers: dict[str, str] = {}
    servers = []
    for number, server in enumerate(backend.servers):
        resolver = server.resolver
        if resolver is not None:
            name = resolvers.setdefault(resolver.name, f"r{len(resolvers)}")
            resolver = replace(resolver, name=name)
        host = server.host
        if host is not None:
            host = hosts.setdefault(host, f"h{len(hosts)}")
        servers.append(
            replace(
                server,
                name=f"s{number}",
                file="",
                line=number,
                host=host,
                port=None,
                resolver=resolver,
            )
        )
    return replace(
        backend, name="", file="", line=0, mode="http", servers=tuple(servers), limits=()
    )
