"""The numbers of a cycle, against their definitions written down naively."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import budget
import fake
import pytest
from fake import IMPOSTER, INTERVAL, MS, NEW, OLD, SECOND, T0
from hypothesis import given, settings, strategies

from chaosd.analysis.recovery import (
    RecoveryFold,
    measure,
)
from chaosd.history.causes import Cause, CauseKind
from chaosd.history.cycles import Cycle, CycleOutcome, Prediction
from chaosd.history.values import Outcome, Sample
from chaosd.report import words

OURS = {OLD, NEW}
FEW = settings(derandomize=True, max_examples=budget.of(12, 300), deadline=None)


def measured(samples: list[Sample], end_ns: int, **changes) -> Cycle:
    config = fake.settings(**changes)
    return measure(fake.events(end_ns=end_ns), samples, OURS, settings=config, stream=1)


def over(samples: list[Sample], config, new: str | None = NEW, complete_ns: int = 10**18) -> int:
    fold = RecoveryFold(T0, new, OURS, config)
    for sample in sorted(samples, key=lambda s: s.scheduled_ns):
        fold.add(sample)
    end_ns = fold.over_at_ns(complete_ns)
    assert end_ns is not None
    return end_ns


# --- the definitions, as naive as they read in docs/measuring.md ---


def naive(samples: list[Sample], config, *, is_control: bool = False) -> dict:
    lookback = config.timeout_ns + max(SECOND, 2 * config.interval_ns)
    rows = sorted(s for s in samples if s.scheduled_ns >= T0 - lookback)
    limit = T0 + config.recovery_limit_ns
    good = [s for s in rows if s.outcome == Outcome.OK and s.who in OURS]
    bad = [s for s in rows if s not in good and s.outcome != Outcome.DROPPED]

    def ends(s: Sample) -> bool:
        return s.sent_ns >= T0 if is_control else s.who == NEW

    ending = [s.done_ns for s in good if ends(s) and T0 <= s.done_ns <= limit]
    recovered = min(ending, default=None)
    # When a stretch began, by its first answer, and when its first bad sample was scheduled.
    relapses = [
        s.scheduled_ns for s in bad if recovered is not None and s.scheduled_ns >= recovered
    ]
    starts, stops = [recovered], [*relapses, 10**18]
    for bad_ns, next_ns in zip(relapses, stops[1:], strict=True):
        stretch = [s.done_ns for s in good if bad_ns < s.scheduled_ns < next_ns]
        starts.append(min(stretch, default=None))
    whole = [
        start
        for start, stop in zip(starts, stops, strict=True)
        if start is not None and start + config.stable_for_ns <= min(stop, limit)
    ]
    stable = whole[0] if whole else None
    end = limit if stable is None else stable + config.stable_for_ns
    inside = [s for s in rows if s.done_ns >= T0 and s.scheduled_ns < end]
    bad = [s for s in inside if s in bad]
    sent = [s for s in inside if s.outcome != Outcome.DROPPED]
    gap = 0.0 if not bad else None
    if bad:
        before = [s for s in good if s.scheduled_ns < bad[0].scheduled_ns]
        after = [s for s in good if bad[-1].scheduled_ns < s.scheduled_ns < end]
        if before and after:
            gap = (after[0].sent_ns - before[-1].sent_ns + bad[-1].sent_ns - bad[0].sent_ns) / 2e9
    lags = sorted(s.sent_ns - s.scheduled_ns for s in sent)
    went = [s for s in rows if s.outcome != Outcome.DROPPED and s.scheduled_ns < end]
    pauses = [b.sent_ns - a.sent_ns for a, b in pairwise(went) if b in sent]
    return {
        "end_ns": end,
        "recovery_s": None if recovered is None else (recovered - T0) / 1e9,
        "stable_recovery_s": None if stable is None else (stable - T0) / 1e9,
        "outage_gap_s": gap,
        "outage_loss_s": len(bad) * config.interval_ns / 1e9,
        "samples": len(inside),
        "failed": sum(s.outcome != Outcome.OK for s in bad),
        "misrouted": sum(s.outcome == Outcome.OK for s in bad),
        "masked": sum(
            s in good and s.done_ns - s.scheduled_ns > config.slow_after_ns for s in sent
        ),
        "dropped": len(inside) - len(sent),
        "resolution_s": max([config.interval_ns, *pauses]) / 1e9 if lags else None,
        "lag_p99_s": lags[-(len(lags) // 100) - 1] / 1e9 if lags else None,
    }


OUTCOMES = strategies.sampled_from([Outcome.OK] * 12 + [Outcome.REFUSED] * 2 + list(Outcome))


@strategies.composite
def histories(draw) -> list[Sample]:
    """Samples around T0, with everything that real ones have: lateness, overtaking, gaps."""
    count = draw(strategies.integers(0, 70))
    first = T0 - draw(strategies.integers(-2, 25)) * INTERVAL
    rows = []
    for place in range(count):
        at_ns = first + place * INTERVAL
        outcome = draw(OUTCOMES)
        took_us = draw(strategies.sampled_from([0, 500, 1_000, 9_999, 10_000, 45_000, 300_000]))
        lag_us = draw(strategies.sampled_from([0, 0, 30, 700])) if took_us else 0
        who = draw(strategies.sampled_from([OLD, NEW, NEW, NEW, IMPOSTER]))
        rows.append(
            fake.sample(
                at_ns,
                took_us * 1000,
                outcome,
                who if outcome == Outcome.OK else "",
                lag_ns=min(lag_us, took_us) * 1000,
            )
        )
    return rows


SHORT = {
    "stable_for_ns": 50 * MS,
    "recovery_limit_ns": 400 * MS,
    "slow_after_ns": 10 * MS,
    "timeout_ns": 300 * MS,
}


@FEW
@given(histories(), strategies.randoms(use_true_random=False), strategies.booleans())
def test_a_cycle_is_what_the_definitions_say(samples, random: Random, is_control) -> None:
    config = fake.settings(**SHORT)
    expected = naive(samples, config, is_control=is_control)
    end_ns = over(samples, config, None if is_control else NEW)
    assert end_ns == expected["end_ns"]
    begin = fake.control() if is_control else fake.begin()
    mixed = fake.shuffled(samples, random)
    cycle = measure(
        fake.shuffled([begin, fake.end(end_ns)], random), mixed, OURS, settings=config, stream=1
    )
    assert {name: getattr(cycle, name) for name in expected} == expected


@FEW
@given(histories())
def test_what_is_known_early_stays_so(samples) -> None:
    """The engine asks after each batch: the first answer must be the one of the whole history."""
    config = fake.settings(**SHORT)
    fold = RecoveryFold(T0, NEW, OURS, config)
    answers = []
    for sample in samples:
        answers.append(fold.over_at_ns(sample.scheduled_ns))
        fold.add(sample)
    answers.append(fold.over_at_ns(T0 + 3600 * SECOND))
    known = [answer for answer in answers if answer is not None]
    assert set(known) == {over(samples, config)}
    assert answers[len(answers) - len(known) :] == known


@FEW
@given(histories())
def test_stable_is_never_before_recovery(samples) -> None:
    config = fake.settings(**SHORT)
    end_ns = over(samples, config)
    cycle = measured(samples, end_ns, **SHORT)
    if cycle.stable_recovery_s is not None:
        assert cycle.recovery_s is not None
        assert cycle.recovery_s <= cycle.stable_recovery_s
    assert (cycle.outcome == CycleOutcome.CENSORED) == (cycle.recovery_s is None)


@FEW
@given(strategies.integers(1, 2_000_000), strategies.integers(0, 9_999))
def test_a_known_outage_is_estimated_within_an_interval(outage_us: int, shift_us: int) -> None:
    outage_ns, shift_ns = outage_us * 1000, shift_us * 1000
    answer = fake.failover(outage_ns)
    samples = fake.row(T0 - SECOND + shift_ns, T0 + 5 * SECOND, answer)
    config = fake.settings()
    cycle = measured(samples, over(samples, config))
    for estimate_s in (cycle.outage_gap_s, cycle.outage_loss_s, cycle.recovery_s - MS / SECOND):
        assert abs(estimate_s * SECOND - outage_ns) <= INTERVAL
    assert cycle.recovery_s * SECOND >= outage_ns
    assert cycle.stable_recovery_s == cycle.recovery_s
    assert cycle.outcome == CycleOutcome.RECOVERED


@FEW
@given(
    strategies.integers(200_000, 2_000_000),
    strategies.integers(0, 9_999),
    strategies.lists(
        strategies.tuples(strategies.integers(-20, 230), strategies.integers(1, 40)), max_size=3
    ),
    strategies.booleans(),
)
def test_whatever_was_late_or_lost_the_error_bar_knows_it(outage_us, shift_us, holes, late) -> None:
    """A prober that stood still at an end of the outage must not make it longer unnoticed.

    What was due meanwhile is either not sent, or all of it afterwards: then it meets what is then.
    """
    outage_ns, shift_ns = outage_us * 1000, shift_us * 1000
    samples = []
    for place in range(-100, 600):
        due_ns = T0 + shift_ns + place * INTERVAL
        ends = [first + count for first, count in holes if first <= place < first + count]
        end_ns = max((T0 + shift_ns + end * INTERVAL for end in ends), default=due_ns)
        if ends and not late:
            samples.append(fake.sample(due_ns, 0, Outcome.DROPPED, ""))
            continue
        took_ns, outcome, who = fake.failover(outage_ns)(end_ns)
        lag_ns = end_ns - due_ns
        samples.append(fake.sample(due_ns, lag_ns + took_ns, outcome, who, lag_ns=lag_ns))
    cycle = measured(samples, over(samples, fake.settings()))
    if cycle.outage_gap_s == 0.0:  # all of it went by unseen
        assert outage_ns <= cycle.resolution_s * SECOND
        return
    assert abs(cycle.outage_gap_s * SECOND - outage_ns) <= cycle.resolution_s * SECOND
    late_ns = cycle.recovery_s * SECOND - outage_ns
    assert 0 <= late_ns <= cycle.resolution_s * SECOND + MS


# --- the cases that a reader would ask about ---


def test_a_plain_failover() -> None:
    samples = fake.row(T0 - SECOND, T0 + 3 * SECOND, fake.failover(500 * MS))
    cycle = measured(samples, over(samples, fake.settings()))
    assert cycle.recovery_s == 0.501
    assert cycle.stable_recovery_s == 0.501
    assert cycle.end_ns == T0 + 1_501 * MS
    assert cycle.outage_gap_s == cycle.outage_loss_s == 0.5
    assert (cycle.samples, cycle.failed, cycle.misrouted) == (151, 50, 0)
    assert (cycle.old_ip, cycle.new_ip, cycle.runtime) == (fake.OLD_IP, fake.NEW_IP, "made")
    assert cycle.doubt is None


def test_an_answer_of_the_old_instance_or_of_an_imposter_is_no_recovery() -> None:
    samples = [
        fake.sample(T0, who=OLD),
        fake.sample(T0 + INTERVAL, who=IMPOSTER),
        fake.sample(T0 + 2 * INTERVAL, who=NEW),
    ]
    cycle = measured(samples, T0 + SECOND)
    assert cycle.recovery_s == 0.021
    assert (cycle.failed, cycle.misrouted) == (0, 1)


def test_what_was_under_way_at_t0_counts() -> None:
    timed_out = fake.sample(T0 - SECOND, 2 * SECOND, Outcome.TIMEOUT, "")
    answered_before = fake.sample(T0 - 5 * MS, MS)
    cycle = measured([timed_out, answered_before], T0 + SECOND)
    assert (cycle.samples, cycle.failed) == (1, 1)


def test_one_failure_between_good_ones_is_an_outage_of_one_interval() -> None:
    samples = fake.row(T0 - SECOND, T0 + SECOND, lambda _: (MS, Outcome.OK, NEW))
    samples[100] = fake.sample(T0, MS, Outcome.RESET, "")
    cycle = measured(samples, T0 + SECOND)
    assert cycle.outage_gap_s == cycle.outage_loss_s == 0.01


def test_an_outage_without_an_end_has_no_gap() -> None:
    samples = fake.row(T0 - SECOND, T0 + SECOND, fake.failover(5 * SECOND))
    cycle = measured(samples, T0 + SECOND)
    assert cycle.outcome == CycleOutcome.CENSORED
    assert cycle.outage_gap_s is None
    assert cycle.outage_loss_s == 1.0
    assert cycle.recovery_s is cycle.stable_recovery_s is None


def test_flapping_moves_stable_but_not_recovery() -> None:
    def answer(at_ns: int) -> tuple[int, Outcome, str]:
        flaps = 700 * MS <= at_ns - T0 < 900 * MS
        return (MS, Outcome.HTTP_ERROR, "") if flaps else fake.failover(500 * MS)(at_ns)

    samples = fake.row(T0 - SECOND, T0 + 5 * SECOND, answer)
    cycle = measured(samples, over(samples, fake.settings()))
    assert (cycle.recovery_s, cycle.stable_recovery_s) == (0.501, 0.901)
    assert cycle.outage_gap_s == 0.9
    assert cycle.outage_loss_s == pytest.approx(0.7)


def test_a_slow_answer_overtaken_after_a_relapse_does_not_hide_the_next_one() -> None:
    """So a proxy's retries look: an answer comes late, those to later probes at once."""

    def answer(at_ns: int) -> tuple[int, Outcome, str]:
        match (at_ns - T0) // MS:
            case 300:
                return 1500 * MS, Outcome.OK, NEW
            case ms if 200 <= ms < 300 or ms == 1000:
                return MS, Outcome.REFUSED, ""
        return MS, Outcome.OK, NEW

    samples = fake.row(T0, T0 + 5 * SECOND, answer)
    end_ns = over(samples, fake.settings())
    assert end_ns == T0 + 2_011 * MS
    cycle = measured(samples, end_ns)
    assert (cycle.recovery_s, cycle.stable_recovery_s) == (0.001, 1.011)


def test_after_a_relapse_the_earliest_answer_counts_whichever_probe_it_answers() -> None:
    def answer(at_ns: int) -> tuple[int, Outcome, str]:
        if at_ns == T0 + 200 * MS:
            return MS, Outcome.REFUSED, ""
        slow = T0 + 200 * MS < at_ns < T0 + 400 * MS
        return (300 * MS if slow else MS), Outcome.OK, NEW

    samples = fake.row(T0, T0 + 5 * SECOND, answer)
    cycle = measured(samples, over(samples, fake.settings()))
    assert cycle.stable_recovery_s == 0.401  # a quick one was there before the first slow one


def test_recovered_but_never_stable() -> None:
    def answer(at_ns: int) -> tuple[int, Outcome, str]:
        bad = (at_ns - T0) % SECOND == 0
        return (MS, Outcome.TIMEOUT, "") if bad else (MS, Outcome.OK, NEW)

    samples = fake.row(T0, T0 + 6 * SECOND, answer)
    changes = {"recovery_limit_ns": 4 * SECOND}
    end_ns = over(samples, fake.settings(**changes))
    cycle = measured(samples, end_ns, **changes)
    assert end_ns == T0 + 4 * SECOND
    assert cycle.outcome == CycleOutcome.RECOVERED
    assert (cycle.recovery_s, cycle.stable_recovery_s) == (0.011, None)


def test_what_is_scheduled_at_the_very_end_no_longer_counts() -> None:
    fold = RecoveryFold(T0, NEW, OURS, fake.settings())
    fold.add(fake.sample(T0, 10 * MS, who=NEW))
    assert fold.over_at_ns(T0 + SECOND + 10 * MS - 1) is None
    assert fold.over_at_ns(T0 + SECOND + 10 * MS) == T0 + SECOND + 10 * MS
    fold.add(fake.sample(T0 + SECOND + 10 * MS, MS, Outcome.RESET, ""))
    assert fold.over_at_ns(T0 + 2 * SECOND) == T0 + SECOND + 10 * MS
    assert (fold.samples, fold.failed) == (1, 0)


def test_an_outage_does_not_reach_back_beyond_the_lookback() -> None:
    lookback = fake.settings().lookback_ns
    assert lookback == 3 * SECOND
    lost = fake.sample(T0, MS, Outcome.REFUSED, "")
    back = fake.sample(T0 + INTERVAL, who=NEW)
    # Nothing was sent in between: anything from 0 to 3.01 s.
    for before, gap_s in ((T0 - lookback, 1.505), (T0 - lookback - 1, None)):
        assert measured([fake.sample(before), lost, back], T0 + SECOND).outage_gap_s == gap_s


def test_a_recovery_beyond_the_limit_is_censored() -> None:
    """All censored cycles are censored at the same limit, or their quantiles would not be exact."""
    late = fake.sample(T0 + 290 * MS, 20 * MS, who=NEW)
    changes = {"recovery_limit_ns": 300 * MS}
    cycle = measured([late], over([late], fake.settings(**changes)), **changes)
    assert cycle.outcome == CycleOutcome.CENSORED
    assert cycle.recovery_s is None


def test_a_later_sample_may_overtake_an_earlier_one() -> None:
    slow = fake.sample(T0, 900 * MS, who=NEW)
    quick = fake.sample(T0 + INTERVAL, MS, who=NEW)
    cycle = measured([slow, quick], T0 + 2 * SECOND)
    assert (cycle.recovery_s, cycle.masked) == (0.011, 1)


def test_a_control_cycle_takes_any_answer_to_what_was_sent_after_t0() -> None:
    sent_before = fake.sample(T0 - INTERVAL, 15 * MS)
    answer = fake.sample(T0, 2 * MS, lag_ns=MS)
    events = [fake.control(), fake.end(T0 + 2 * SECOND)]
    cycle = measure(events, [sent_before, answer], OURS, settings=fake.settings(), stream=1)
    assert cycle.outcome == CycleOutcome.CONTROL
    assert (cycle.recovery_s, cycle.fault) == (0.002, "noop")
    assert set(cycle.phases.values()) == {None}


def test_an_invalid_cycle_says_why_and_has_no_numbers_to_mistake_for_a_sample() -> None:
    samples = fake.row(T0 - SECOND, T0 + 3 * SECOND, fake.failover(500 * MS))
    events = fake.events(end_ns=T0 + 2 * SECOND, cause=fake.NOT_FRESH)
    cycle = measure(events, samples, OURS, settings=fake.settings(), stream=1)
    assert cycle.outcome == CycleOutcome.INVALID
    assert cycle.cause == fake.NOT_FRESH
    assert cycle.recovery_s is cycle.outage_gap_s is cycle.anomaly is None
    assert (cycle.samples, cycle.failed) == (151, 50)


@pytest.mark.parametrize(
    ("outage_ms", "begin", "cut_off"),
    [
        (500, fake.begin(), False),
        (5000, fake.begin(), True),
        (5000, fake.control(), False),
    ],
)
def test_a_cycle_that_was_stopped_says_whether_it_had_recovered(outage_ms, begin, cut_off) -> None:
    samples = fake.row(T0 - SECOND, T0 + SECOND, fake.failover(outage_ms * MS))
    events = [begin, fake.end(T0 + SECOND, cause=fake.STOPPED)]
    cycle = measure(events, samples, OURS, settings=fake.settings(), stream=1)
    assert (cycle.outcome, cycle.cut_off) == (CycleOutcome.INVALID, cut_off)
    assert cycle.cause == fake.STOPPED
    assert cycle.recovery_s is None


def test_a_cycle_that_never_began() -> None:
    no_ip = Cause(kind=CauseKind.MACHINE, detail="no IP was free")
    end = fake.end(T0, cause=no_ip)
    cycle = measure([end], [], OURS, settings=fake.settings(), stream=1)
    assert cycle.outcome == CycleOutcome.INVALID
    assert (cycle.fault, cycle.t0_unix, cycle.cause) == ("recreate", 1e9 + 100, no_ip)
    with pytest.raises(ValueError, match="without an end"):
        measure([fake.begin()], [], OURS, settings=fake.settings(), stream=1)


def test_what_was_held_up_is_a_recovery_and_not_yet_a_fresh_one() -> None:
    """An old request gets through at 1 s, a fresh one at 1.5 s."""
    plain = fake.failover(1500 * MS)

    def answer(at_ns: int) -> tuple[int, Outcome, str]:
        return (T0 + SECOND - at_ns, Outcome.OK, NEW) if at_ns == T0 + 100 * MS else plain(at_ns)

    found = measured(
        fake.row(T0 - SECOND, T0 + 4 * SECOND, answer), T0 + 4 * SECOND, slow_after_ns=250 * MS
    )
    assert (found.recovery_s, found.fresh_recovery_s) == (1.0, 1.501)
    # Where every answer takes so long, that is the recovery.
    found = measured(
        fake.row(T0 - SECOND, T0 + 4 * SECOND, plain), T0 + 4 * SECOND, slow_after_ns=MS // 2
    )
    assert found.recovery_s == found.fresh_recovery_s == 1.501


def test_other_streams_do_not_count() -> None:
    mine = fake.row(T0 - SECOND, T0 + 3 * SECOND, fake.failover(500 * MS))
    other = [s._replace(stream=2, outcome=Outcome.GARBLED) for s in mine]
    assert measured(mine + other, T0 + SECOND) == measured(mine, T0 + SECOND)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([fake.sample(T0 + i * INTERVAL, 2 * MS, lag_ns=MS, who=NEW) for i in range(9)], None),
        ([], "no probe was sent"),
        (
            [fake.sample(T0 + i * INTERVAL, 30 * MS, lag_ns=11 * MS, who=NEW) for i in range(9)],
            "probes were sent late (1 % by more than 11.0 ms)",
        ),
        (  # as late, and yet the recovery of 0.9 s is known to a tenth
            [
                fake.sample(T0 + i * INTERVAL, 30 * MS, lag_ns=11 * MS, who=NEW if i > 88 else OLD)
                for i in range(99)
            ],
            None,
        ),
        (
            [fake.sample(T0, who=NEW), fake.sample(T0 + INTERVAL, 0, Outcome.DROPPED, "")],
            "1 of 2 probes could not be sent in time",
        ),
    ],
)
def test_poor_quality_is_said(samples, reason) -> None:
    assert words.reason(measured(samples, T0 + SECOND)) == reason


@pytest.mark.parametrize(
    ("outage_ms", "anomaly"),
    [(479, True), (480, False), (1009, False), (1020, False), (1030, True)],
)
def test_an_anomaly_lies_outside_of_the_band_by_more_than_the_error_bar(outage_ms, anomaly) -> None:
    # The band is 0.5 to 1.0 s and the error bar 10 ms of interval and 10 ms for what no model sees.
    answer = fake.sample(T0 + outage_ms * MS, 0, who=NEW)
    predicted = fake.reading(T0, "engine", "predicted", lower_s=0.5, mean_s=0.7, upper_s=1.0)
    events = fake.events(predicted, end_ns=T0 + 3 * SECOND)
    cycle = measure(events, [answer], OURS, settings=fake.settings(), stream=1)
    assert cycle.anomaly is anomaly
    assert cycle.predicted == Prediction(lower_s=0.5, mean_s=0.7, upper_s=1.0)


def test_a_censored_cycle_is_an_anomaly_once_it_is_longer_than_the_band() -> None:
    lost = [fake.sample(T0, MS, Outcome.REFUSED, "")]
    for upper_s, anomaly in ((1.0, True), (2.0, None)):
        predicted = fake.reading(T0, "engine", "predicted", lower_s=0, mean_s=0.5, upper_s=upper_s)
        events = fake.events(predicted, end_ns=T0 + 2 * SECOND)
        cycle = measure(events, lost, OURS, settings=fake.settings(), stream=1)
        assert cycle.anomaly is anomaly
