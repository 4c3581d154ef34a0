"""A backend as it stands in a run: one name of it moves, and whatever else it has stays as it is.

A run's timeline is about the name that moves. The other servers are chaosd's stand-ins: they
answer all the time, or nobody does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any

from chaosd.plugins.simulation import Reply, below
from chaosd.plugins.timeline import Failure, Meets, RecordType
from chaosd.proxies.haproxy.model.algorithm import BackendModel
from chaosd.proxies.haproxy.model.backend import Backend, CheckKind, Follows, Resolver, ServerLine
from chaosd.proxies.haproxy.model.resolution import Ask
from chaosd.proxies.haproxy.model.timeline_world import (
    ROUND_TRIP_MORE_NS,
    ROUND_TRIP_NS,
    Tracks,
    TrackWorld,
)

BESIDE, NOBODY = "beside", "nobody"  # addresses that are in no timeline


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A backend, the name in it that moves, and where servers are that no name leads to."""

    backend: Backend
    host: str
    places: Mapping[str, str] = field(default_factory=dict)  # by the names of their lines

    @cached_property
    def moved(self) -> tuple[ServerLine, ...]:
        """The lines whose servers follow the name that moves."""
        by_dns = (Follows.NAME, Follows.SERVICE)
        lines = self.backend.servers
        return tuple(li for li in lines if li.host == self.host and li.follows in by_dns)

    @cached_property
    def is_checked(self) -> bool:
        """Whether any of these has a health check."""
        return any(line.check is not CheckKind.NONE for line in self.moved)

    def settle(self, model: BackendModel, answered: Sequence[str]) -> None:
        """Let the servers have what they have had for long: the name was answered with these."""
        model.settle_names(0, lambda host: answered if host == self.host else (BESIDE,))
        for server in model.servers:
            if server.line.follows not in (Follows.NAME, Follows.SERVICE):
                server.settle(self.places.get(server.line.name, BESIDE))


class StandingWorld(TrackWorld):
    """The timeline for the name that moves, and what never changes for everything else.

    It notes that a server has changed.
    """

    changed = False

    def __init__(
        self, standing: Standing, tracks: Tracks, rng: Random, *, vacant_refuses: bool
    ) -> None:
        super().__init__(tracks, rng, vacant_refuses=vacant_refuses)
        self._host, self._own_rng = standing.host, rng

    def ask(self, resolver: Resolver, host: str) -> Ask:
        """What this section's nameservers answer for this name."""
        return self.resolve if host == self._host else self._resolve_beside

    def _resolve_beside(self, now_ns: int, record: RecordType) -> Reply:
        answer = (BESIDE,) if record == "A" else Failure.EMPTY
        return Reply(answer, ROUND_TRIP_NS + below(self._own_rng, ROUND_TRIP_MORE_NS))

    def connect(self, now_ns: int, ip: str) -> Meets:
        if ip == BESIDE:
            return Meets.LISTENING
        return Meets.REFUSE if ip == NOBODY else super().connect(now_ns, ip)

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        self.changed = True
