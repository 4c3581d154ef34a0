"""Fake histories: what the engine and the world would have written, without either."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import stored

from chaosd.analysis.recovery import Settings
from chaosd.analysis.samples import StoredCounts
from chaosd.history.causes import Cause, CauseKind, Doubt, DoubtKind
from chaosd.history.cycles import Cycle, CycleKind, CycleOutcome, Prediction
from chaosd.history.events import AnyEvent, StreamOpened
from chaosd.history.values import Outcome, Sample

MS = 1_000_000
SECOND = 1_000_000_000
INTERVAL = 10 * MS
T0 = 100 * SECOND
OLD, NEW, IMPOSTER = "app-1", "app-2", "somebody"
STOPPED = Cause(kind=CauseKind.STOPPED)
NOT_FRESH = Cause(kind=CauseKind.NOT_FRESH, detail="127.64.0.6")
LATE = Doubt(kind=DoubtKind.PROBES_LATE, seconds=0.02)
OLD_IP, NEW_IP = "127.64.0.5", "127.64.0.6"


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "stable_for_ns": SECOND,
        "recovery_limit_ns": 30 * SECOND,
        "slow_after_ns": 100 * MS,
        "interval_ns": INTERVAL,
        "timeout_ns": 2 * SECOND,
        "runtime": "made",
        "proxy": "haproxy",
    }
    return Settings(**(values | changes))


def reading(
    at_ns: int, source: str, what: str, *, cycle: int = 1, cell: str = "c1", **data: Any
) -> AnyEvent:
    return stored.event(at_ns, cell, cycle, source=source, what=what, data=data)


def action(
    at_ns: int, verb: str, edge: str, *, cycle: int = 1, cell: str = "c1", **data: Any
) -> AnyEvent:
    return stored.event(at_ns, cell, cycle, verb=verb, edge=edge, data=data)


def stream(
    number: int = 1, *, cell: str = "c1", probe: str = "http", via: str = "proxy", **more: Any
) -> AnyEvent:
    data = {
        "stream": number,
        "cell": cell,
        "probe": probe,
        "type": "http",
        "via": via,
        "interval_ns": INTERVAL,
        "timeout_ns": 2 * SECOND,
        **more,
    }
    return stored.event(0, cell, 0, source="engine", what="stream", data=data)


def counts(slow_after_ns: int) -> Callable[[Any], StoredCounts]:
    """What samples become that are not kept, as a run makes it."""
    return lambda known: StoredCounts(
        known.streams, known.identities, known.t0s_ns, slow_after_ns, known.paced
    )


def opened(**changes: Any) -> StreamOpened:
    """What the first stream's event says."""
    found = stream(**changes).what
    assert isinstance(found, StreamOpened)
    return found


def instance(
    identity: str, ip: str, *, at_ns: int = 0, cycle: int = 0, cell: str = "c1"
) -> AnyEvent:
    data = {"identity": identity, "ip": ip, "port": 8080}
    return reading(at_ns, "engine", "instance", cycle=cycle, cell=cell, **data)


def begin(t0_ns: int = T0, *, cycle: int = 1, cell: str = "c1", **changes: Any) -> AnyEvent:
    data = {
        "fault": "recreate",
        "control": False,
        "old": OLD,
        "old_ip": OLD_IP,
        "new": NEW,
        "new_ip": NEW_IP,
        "t0_unix": 1e9 + t0_ns / SECOND,
    }
    return reading(t0_ns, "engine", "begin", cycle=cycle, cell=cell, **(data | changes))


def control(t0_ns: int = T0) -> AnyEvent:
    gone = dict.fromkeys(("old", "old_ip", "new", "new_ip"))
    return begin(t0_ns, fault="noop", control=True, **gone)


def end(at_ns: int, *, cycle: int = 1, cell: str = "c1", cause: Cause | None = None) -> AnyEvent:
    told = None if cause is None else asdict(cause)
    unix = 1e9 + at_ns / SECOND
    return reading(
        at_ns, "engine", "end", cycle=cycle, cell=cell, fault="recreate", unix=unix, cause=told
    )


def sample(
    scheduled_ns: int,
    took_ns: int = MS,
    outcome: Outcome = Outcome.OK,
    who: str = OLD,
    *,
    lag_ns: int = 0,
    stream: int = 1,
) -> Sample:
    status = 200 if outcome == Outcome.OK else 0
    return Sample(
        stream, scheduled_ns, scheduled_ns + lag_ns, scheduled_ns + took_ns, outcome, status, who
    )


def row(
    from_ns: int,
    to_ns: int,
    answer: Callable[[int], tuple[int, Outcome, str]],
    *,
    stream: int = 1,
    lag_ns: int = 0,
) -> list[Sample]:
    """A sample each interval; `answer` says what one came to: how long it took, outcome, who."""
    return [
        sample(at_ns, *answer(at_ns), stream=stream, lag_ns=lag_ns)
        for at_ns in range(from_ns, to_ns, INTERVAL)
    ]


def failover(outage_ns: int, *, t0_ns: int = T0, old: str = OLD, new: str = NEW) -> Any:
    """The answers around an outage of this length: the old instance, refusals, the new one."""

    def answer(at_ns: int) -> tuple[int, Outcome, str]:
        if at_ns < t0_ns:
            return MS, Outcome.OK, old
        if at_ns < t0_ns + outage_ns:
            return MS, Outcome.REFUSED, ""
        return MS, Outcome.OK, new

    return answer


def cycle(**changes: Any) -> Cycle:
    """A finished cycle like design's own example."""
    values: dict[str, Any] = {
        "cycle": 12,
        "cell": "c1",
        "fault": "recreate",
        "runtime": "local",
        "proxy": "haproxy",
        "outcome": CycleOutcome.RECOVERED,
        "t0_unix": 1e9,
        "t0_ns": T0,
        "end_ns": T0 + 2_043_000_000,
        "old_ip": OLD_IP,
        "new_ip": NEW_IP,
        "recovery_s": 1.043,
        "stable_recovery_s": 1.043,
        "outage_gap_s": 0.0,
        "outage_loss_s": 0.0,
        "resolution_s": 0.0101,
        "samples": 431,
        "failed": 0,
        "masked": 104,
        "misrouted": 0,
        "dropped": 0,
        "lag_p99_s": 0.0001,
        "phases": {
            "replace_s": 0.05,
            "publish_s": 0.0,
            "discover_s": 0.98,
            "rejoin_s": 0.0,
            "serve_s": 0.013,
            "settle_s": 0.0,
        },
        "predicted": Prediction(lower_s=0.3, mean_s=0.8, upper_s=1.31),
        "anomaly": False,
    }
    if changes.get("outcome") == CycleOutcome.CONTROL:  # nothing was taken away
        values |= {
            "kind": CycleKind.CONTROL,
            "old_ip": None,
            "new_ip": None,
            "phases": {},
            "predicted": None,
        }
    return Cycle(**(values | changes))


def restart(**changes: Any) -> Cycle:
    """A cycle in which the app came back at its own address."""
    values = {"outcome": CycleOutcome.CONTROL, "kind": CycleKind.RESTART, "new_ip": NEW_IP}
    return cycle(**(values | changes))


def events(*more: AnyEvent, end_ns: int, cause: Cause | None = None) -> list[AnyEvent]:
    """A cycle's events with whatever else was said in it."""
    return [begin(), *more, end(end_ns, cause=cause)]


def shuffled(items: Iterable[Any], random: Any) -> list[Any]:
    mixed = list(items)
    random.shuffle(mixed)
    return mixed
