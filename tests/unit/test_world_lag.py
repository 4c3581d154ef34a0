"""What makes a cycle poor because its world was late: values in, a doubt out."""

from __future__ import annotations

from dataclasses import replace

import fake
import pytest
from fake import MS, SECOND, T0

from chaosd.analysis.observed import observed
from chaosd.analysis.recovery import Identities, measure
from chaosd.analysis.tally import Tally
from chaosd.analysis.world_lag import Tolerance, doubt
from chaosd.history.causes import Doubt, DoubtKind, Lag, LagKind
from chaosd.history.cycles import CycleOutcome, Prediction
from chaosd.history.deeds import (
    Asked,
    Done,
    ImpairInstance,
    RenewProxy,
    RestoreInstance,
    RunProgram,
    StartInstance,
)
from chaosd.history.events import (
    DatagramUnread,
    DeedDue,
    Event,
    Inbox,
    RecoveryPredicted,
    WorldWatched,
)

END = T0 + 3 * SECOND
BAND = Prediction(lower_s=0.25, mean_s=0.75, upper_s=1.25)  # spread 0.29 s; a tenth is 75 ms


def at(at_ns: int, what) -> Event:
    return Event(at_ns=at_ns, cell="c1", cycle=1, what=what)


def lag(kind: LagKind, ms: float, from_ms: float = 100, count: int | None = None) -> Lag:
    return Lag(kind=kind, from_ns=T0 + round(from_ms * MS), seconds=ms / 1e3, count=count)


def cycle(*lags: Lag, outage_ms: int = 700, predicted=BAND, more=(), watched=True):
    """A cycle with this outage, in a world that was late like this."""
    events = fake.events(*more, end_ns=END)
    if watched:
        events.insert(-1, at(END, WorldWatched(lags=tuple(lags))))
    if predicted is not None:
        events.insert(-1, at(END, RecoveryPredicted(prediction=predicted)))
    samples = fake.row(T0 - SECOND, END, fake.failover(outage_ms * MS))
    who = Identities()
    who.add(fake.OLD)
    who.add(fake.NEW)
    return measure(events, samples, who, settings=fake.settings(), stream=1)


def named(found: Doubt | None) -> LagKind | None:
    assert found is None or found.kind is DoubtKind.WORLD_LATE
    return None if found is None else found.lag


def test_a_world_that_nobody_watched_says_nothing() -> None:
    found = cycle(watched=False)
    assert (found.doubt, found.world_lag_s, found.world_lost) == (None, None, None)


def test_a_world_that_was_on_time_says_so() -> None:
    found = cycle(lag(LagKind.PROXY_STOPPED, 0), lag(LagKind.PROXY_WAITED, 3))
    assert found.doubt is None
    assert found.world_lag_s == {"proxy-stopped": 0.0, "proxy-waited": 0.003}
    assert found.world_lost == {}


@pytest.mark.parametrize(
    ("kind", "good_ms", "poor_ms"),
    [
        # A tenth of the predicted mean recovery.
        *((kind, 74, 77) for kind in (LagKind.PROXY_STOPPED, LagKind.APP_STOPPED)),
        *((kind, 74, 77) for kind in (LagKind.DAEMON_STOPPED, LagKind.PROXY_SILENT)),
        (LagKind.DNS_STOPPED, 74, 77),
        # A quarter: what busy loops make is far less than this.
        *((kind, 185, 190) for kind in (LagKind.PROXY_WAITED, LagKind.DAEMON_WAITED)),
        *((kind, 185, 190) for kind in (LagKind.DNS_UNREAD, LagKind.DAEMON_BUSY)),
        (LagKind.DNS_WAITED, 185, 190),
        # A half, where the prediction knows of it.
        *((kind, 370, 380) for kind in (LagKind.APP_START_WAITED, LagKind.DEED_LATE)),
    ],
)
def test_what_is_too_late_goes_by_the_prediction(kind, good_ms, poor_ms) -> None:
    assert cycle(lag(kind, good_ms)).doubt is None
    found = cycle(lag(kind, poor_ms))
    assert named(found.doubt) is kind
    assert found.doubt.seconds == pytest.approx(poor_ms / 1e3)
    assert found.recovery_s == 0.701  # it is still shown


def test_a_narrow_band_bears_less_and_the_error_bar_is_always_borne() -> None:
    narrow = Prediction(lower_s=0.65, mean_s=0.7, upper_s=0.75)  # its spread is 29 ms
    assert cycle(lag(LagKind.PROXY_WAITED, 28), predicted=narrow).doubt is None
    assert named(cycle(lag(LagKind.PROXY_WAITED, 31), predicted=narrow).doubt)
    point = Prediction(lower_s=0.7, mean_s=0.7, upper_s=0.7)
    assert cycle(lag(LagKind.PROXY_STOPPED, 19), predicted=point).doubt is None  # 10 + 10 ms
    assert named(cycle(lag(LagKind.PROXY_STOPPED, 22), predicted=point).doubt)


def test_an_anomaly_that_a_lag_explains_is_none() -> None:
    """1.40 s is 0.13 s beyond its band and what is borne there."""
    assert cycle(outage_ms=1400).anomaly is True
    small = cycle(lag(LagKind.DNS_UNREAD, 100), outage_ms=1400)
    assert (small.anomaly, small.doubt) == (True, None)
    assert named(cycle(lag(LagKind.DNS_UNREAD, 150), outage_ms=1400).doubt) is LagKind.DNS_UNREAD


def test_without_a_prediction_it_goes_by_the_recovery() -> None:
    assert cycle(lag(LagKind.PROXY_STOPPED, 69), predicted=None).doubt is None
    assert named(cycle(lag(LagKind.PROXY_STOPPED, 72), predicted=None).doubt)


def test_only_what_lies_within_the_cycle_counts() -> None:
    before = lag(LagKind.PROXY_STOPPED, 2000, from_ms=-2050)
    assert cycle(before).doubt is None
    across = cycle(lag(LagKind.PROXY_STOPPED, 2000, from_ms=-1000))
    assert across.doubt.seconds == pytest.approx(1.0)
    after = cycle(lag(LagKind.PROXY_STOPPED, 2000, from_ms=3000 - 50))
    assert after.doubt is None


def test_packets_that_the_machine_drops_make_it_poor_at_once() -> None:
    found = cycle(
        lag(LagKind.CONNTRACK_FULL, 1000, count=7), lag(LagKind.CONNTRACK_FULL, 5, count=1)
    )
    assert found.doubt == Doubt(kind=DoubtKind.WORLD_LATE, lag=LagKind.CONNTRACK_FULL, count=8)
    assert found.world_lost == {"conntrack-full": 8}
    # Other programs let their queues overflow too: that is told, and no more.
    others = cycle(lag(LagKind.LISTEN_DROPPED, 1000, count=7))
    assert (others.doubt, others.world_lost) == (None, {"listen-dropped": 7})
    assert cycle(lag(LagKind.CONNTRACK_FULL, 500, from_ms=-800, count=7)).doubt is None


def test_datagrams_and_deeds_are_judged_by_their_own_events() -> None:
    start = Asked(deed=StartInstance(identity=fake.NEW))
    late = cycle(more=[at(T0 + 200 * MS, DeedDue()), at(T0 + 620 * MS, start)])
    assert named(late.doubt) is LagKind.DEED_LATE
    assert late.world_lag_s == {"deed-late": 0.42}
    unread = at(T0 + 200 * MS, DatagramUnread(inbox=Inbox.DNS, late_ns=400 * MS))
    assert named(cycle(more=[unread]).doubt) is LagKind.DNS_UNREAD
    # The log has the kernel's stamps: whenever it is read, it says when things happened.
    log = at(T0 + 200 * MS, DatagramUnread(inbox=Inbox.LOG, late_ns=2 * SECOND))
    assert cycle(more=[log]).doubt is None


def test_what_the_fault_has_stopped_is_no_lag() -> None:
    program = at(T0, Asked(deed=RunProgram(role="inject", program=("freeze",))))
    assert cycle(lag(LagKind.PROXY_STOPPED, 2000), more=[program]).doubt is None
    assert named(cycle(lag(LagKind.DAEMON_STOPPED, 2000), more=[program]).doubt)


def test_the_kind_that_says_most_is_named() -> None:
    tolerance = Tolerance(bar_s=0.02, mean_s=1.0)
    silent, stopped = lag(LagKind.PROXY_SILENT, 2000), lag(LagKind.PROXY_STOPPED, 1950)
    assert named(doubt([silent, stopped], tolerance)) is LagKind.PROXY_STOPPED
    # … but a short stop does not explain a long wait.
    waited, short = lag(LagKind.DAEMON_WAITED, 5000), lag(LagKind.PROXY_STOPPED, 120)
    assert named(doubt([waited, short], tolerance)) is LagKind.DAEMON_WAITED
    assert doubt([], tolerance) is None


@pytest.mark.parametrize("outcome", [o for o in CycleOutcome if o not in ("invalid", "skipped")])
def test_a_poor_cycle_is_in_no_number(outcome) -> None:
    good, tally = Tally(), Tally()
    for place in range(5):
        one = fake.cycle(recovery_s=0.5 + place / 10)
        good.add(one)
        tally.add(one)
    took = 99.0 if outcome is CycleOutcome.RECOVERED else None
    poor = fake.cycle(
        outcome=outcome, recovery_s=took, failed=9, misrouted=3, anomaly=True, doubt=fake.LATE
    )
    tally.add(poor)
    found, without = tally.totals(), good.totals()
    assert (found.poor, found.valid, found.good, found.failovers) == (1, 6, 5, 5)
    assert replace(found, poor=0, outcomes=without.outcomes) == without
    assert observed(poor) is None


def deed(kind, at_ms: float, what) -> Event:
    return at(T0 + round(at_ms * MS), kind(deed=what))


PAUSED = (
    deed(Asked, 0, ImpairInstance(identity=fake.OLD, how="pause")),
    deed(Done, 1, ImpairInstance(identity=fake.OLD, how="pause")),
    deed(Asked, 1000, RestoreInstance(identity=fake.OLD, how="pause")),
    deed(Done, 1001, RestoreInstance(identity=fake.OLD, how="pause")),
)
RELOADED = (
    deed(Asked, 0, RenewProxy(how="restart")),
    deed(Done, 500, RenewProxy(how="restart")),
)


@pytest.mark.parametrize(
    ("deeds", "kind", "from_ms", "ms", "poor"),
    [
        (PAUSED, LagKind.APP_STOPPED, 5, 990, False),  # that is the fault
        (PAUSED, LagKind.APP_STOPPED, 5, 2600, True),  # somebody else has stopped it for longer
        (PAUSED, LagKind.PROXY_STOPPED, 5, 990, True),  # and nobody has paused the proxy
        (RELOADED, LagKind.PROXY_SILENT, 10, 480, False),
        (RELOADED, LagKind.PROXY_SILENT, 2000, 480, True),
        (RELOADED, LagKind.APP_STOPPED, 10, 480, True),
    ],
)
def test_what_a_faults_own_deed_stops_is_no_lag(deeds, kind, from_ms, ms, poor) -> None:
    found = cycle(lag(kind, ms, from_ms), more=deeds)
    assert named(found.doubt) is (kind if poor else None)
