"""From a cycle's events and samples to its numbers: recovery, outage, counts.

Pure. The engine at a cycle's end and `chaosd report` long afterwards use this very code.
docs/measuring.md defines the numbers; samples count to the microsecond, as they are stored.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from chaosd.analysis import phases, world_lag
from chaosd.analysis.anomaly import ANOMALY_MARGIN_S, is_anomaly
from chaosd.analysis.disturbances import spans
from chaosd.analysis.residuals import against
from chaosd.analysis.samples import kind_of
from chaosd.analysis.statistics import quantile_rank
from chaosd.history.causes import Cause, CauseKind, Doubt, DoubtKind
from chaosd.history.cycles import PHASES, Cycle, CycleOutcome, Prediction
from chaosd.history.events import (
    AnyEvent,
    CycleEnded,
    Event,
    FaultBegan,
    FaultInjected,
    InstanceGone,
    InstancePlaced,
    RecoveryPredicted,
    earliest,
)
from chaosd.history.values import ANYBODY, Outcome, Sample, rounded_ns

SECOND_NS = 1_000_000_000
# p99 of the schedule lag above this, and above one interval, is poor if it matters: if the error
# bar is more than this part of the recovery.
LATE_NS_MAX, BAR_SHARE_MAX = 5_000_000, 0.1
DROPPED_SHARE_MAX = 0.01
IDENTITIES_MAX = 10_000
DEFINITIONS = 2  # since 2 a command without an outage is unaffected, and a DNS cycle no failover


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What measuring a cell's cycles depends on, besides its events and samples."""

    stable_for_ns: int
    recovery_limit_ns: int
    slow_after_ns: int
    interval_ns: int  # of the measuring stream
    timeout_ns: int
    runtime: str
    proxy: str
    arm: str = ""
    replicas: int = 1  # of the app: the new one has every so many-th request
    # By which rules it is judged what is unaffected and what is a failover: a run keeps its own.
    definitions: int = 1

    @property
    def lookback_ns(self) -> int:
        """How long before T0 samples are of interest.

        Long enough for those still under way at T0 and for a last good one before the outage.
        """
        return self.timeout_ns + max(SECOND_NS, 2 * self.interval_ns)


class Identities:
    """Who belongs to the app, now or lately: a set that forgets the long gone."""

    def __init__(self) -> None:
        self._gone: dict[str, bool] = {}  # in the order in which they came

    def __contains__(self, identity: object) -> bool:
        return identity in self._gone or ANYBODY in self._gone

    def add(self, identity: str) -> None:
        self._gone[identity] = False
        if len(self._gone) > IDENTITIES_MAX:
            forgotten = next((i for i, gone in self._gone.items() if gone), next(iter(self._gone)))
            del self._gone[forgotten]

    def event(self, event: AnyEvent) -> None:
        """Take note of an instance that comes or goes; whatever else it is, ignore it."""
        match event.what:
            case InstancePlaced(identity=identity):
                self.add(identity)
            case InstanceGone(identity=identity) if identity in self._gone:
                self._gone[identity] = True


class RecoveryFold:
    """Samples of a cycle's measuring stream, in scheduled order, folded into its numbers.

    `new` is the instance whose answer ends the recovery; None where nothing was taken away: any of
    `identities` will do if it was asked after T0. Memory is eight bytes a sample, for the lag.

    Stable is the recovery itself, unless a bad sample is scheduled within `stable_for` from it: a
    relapse. Each later bad sample, by scheduled time, ends a stretch and begins the next; stable is
    then the earliest end of a good sample of the first stretch that lasts `stable_for` from there.

    With `waits` nothing is over before all of the fault was `injected`: what is bad until then is a
    relapse however long after the recovery it was scheduled, and the last stretch counts.
    With `unknown` nobody can tell the new instance: the recovery is the first good answer to what
    was scheduled after the last bad one, of those up to when the fault was `injected`, or else
    after the first one. If nothing was bad by then, there was no outage, and the recovery is T0.
    """

    def __init__(
        self,
        t0_ns: int,
        new: str | None,
        identities: Container[str],
        settings: Settings,
        *,
        unknown: bool = False,
        waits: bool = False,
    ) -> None:
        self.t0_ns = t0_ns
        self.recovered_ns: int | None = None
        self.fresh_ns: int | None = None  # as `recovered_ns`, of what was not `masked`
        self.stable_from_ns: int | None = None  # of the stretch that still has no bad sample in it
        self.samples = self.failed = self.masked = self.misrouted = self.dropped = 0
        self.lags_ns = array("q")
        self.unknown = unknown
        self.waits = waits or unknown
        self._injected_ns: int | None = None
        self.new = new
        self._identities = identities
        self._settings = settings
        self._from_ns = t0_ns - settings.lookback_ns
        self._limit_ns = t0_ns + settings.recovery_limit_ns
        self._spoilt = False  # a bad sample has come after the recovery
        # When the probes at the two ends of the outage were sent: what they met, they met then.
        self._good_before_ns: int | None = None
        self._bad_ns: tuple[int, int] | None = None  # the first and the last
        self._good_after_ns: int | None = None
        self._sent_ns: int | None = None  # the latest one
        self._pause_ns = settings.interval_ns  # the longest between two that were sent

    def injected(self, at_ns: int) -> None:
        """All of the fault is done: where the new instance is unknown, nothing is over before."""
        self._injected_ns = at_ns
        if self.unknown and not self._bad and at_ns <= self._limit_ns:
            self.recovered_ns = self.stable_from_ns = self.t0_ns

    @property
    def is_outlasted(self) -> bool:
        """Whether the fault was not all done at the limit, and so nobody knows how it ended.

        If nobody answers then, that is known: it takes longer. Where the new instance is known the
        fault's end has no part in it: it has answered, or not.
        """
        is_late = self._injected_ns is None or self._injected_ns > self._limit_ns
        has_no_end = self.recovered_ns is None and self._bad > 0
        return self.unknown and is_late and not has_no_end

    def over_at_ns(self, complete_ns: int) -> int | None:
        """When the observation ended, if every sample scheduled before `complete_ns` was added.

        None while it goes on.
        """
        over_ns, calm_ns = self._limit_ns, self.stable_from_ns
        if calm_ns is not None and self.waits:
            calm_ns = None if self._injected_ns is None else max(calm_ns, self._injected_ns)
        if calm_ns is not None:
            over_ns = min(over_ns, calm_ns + self._settings.stable_for_ns)
        return over_ns if complete_ns >= over_ns else None

    def add(self, sample: Sample) -> None:
        """Fold the sample that was scheduled next. What lies outside of the cycle is ignored."""
        _, scheduled_ns, sent_ns, done_ns, outcome, _, who = sample
        if scheduled_ns < self._from_ns or self.over_at_ns(scheduled_ns) is not None:
            return
        took_ns = rounded_ns(done_ns - scheduled_ns)
        lag_ns = rounded_ns(sent_ns - scheduled_ns)
        done_ns = scheduled_ns + took_ns
        sent_ns = scheduled_ns + lag_ns
        last_ns = sent_ns if self._sent_ns is None else self._sent_ns
        if outcome != Outcome.DROPPED:
            self._sent_ns = sent_ns
        kind = kind_of(outcome, who, took_ns, self._identities, self._settings.slow_after_ns)
        good = kind in ("good", "masked")
        if good:
            self._add_good(sent_ns, done_ns, who)
        if done_ns < self.t0_ns:
            return
        self.samples += 1
        if outcome == Outcome.DROPPED:
            self.dropped += 1
            return
        self._pause_ns = max(self._pause_ns, sent_ns - last_ns)
        self.lags_ns.append(lag_ns)
        if good:
            if kind == "masked":
                self.masked += 1
            else:
                self._add_fresh(done_ns, who)
        else:
            self._add_bad(scheduled_ns, sent_ns, misrouted=kind == "misrouted")

    def _add_good(self, sent_ns: int, done_ns: int, who: str) -> None:
        if not self._bad:
            self._good_before_ns = sent_ns
        elif self._good_after_ns is None:
            self._good_after_ns = sent_ns
        # Here and below, a later sample may overtake an earlier one.
        if self._spoilt:
            if self.stable_from_ns is None or done_ns < self.stable_from_ns:
                self.stable_from_ns = done_ns
            return
        if self.unknown:
            ours = self._bad > 0
        else:
            ours = sent_ns >= self.t0_ns if self.new is None else who == self.new
        first = self.recovered_ns is None or done_ns < self.recovered_ns
        if ours and first and self.t0_ns <= done_ns <= self._limit_ns:
            self.recovered_ns = self.stable_from_ns = done_ns

    def _add_fresh(self, done_ns: int, who: str) -> None:
        """Take note of a good answer that was not held up.

        A proxy may try an old request again at a server that it gives no new ones: what was on its
        way for long says when the way was free for that one, and not for others.
        """
        first = self.fresh_ns is None or done_ns < self.fresh_ns
        if who == self.new and first and self.t0_ns <= done_ns <= self._limit_ns:
            self.fresh_ns = done_ns

    @property
    def _bad(self) -> int:
        return self.failed + self.misrouted

    def _add_bad(self, scheduled_ns: int, sent_ns: int, *, misrouted: bool) -> None:
        injecting = self._injected_ns is None or scheduled_ns < self._injected_ns
        if self.unknown and (injecting or not self._bad):  # there is an outage, or more of it
            self.recovered_ns = self.stable_from_ns = None
        self.misrouted += misrouted
        self.failed += not misrouted
        first_ns, _ = self._bad_ns or (sent_ns, sent_ns)
        self._bad_ns, self._good_after_ns = (first_ns, sent_ns), None
        # What fails before the recovery is the outage; from then on, whatever fails is a relapse,
        # though a good answer to an earlier probe may still be under way.
        if self.recovered_ns is not None and scheduled_ns >= self.recovered_ns:
            self.stable_from_ns, self._spoilt = None, True

    def stable_ns(self, end_ns: int) -> int | None:
        """Since when no sample was bad, if that was for `stable_for` before the end."""
        start_ns = self.stable_from_ns
        if start_ns is None or start_ns + self._settings.stable_for_ns > end_ns:
            return None
        return start_ns

    def until_fresh_s(self) -> float | None:
        """What a prediction is of: until a request that was not held up was answered well.

        Where every answer takes that long it is the recovery itself.
        """
        ends_ns = self.recovered_ns if self.fresh_ns is None else self.fresh_ns
        return None if ends_ns is None else (ends_ns - self.t0_ns) / 1e9

    def outage_gap_s(self) -> float | None:
        """Halfway between the shortest that it can have been and the longest.

        From the first bad one to the last, and from the last good one before to the first good one
        after: that is one interval less than the latter, if every probe was sent on time.
        """
        if self._bad_ns is None:
            return 0.0
        if self._good_before_ns is None or self._good_after_ns is None:
            return None
        first_ns, last_ns = self._bad_ns
        return (last_ns - first_ns + self._good_after_ns - self._good_before_ns) / 2e9

    def outage_loss_s(self) -> float:
        return self._bad * self._settings.interval_ns / 1e9

    def resolution_s(self) -> float | None:
        """The error bar: the longest time between two probes that were sent.

        With several replicas the proxy takes turns: that often it may be another's.
        """
        return self._pause_ns * self._settings.replicas / 1e9 if self.lags_ns else None

    @property
    def bar_s(self) -> float:
        """What a recovery may differ from its prediction by, and no harm done."""
        return (self.resolution_s() or 0.0) + ANOMALY_MARGIN_S

    @property
    def interval_s(self) -> float:
        return self._settings.interval_ns / 1e9

    @property
    def slow_after_s(self) -> float:
        return self._settings.slow_after_ns / 1e9

    def lag_p99_s(self) -> float | None:
        if not self.lags_ns:
            return None
        return sorted(self.lags_ns)[quantile_rank(len(self.lags_ns), 0.99) - 1] / 1e9

    def doubt(self) -> Doubt | None:
        """Why these numbers can't be trusted much: the prober's fault, not the target's."""
        lag_s = self.lag_p99_s()
        if lag_s is None:
            return Doubt(kind=DoubtKind.NO_PROBES)
        if self.dropped > DROPPED_SHARE_MAX * self.samples:
            return Doubt(kind=DoubtKind.PROBES_DROPPED, count=self.dropped, total=self.samples)
        # Where probes are late the error bar knows it: what it does to long recoveries is little.
        ends_ns = self._limit_ns if self.recovered_ns is None else self.recovered_ns
        told = self._pause_ns <= BAR_SHARE_MAX * (ends_ns - self.t0_ns)
        if lag_s * 1e9 > max(self._settings.interval_ns, LATE_NS_MAX) and not told:
            return Doubt(kind=DoubtKind.PROBES_LATE, seconds=lag_s)
        return None


def measure(
    events: Sequence[AnyEvent],
    samples: Iterable[Sample],
    identities: Container[str],
    *,
    settings: Settings,
    stream: int,
    direct: int | None = None,
) -> Cycle:
    """A finished cycle from its events, up to `end`, and its samples, each in any order.

    `stream` is the one that measures, `direct` the one that asks the app itself; samples of others,
    and any from before the lookback or after the end, are ignored. `identities` are the app's.
    """
    if (end := earliest(events, CycleEnded)) is None:
        raise ValueError("a cycle without an end can't be measured")
    if (begin := phases.begun(events)) is None:
        return _never_began(end, settings)
    fault, cause = begin.what, end.what.cause
    new, control = fault.new, fault.is_control
    unknown, waits = fault.is_anonymous, fault.waits
    fold = RecoveryFold(begin.at_ns, new, identities, settings, unknown=unknown, waits=waits)
    injected = earliest(events, FaultInjected) if waits else None
    if injected is not None:
        fold.injected(injected.at_ns)
    mine = [s for s in samples if s.scheduled_ns < end.at_ns and s.stream in (stream, direct)]
    for sample in sorted(mine, key=attrgetter("scheduled_ns")):
        if sample.stream == stream:
            fold.add(sample)
    outcome = _outcome(fold, fault, invalid=cause is not None, settings=settings)
    cut_off = cause is not None and _is_cut_off(cause, fold, control=control)
    measured = _measured(fold, end.at_ns, outcome, cut_off=cut_off)
    parts, parts_error_s = _unknown_parts(), None
    moved = not fault.kind.is_still and not (control and new is None)
    if cause is None and moved:
        answered = phases.direct_answers(mine, direct, new)
        parts, parts_error_s = _parts(events, begin, fold, end.at_ns, answered)
    held = _held_against(_predicted(events), fold, outcome, end.at_ns)
    return Cycle(
        cycle=end.cycle,
        cell=end.cell,
        fault=fault.fault,
        runtime=settings.runtime,
        proxy=settings.proxy,
        outcome=outcome,
        t0_unix=fault.t0_unix,
        t0_ns=begin.at_ns,
        end_ns=end.at_ns,
        old_ip=fault.old_ip,
        new_ip=fault.new_ip,
        **measured,
        resolution_s=fold.resolution_s(),
        samples=fold.samples,
        failed=fold.failed,
        masked=fold.masked,
        misrouted=fold.misrouted,
        dropped=fold.dropped,
        lag_p99_s=fold.lag_p99_s(),
        phases=parts,
        phases_error_s=parts_error_s,
        **held,
        kind=fault.kind,
        disturbances=spans(events, begin.at_ns, end.at_ns),
        arm=settings.arm,
        cause=cause,
        cut_off=cut_off,
        **world_lag.judged(events, fold, held["predicted"], end),
        reused=phases.reused(events, begin, [s for s in mine if s.stream == stream]),
    )


def _parts(
    events: Sequence[AnyEvent],
    begin: Event[FaultBegan],
    fold: RecoveryFold,
    end_ns: int,
    direct: phases.DirectAnswers,
) -> tuple[dict[str, float | None], float]:
    """The phases, and the error of the edge that is known worst."""
    edges = phases.edges(events, begin, recovered_ns=fold.recovered_ns, direct=direct)
    found = phases.phases(begin.at_ns, edges, fold.recovered_ns, fold.stable_ns(end_ns))
    return found, edges.error_ns / 1e9


def _never_began(end: Event[CycleEnded], settings: Settings) -> Cycle:
    """Something went wrong before T0: there is nothing to measure."""
    return Cycle(
        cycle=end.cycle,
        cell=end.cell,
        fault=end.what.fault,
        runtime=settings.runtime,
        proxy=settings.proxy,
        outcome=CycleOutcome.INVALID,
        t0_unix=end.what.unix,
        t0_ns=end.at_ns,
        end_ns=end.at_ns,
        phases=_unknown_parts(),
        arm=settings.arm,
        cause=end.what.cause or Cause(kind=CauseKind.NEVER_BEGAN),
    )


def _is_cut_off(cause: Cause, fold: RecoveryFold, *, control: bool) -> bool:
    """A cycle that was stopped before it recovered might have been the longest: keep that.

    But for one of which nothing was to be seen so far, where nobody can tell the new instance.
    """
    began = not fold.unknown or fold.failed or fold.misrouted
    stopped = cause.kind is CauseKind.STOPPED
    return stopped and fold.recovered_ns is None and not control and bool(began)


def _outcome(
    fold: RecoveryFold, fault: FaultBegan, *, invalid: bool, settings: Settings
) -> CycleOutcome:
    if invalid:
        return CycleOutcome.INVALID
    if fault.is_control:
        return CycleOutcome.CONTROL
    if fold.recovered_ns is None:
        return CycleOutcome.CENSORED
    told = fault.kind.is_still or (fault.is_anonymous and settings.definitions > 1)
    is_unaffected = told and not fold.failed + fold.misrouted
    return CycleOutcome.UNAFFECTED if is_unaffected else CycleOutcome.RECOVERED


def _unknown_parts() -> dict[str, float | None]:
    return dict.fromkeys([f"{phase}_s" for phase in PHASES])


def _measured(
    fold: RecoveryFold, end_ns: int, outcome: CycleOutcome, *, cut_off: bool
) -> dict[str, Any]:
    if outcome is CycleOutcome.INVALID:
        # Of what was cut off in the middle of an outage so much of that is known.
        return {"outage_loss_s": fold.outage_loss_s()} if cut_off else {}
    outage = {"outage_gap_s": fold.outage_gap_s(), "outage_loss_s": fold.outage_loss_s()}
    if outcome is CycleOutcome.UNAFFECTED:  # nothing was lost, and nothing recovered
        return outage
    stable_ns = fold.stable_ns(end_ns)
    return {
        "recovery_s": None if fold.recovered_ns is None else (fold.recovered_ns - fold.t0_ns) / 1e9,
        "fresh_recovery_s": fold.until_fresh_s(),
        "stable_recovery_s": None if stable_ns is None else (stable_ns - fold.t0_ns) / 1e9,
        **outage,
    }


def _held_against(
    predicted: Prediction | None, fold: RecoveryFold, outcome: CycleOutcome, end_ns: int
) -> dict[str, Any]:
    """The prediction, and what was observed beside it."""
    fresh_s = fold.until_fresh_s() if outcome == CycleOutcome.RECOVERED else None
    residual_s, share = against(predicted, fresh_s, fold.resolution_s())
    return {
        "predicted": predicted,
        "interval_s": fold.interval_s,
        "residual_s": residual_s,
        "predicted_place": share,
        "anomaly": is_anomaly(
            predicted,
            outcome,
            recovery_s=fold.until_fresh_s(),
            lost_s=fold.outage_loss_s(),
            lasted_s=(end_ns - fold.t0_ns) / 1e9,
            resolution_s=fold.resolution_s(),
        ),
    }


def _predicted(events: Iterable[AnyEvent]) -> Prediction | None:
    said = earliest(events, RecoveryPredicted)
    return None if said is None else said.what.prediction
