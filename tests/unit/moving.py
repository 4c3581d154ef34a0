"""A model of HAProxy that stands in a world in which one instance moves."""

from __future__ import annotations

from random import Random
from typing import Any

from chaosd.plugins import timeline
from chaosd.plugins.simulation import Reply
from chaosd.plugins.timeline import Meets, RecordType, Timeline
from chaosd.proxies.haproxy.config import Config, settings_of
from chaosd.proxies.haproxy.model.algorithm import ProxyModel
from chaosd.proxies.haproxy.model.settings import Settings

S = 1_000_000_000
MS = 1_000_000
OLD, NEW = timeline.OLD, timeline.NEW


def config(**values: Any) -> Settings:
    return settings_of(Config.model_validate({"type": "haproxy"} | values))


def move(**values: Any) -> Timeline:
    plain: dict[str, Any] = {
        "published_s": 0.2,
        "listening_s": 0.2,
        "missing_s": None,
        "missing": "nxdomain",
        "old_ip": "refuse",
    }
    return timeline.move(**(plain | values))


class MoveWorld:
    """A world in which one move happens, T0 at `t0_ns`."""

    def __init__(self, move: Timeline, t0_ns: int, rtt_ns: int = 200_000) -> None:
        self.move, self.t0_ns = move, t0_ns
        self.rtt_ns = rtt_ns + round(move.names[0].took_s * S)
        self.queries: list[tuple[float, str]] = []
        self.log: list[tuple[float, str, dict[str, Any]]] = []

    def s(self, now_ns: int) -> float:
        return (now_ns - self.t0_ns) / S

    def resolve(self, now_ns: int, record: RecordType) -> Reply:
        self.queries.append((self.s(now_ns), record))
        return Reply(self.move.answer(self.s(now_ns), record), self.rtt_ns)

    def connect(self, now_ns: int, ip: str) -> Meets:
        return self.move.meets(self.s(now_ns), ip)

    @property
    def listening_s(self) -> float:
        return next(p.at_s for p in self.move.places_of(NEW) if p.meets == Meets.LISTENING)

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        self.log.append((self.s(at_ns), what, data))

    def whats(self) -> list[str]:
        return [what for at_s, what, _ in self.log if at_s >= 0]


def stand(
    settings: Settings,
    move: Timeline,
    seed: Any = 1,
    version: str = "3.0.11",
    t0_s: float | None = None,
) -> tuple[ProxyModel, MoveWorld]:
    """A model in steady state with even, independent phases of its polls and checks."""
    rng = Random(f"phases {seed}")
    inter, resolve = settings.inter_ns, settings.timeout_resolve_ns
    rise_ns = settings.rise * max(inter, settings.fastinter_ns)
    warm_ns = 3 * max(inter, resolve) + rise_ns
    t0_ns = warm_ns + 2010 * MS if t0_s is None else round(t0_s * S)
    world = MoveWorld(move, t0_ns)
    return (
        ProxyModel(
            settings,
            version,
            world,
            rng,
            start_ns=0,
            poll_at_ns=rng.randrange(resolve),
            check_at_ns=rng.randrange(inter),
        ),
        world,
    )


def recovered_s(model: ProxyModel, world: MoveWorld, limit_s: float = 300) -> float:
    """When a fresh request is first answered by the new instance, in seconds after T0."""
    looks = [world.t0_ns, world.t0_ns + max(0, round(world.listening_s * S))]
    while True:
        at_ns = min([model.next_ns(), *looks])
        looks = [look for look in looks if look > at_ns]
        model.advance(at_ns)
        arrived = any(server.usable and server.ip == NEW for server in model.servers)
        if at_ns >= world.t0_ns and arrived and world.connect(at_ns, NEW) == Meets.LISTENING:
            return world.s(at_ns)
        assert world.s(at_ns) < limit_s, "never recovered"
