"""A cycle as its proxy met it: the timeline that its prediction is of, and the prediction."""

from __future__ import annotations

from chaosd.analysis import dns_trouble, phases
from chaosd.config.shape import Config
from chaosd.engine.cycle import CycleRun
from chaosd.history.cycles import CycleKind, Prediction
from chaosd.history.events import RecoveryPredicted
from chaosd.plan.arms import Arm
from chaosd.plugins.proxy import Predicts
from chaosd.plugins.timeline import Clients, Timeline, Unreached
from chaosd.system.clock import SECOND_NS


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


def predict(cycle: CycleRun, arm: Arm, end_ns: int, *, main: int, direct: int | None) -> None:
    """Note what the proxy's algorithm gives for the cycle as it was."""
    fold, proxy, settings = cycle.fold, arm.proxy, arm.settings()
    if fold is None or not isinstance(proxy, Predicts):
        return
    timeline = met(cycle, arm.config, main=main, direct=direct)
    if not isinstance(timeline, Timeline):
        return
    clients = Clients(
        patience_s=settings.timeout_ns / SECOND_NS,
        slow_after_s=settings.slow_after_ns / SECOND_NS,
        until_s=(end_ns - fold.t0_ns) / SECOND_NS,
    )
    predicted = proxy.predict(timeline, clients)
    if isinstance(predicted, Prediction):
        cycle.record(RecoveryPredicted(prediction=predicted))
