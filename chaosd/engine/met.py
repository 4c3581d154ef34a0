"""A cycle as its proxy met it: the timeline that its prediction is of."""

from __future__ import annotations

from chaosd.analysis import dns_trouble, phases
from chaosd.config.shape import Config
from chaosd.engine.cycle import CycleRun
from chaosd.history.cycles import CycleKind
from chaosd.plugins.timeline import Timeline, Unreached


def met(
    cycle: CycleRun, config: Config, *, main: int, direct: int | None
) -> Timeline | Unreached | None:
    """None where it is none that a model knows. `main` and `direct` are the cell's streams."""
    dns_s = config.dns.delay.s
    if config.dns.cache is not None:
        return Unreached.CACHE
    if cycle.kind is CycleKind.DNS:
        if cycle.also:  # of what begins elsewhere than at T0 nothing is known where nothing moves
            return None
        return dns_trouble.met(
            cycle.events,
            replicas=config.app.replicas,
            dns_s=dns_s,
            nameservers=config.dns.nameservers,
        )
    samples = [sample for sample in cycle.samples if sample.stream == main]
    if cycle.kind is not CycleKind.FAILOVER or not phases.is_plain_move(cycle.events, samples):
        return None
    move = phases.move(
        cycle.events,
        missing_class=config.dns.missing,
        dns_s=dns_s,
        samples=cycle.samples,
        direct=direct,
    )
    return dns_trouble.beside(move, cycle.events, cycle.also) if cycle.also else move
