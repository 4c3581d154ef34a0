"""What is known of a fault's cycles before a run: a line for each, from the proxy's model."""

from __future__ import annotations

from chaosd import plugins
from chaosd.config.shape import Config
from chaosd.history.cycles import CycleKind, Prediction
from chaosd.plugins.bases import FaultConfig
from chaosd.plugins.fault import CanForetell, Circumstances, Fault, ForetellsBeside, Prepares
from chaosd.plugins.proxy import Predicts, Proxy
from chaosd.plugins.runtime import Pace
from chaosd.plugins.timeline import NEW, Clients, Meets, Timeline, Unreached
from chaosd.report import words
from chaosd.units import Duration


def foretold(part: FaultConfig, fault: Fault, config: Config, proxy: Proxy, pace: Pace) -> str:
    """What will happen in this fault's cycles, as far as that is known now."""
    if fault.kind is CycleKind.CONTROL:
        return "a control cycle: recovery of about one probe interval, nothing failed"
    if fault.kind is CycleKind.RESTART:
        return "a control cycle: it recovers without a new address"
    if not isinstance(proxy, Predicts):
        return f"no prediction: there is no model of {config.proxy.type}"
    if config.dns.cache is not None:
        return f"no prediction: {words.unreached(Unreached.CACHE)}"
    # Only before a run; afterwards each cycle is predicted from what really happened.
    timeline = planned(part, fault, circumstances(config, pace))
    if isinstance(timeline, str):
        return f"no prediction: {timeline}"
    predicted = proxy.predict(timeline, clients(config))
    if isinstance(predicted, Unreached):
        return f"no prediction: {words.unreached(predicted)}"
    if predicted.unaffected_share is not None:
        return f"predicted: {words.foretold(predicted)}; each cycle is predicted again"
    said = (
        f"recovery predicted between {predicted.lower_s:.2f} s and {predicted.upper_s:.2f} s, "
        f"mean {predicted.mean_s:.2f} s{_likely(predicted)}, if the app listens "
        f"{_listening_s(timeline):.2f} s after T0 and a missing name is answered with "
        f"{config.dns.missing}; each cycle is predicted again from its measured times"
    )
    if predicted.relapse_share:
        said += (
            f"; {predicted.relapse_share:.0%} are predicted to relapse: a check that began at the "
            "old address takes the server DOWN after the first good answers"
        )
    said += _requests(predicted, config)
    measure, every = config.measure, part.every
    if predicted.upper_s > measure.recovery_limit.s:
        said += f"; beyond measure.recovery_limit ({measure.recovery_limit}) it is censored"
    if isinstance(every, Duration) and predicted.upper_s + measure.stable_for.s > every.s:
        said += f"; every {every} is too often for that: cycles will be skipped"
    if any(place.meets == Meets.IMPOSTER for place in timeline.places):
        said += "; until the proxy has the new address, requests go to the imposter: misrouted"
    return said


def planned(part: FaultConfig, fault: Fault, known: Circumstances) -> Timeline | str:
    """What a fault, and those that come with it, are planned to do; or why no model knows it."""
    if not isinstance(fault, CanForetell):
        still = "the model knows moves, and here nothing moves"
        return still if fault.kind.is_still else "what it does is not known beforehand"
    found = fault.foretell(known)
    for each in sorted(part.companions, key=lambda one: one.offset):
        companion = plugins.find("faults", each.type)(each)
        if isinstance(found, Unreached):
            break
        if not isinstance(companion, ForetellsBeside):
            return f"the model knows DNS faults beside a move, and no {each.type}"
        if fault.kind.is_still:
            return "the model knows DNS faults beside a move, and here nothing moves"
        early_s = fault.prepares_s(known) if each.offset < 0 and isinstance(fault, Prepares) else 0
        found = companion.beside(found, each.offset.s - early_s)
    return words.unreached(found) if isinstance(found, Unreached) else found


def clients(config: Config) -> Clients:
    """Who asks: the probe that measures."""
    measure = config.measure
    return Clients(
        patience_s=config.probes[0].timeout.s,
        slow_after_s=measure.slow_after.s,
        until_s=measure.recovery_limit.s,
    )


def _requests(predicted: Prediction, config: Config) -> str:
    """What the requests of a cycle are predicted to come to."""
    rate = config.probes[0].rate
    kinds = {"failed": predicted.failed_s, "misrouted": predicted.misrouted_s}
    said = [
        f"{round(spread['lower'] * rate):,} to {round(spread['upper'] * rate):,} {kind} "
        f"(mean {spread['mean'] * rate:,.0f})"
        for kind, spread in kinds.items()
        if spread is not None and round(spread["upper"] * rate)
    ]
    if predicted.failed_s is not None and not said:
        said = ["none lost"]
    return f"; requests of a cycle at {rate}: {', '.join(said)}" if said else ""


def circumstances(config: Config, pace: Pace) -> Circumstances:
    """The world in which a fault will happen, as far as it is known before a run."""
    return Circumstances(
        app_start_s=pace.listen_s + config.app.start_delay.s + config.app.healthy_after.s,
        missing=config.dns.missing,
        others=config.app.replicas - 1,
        answer_s=config.dns.delay.s,
        stop_s=pace.stop_s,
        publish_s=pace.publish_s,
        reach_s=pace.reach_s,
        held_s=pace.held_s,
        nameservers=config.dns.nameservers,
    )


def _listening_s(timeline: Timeline) -> float:
    """When the new instance listens, if it is said."""
    listens = [p.at_s for p in timeline.places_of(NEW) if p.meets == Meets.LISTENING]
    return max(0.0, listens[0]) if listens else 0.0


def _likely(predicted: Prediction) -> str:
    known = predicted.quantiles_s or {}
    said = [f"{name} {known[name]:.2f} s" for name in ("p50", "p95") if name in known]
    return "".join(f", {each}" for each in said)
