"""Whether the world of a cycle was late, and by more than its numbers can bear. Pure.

The engine records what was late, and this decides what is too much: against the error bar, against
the predicted recovery, and against how far a recovery lies outside of its predicted band.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chaosd.history.causes import Doubt, DoubtKind, Lag, LagKind
from chaosd.history.cycles import Prediction
from chaosd.history.deeds import (
    Asked,
    Done,
    ImpairInstance,
    OtherDeed,
    RenewProxy,
    RestoreInstance,
    RunProgram,
)
from chaosd.history.events import (
    AnyEvent,
    CycleEnded,
    DatagramUnread,
    DeedDue,
    Event,
    Inbox,
    WorldWatched,
    only,
)

if TYPE_CHECKING:
    from chaosd.analysis.recovery import RecoveryFold

SECOND_NS = 1_000_000_000
# What a lag may be of the recovery that is predicted, or else measured. Of a process that was
# stopped it is a tenth, as of probes that were sent late. Waiting for a CPU is the ordinary state
# of a busy machine, and what is measured of it is the longest wait, and not what it moved.
STOPPED_SHARE_MAX, WAITED_SHARE_MAX = 0.1, 0.25
# What the prediction knows of, because it is made of when the app really listened and the name was
# really there: it moves no recovery out of its band. Beyond a half, more of the recovery is the
# machine's than of all else.
KNOWN_SHARE_MAX = 0.5
# A kind that says more is named if it explains at least this part of the longest lag.
NAMED_SHARE_MIN = 0.5

MIDDLE_SHARE = 0.9  # of a distribution between its p05 and its p95

UNREAD = {Inbox.DNS: LagKind.DNS_UNREAD, Inbox.LOG: LagKind.LOG_UNREAD}
LOST = (LagKind.CONNTRACK_FULL, LagKind.UDP_DROPPED, LagKind.LISTEN_DROPPED)
# Lines of the log have the kernel's stamps: that they are read late moves nothing.
HARMLESS = (LagKind.LOG_UNREAD,)
# A machine counts all of its queues, also those that others let overflow on purpose.
ANYBODYS = (LagKind.LISTEN_DROPPED,)
KNOWN = (LagKind.APP_START_WAITED, LagKind.DEED_LATE)
# Nobody waits like this: somebody has stopped it.
STANDING = (
    *(LagKind.PROXY_STOPPED, LagKind.APP_STOPPED, LagKind.DNS_STOPPED, LagKind.ENTRY_STOPPED),
    *(LagKind.DAEMON_STOPPED, LagKind.ENGINE_SILENT, LagKind.PROXY_SILENT),
)
# What a program of the user's may have done: then it is the fault, and no lag.
STOPS = (
    *(LagKind.PROXY_STOPPED, LagKind.APP_STOPPED, LagKind.DNS_STOPPED, LagKind.ENTRY_STOPPED),
    LagKind.PROXY_SILENT,
)
# What a fault's own deed stops is the fault, and no lag.
STOPPED_BY: tuple[tuple[type[Any], type[Any], tuple[LagKind, ...]], ...] = (
    (ImpairInstance, RestoreInstance, (LagKind.APP_STOPPED, LagKind.APP_WAITED)),
    (RenewProxy, RenewProxy, (LagKind.PROXY_STOPPED, LagKind.PROXY_SILENT)),
)
AFTERMATH_NS = SECOND_NS  # until what was let go on runs as before, and until somebody has seen it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What a cycle's numbers can bear, in seconds.

    `bar_s` is the error bar with the margin of an anomaly. `mean_s` is the predicted recovery, or
    else the recovery. It is not each cycle's own where there is a prediction, or short recoveries
    would be poor more often than long ones. `spread_s` is the standard deviation of the predicted
    distribution: by so much recoveries differ by chance. `beyond_s` is how far outside of its
    predicted band the recovery lies; 0 within it.
    """

    bar_s: float
    mean_s: float = 0.0
    spread_s: float = math.inf
    beyond_s: float = 0.0

    def of(self, kind: LagKind) -> float:
        """No lag of this kind that is shorter makes the cycle poor."""
        if kind in KNOWN and self.spread_s < math.inf:
            return max(self.bar_s, KNOWN_SHARE_MAX * self.mean_s)
        share = STOPPED_SHARE_MAX if kind in STANDING else WAITED_SHARE_MAX
        bearable_s = min(self.spread_s, share * self.mean_s)
        if self.beyond_s:  # what may have moved a recovery out of its band is not the proxy's
            bearable_s = min(bearable_s, self.beyond_s)
        return max(self.bar_s, bearable_s)


def lags(events: Sequence[AnyEvent], t0_ns: int, end_ns: int) -> list[Lag] | None:
    """Everything late or lost between T0 and the end; None if nobody watched.

    A lag that began before T0, or went on after the end, counts for what is in between.
    """
    watched = only(events, WorldWatched)
    if not watched:
        return None
    known = [lag for event in watched for lag in event.what.lags]
    for event in only(events, DatagramUnread):
        kind, late_s = UNREAD[event.what.inbox], event.what.late_ns / 1e9
        known.append(Lag(kind=kind, from_ns=event.at_ns, seconds=late_s))
    known += _late_deeds(events)
    program = any(isinstance(e.what.deed, RunProgram | OtherDeed) for e in only(events, Asked))
    own = _stopped_by_faults(events)
    return [
        inside
        for lag in known
        if not (program and lag.kind in STOPS) and not _is_own(lag, own)
        if (inside := _between(lag, t0_ns, end_ns)) is not None
    ]


def _stopped_by_faults(events: Sequence[AnyEvent]) -> list[tuple[LagKind, int, float]]:
    """From when to when a fault's own deeds keep which kinds of lag from meaning anything."""
    found: list[tuple[LagKind, int, float]] = []
    for begins, ends, kinds in STOPPED_BY:
        asked = [e.at_ns for e in only(events, Asked) if isinstance(e.what.deed, begins)]
        over = [e.at_ns for e in only(events, Done) if isinstance(e.what.deed, ends)]
        if asked:
            until_ns = max(over) + AFTERMATH_NS if over else math.inf
            found += [(kind, min(asked), until_ns) for kind in kinds]
    return found


def _is_own(lag: Lag, own: Iterable[tuple[LagKind, int, float]]) -> bool:
    from_ns, until_ns = lag.from_ns, lag.from_ns + lag.seconds * 1e9
    return any(
        lag.kind is kind and from_ns >= first_ns - AFTERMATH_NS and until_ns <= last_ns
        for kind, first_ns, last_ns in own
    )


def _between(lag: Lag, t0_ns: int, end_ns: int) -> Lag | None:
    """The part of it that lies there; None if nothing of it was lost there.

    One without a length says that somebody looked.
    """
    until_ns = lag.from_ns + round(lag.seconds * 1e9)
    start_ns, stop_ns = max(lag.from_ns, t0_ns), min(until_ns, end_ns)
    if stop_ns < start_ns and lag.count is not None:
        return None
    seconds = max(0, stop_ns - start_ns) / 1e9
    return Lag(kind=lag.kind, from_ns=start_ns, seconds=seconds, count=lag.count)


def _late_deeds(events: Sequence[AnyEvent]) -> Iterator[Lag]:
    """From when a deed was due to when it was asked for. Events are in the order of their deeds."""
    due_ns: int | None = None
    for event in events:
        if isinstance(event.what, DeedDue):
            due_ns = event.at_ns
        elif isinstance(event.what, Asked) and due_ns is not None:
            late_s = max(0, event.at_ns - due_ns) / 1e9
            yield Lag(kind=LagKind.DEED_LATE, from_ns=due_ns, seconds=late_s)
            due_ns = None


def late_s(found: Iterable[Lag]) -> dict[str, float]:
    """The longest lag of each kind, in seconds, in the order of kinds."""
    worst: dict[LagKind, float] = {}
    for lag in found:
        if lag.kind not in LOST:
            worst[lag.kind] = max(lag.seconds, worst.get(lag.kind, 0.0))
    return {kind.value: round(worst[kind], 6) for kind in LagKind if kind in worst}


def count_lost(found: Iterable[Lag]) -> dict[str, int]:
    """How much was lost of each kind."""
    counts: dict[LagKind, int] = {}
    for lag in found:
        if lag.kind in LOST:
            counts[lag.kind] = counts.get(lag.kind, 0) + (lag.count or 0)
    return {kind.value: counts[kind] for kind in LagKind if kind in counts}


def doubt(found: Sequence[Lag], tolerance: Tolerance) -> Doubt | None:
    """Why the cycle is poor: the longest lag beyond what it can bear, by the kind that says most.

    What the machine has thrown away makes it poor in any case: a lost packet is sent again after a
    second or more, or never.
    """
    late = [lag for lag in found if lag.kind not in (*LOST, *HARMLESS)]
    late = [lag for lag in late if lag.seconds > tolerance.of(lag.kind)]
    longest_s = max((lag.seconds for lag in late), default=0.0)
    telling = [lag for lag in late if lag.seconds >= NAMED_SHARE_MIN * longest_s]
    counts, order = count_lost(found), list(LagKind)
    telling += [
        Lag(kind=LagKind(kind), from_ns=0, seconds=0.0, count=count)
        for kind, count in counts.items()
        if count and kind not in ANYBODYS
    ]
    if not telling:
        return None
    first = min(telling, key=lambda lag: (order.index(lag.kind), -lag.seconds))
    seconds = None if first.kind in LOST else round(first.seconds, 6)
    return Doubt(kind=DoubtKind.WORLD_LATE, lag=first.kind, seconds=seconds, count=first.count)


def judged(
    events: Sequence[AnyEvent],
    fold: RecoveryFold,
    predicted: Prediction | None,
    end: Event[CycleEnded],
) -> dict[str, Any]:
    """How late a cycle's world was, and why it is poor: by its probes, or else by its world."""
    found = lags(events, fold.t0_ns, end.at_ns)
    why = None
    if end.what.cause is None:
        why = fold.doubt()
        if why is None and found is not None:
            why = doubt(found, tolerance(fold, predicted, end.at_ns))
    return {
        "doubt": why,
        "world_lag_s": None if found is None else late_s(found),
        "world_lost": None if found is None else count_lost(found),
    }


def tolerance(fold: RecoveryFold, predicted: Prediction | None, end_ns: int) -> Tolerance:
    """What the numbers of this cycle can bear."""
    bar_s, recovery_s = fold.bar_s, fold.until_fresh_s()
    took_s = (end_ns - fold.t0_ns) / 1e9 if recovery_s is None else recovery_s
    if fold.new is None and not fold.failed + fold.misrouted:
        # Nothing moved and nothing was lost: what is shorter than this makes no false alarm.
        return Tolerance(bar_s=max(bar_s, fold.slow_after_s))
    if predicted is not None:
        below_s = 0.0 if recovery_s is None else predicted.lower_s - bar_s - took_s
        beyond_s = max(0.0, below_s, took_s - predicted.upper_s - bar_s)
        spread_s = _spread_s(predicted)
        return Tolerance(bar_s=bar_s, mean_s=predicted.mean_s, spread_s=spread_s, beyond_s=beyond_s)
    return Tolerance(bar_s=bar_s, mean_s=took_s)


def _spread_s(predicted: Prediction) -> float:
    """The standard deviation of a predicted distribution, taken to be even over its middle."""
    known = predicted.quantiles_s or {}
    if "p05" in known and "p95" in known:
        return (known["p95"] - known["p05"]) / MIDDLE_SHARE / math.sqrt(12)
    return (predicted.upper_s - predicted.lower_s) / math.sqrt(12)
