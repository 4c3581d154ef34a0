"""The errors of the estimators against outages that are known, and what they must come to."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import budget
import fake
import pytest
from fake import MS, SECOND, T0

from chaosd.analysis.calibration import SLACK_S, Accuracy, Outage, compare, outages
from chaosd.analysis.recovery import Identities, measure
from chaosd.history.cycles import Cycle
from chaosd.history.values import ANYBODY, Outcome, Sample


def line(cycle: int, text: str):
    return fake.reading(T0, "command", "line", cycle=cycle, text=text)


def begin(**data):
    none = dict.fromkeys(("old", "old_ip", "new", "new_ip"))
    begun = {"fault": "command", "control": False, "t0_unix": 1.0, **none, **data}
    return fake.reading(T0, "engine", "begin", **begun)


def test_the_truth_is_what_the_command_printed() -> None:
    said = [
        line(1, "away 5 refuse"), line(1, "back 9"), line(2, "away 7"), line(2, "hello away"),
        line(2, "back 8"), line(3, "away 7"), line(4, "back 9"), line(4, "away 10"),
        line(5, "away 1"), line(5, "back 2"), line(5, "away 3"), line(5, "back 4"),
    ]  # fmt: skip
    assert outages(said) == {1: Outage(5, 9, "refuse"), 2: Outage(7, 8, "")}


def known(rng: Random, interval_ns: int, *, dropped: bool = False) -> tuple[Cycle, Outage]:
    """One outage as ideal probes see it: those that come in it are bad, at once."""
    away_ns = T0 + 20 * MS + rng.randrange(SECOND // 5)
    back_ns = away_ns + rng.randrange(50 * MS, SECOND)
    samples = []
    for slot in range(T0 - SECOND // 10, back_ns + 6 * SECOND // 10, interval_ns):
        outcome = Outcome.REFUSED if away_ns <= slot < back_ns else Outcome.OK
        samples.append(Sample(1, slot, slot, slot + MS // 10, outcome, 200, ""))
    identities = Identities()
    identities.add(ANYBODY)
    end_ns = back_ns + SECOND
    events = [
        begin(),
        fake.reading(back_ns, "engine", "injected"),
        fake.reading(end_ns, "engine", "end", fault="command", unix=1.0, invalid=None),
    ]
    config = fake.settings(interval_ns=interval_ns, stable_for_ns=SECOND // 2)
    cycle = measure(events, samples, identities, settings=config, stream=1)
    return cycle, Outage(away_ns, back_ns, "refuse")


@pytest.mark.sized
@pytest.mark.parametrize("rate", [200, 500, 1000])
def test_ideal_probes_have_no_bias_and_are_wrong_by_less_than_an_interval(rate) -> None:
    """As docs/measuring.md works it out: an sd of I/√6, and a recovery that is I/2 too long."""
    interval_ns, rng = SECOND // rate, Random(rate)
    tried = budget.of(100, 400)
    found = [known(rng, interval_ns) for _ in range(tried)]
    errors = []
    for cycle, outage in found:
        errors += compare([cycle], {1: outage}, interval_s=1 / rate).errors
    assert len(errors) == tried
    gap = Accuracy.of([error.gap_s for error in errors])
    assert gap.worst_s < 1 / rate
    assert abs(gap.bias_s) < 0.1 / rate
    assert gap.sd_s == pytest.approx(1 / rate / math.sqrt(6), rel=2 / math.sqrt(tried))
    assert [error.loss_s for error in errors] == pytest.approx([error.gap_s for error in errors])
    recovery = Accuracy.of([error.recovery_s for error in errors])
    assert recovery.bias_s == pytest.approx(0.5 / rate + 0.0001, abs=1 / rate / math.sqrt(tried))
    assert min(error.recovery_s for error in errors) >= 0


def cycle(number: int, gap_s: float, poor: str | None = None) -> Cycle:
    return fake.cycle(
        cycle=number, t0_ns=0, recovery_s=1.5, outage_gap_s=gap_s, outage_loss_s=gap_s,
        resolution_s=0.002, doubt=fake.LATE if poor else None,
    )  # fmt: skip


def test_the_worst_one_decides_and_what_is_poor_does_not() -> None:
    truth = dict.fromkeys(range(1, 9), Outage(SECOND // 2, 3 * SECOND // 2, ""))
    good = [cycle(1, 1.001), cycle(2, 0.999)]
    assert compare(good, truth, interval_s=0.002).ok is True
    assert compare([*good, cycle(3, 1.0 + 0.002 + SLACK_S)], truth, interval_s=0.002).ok is False
    assert compare([*good, cycle(3, 9.0, "late")], truth, interval_s=0.002).ok is True
    many_poor = [cycle(number, 1.0, "late") for number in range(3, 7)]
    assert compare([*good, *many_poor], truth, interval_s=0.002).ok is None
    assert compare([], truth, interval_s=0.002).ok is None
    unknown = compare([*good, cycle(9, 1.0), cycle(10, 1.0)], truth, interval_s=0.002)
    assert (unknown.unmeasured, unknown.ok) == (2, True)
    assert [round(error.recovery_s, 6) for error in unknown.errors] == [0.0, 0.0]


# --- where nobody can tell the new instance ---


def seen(
    bad: list[tuple[int, int]],
    *,
    injected_ms: int | None = 100,
    until_ms: int = 5000,
    cause: Any = None,
):
    """A cycle with bad answers in these spans (ms after T0), a probe each 10 ms."""
    samples = []
    for slot_ms in range(-3000, until_ms, 10):
        slot = T0 + slot_ms * MS
        is_bad = any(a <= slot_ms < b for a, b in bad)
        outcome = Outcome.REFUSED if is_bad else Outcome.OK
        samples.append(Sample(1, slot, slot, slot + MS, outcome, 200, "whoever"))
    identities = Identities()
    identities.add(ANYBODY)
    events = [
        begin(),
        fake.end(T0 + until_ms * MS, cause=cause),
    ]
    if injected_ms is not None:
        events.append(fake.reading(T0 + injected_ms * MS, "engine", "injected"))
    return measure(events, samples, identities, settings=fake.settings(), stream=1)


def test_the_recovery_is_the_first_good_answer_after_a_bad_one() -> None:
    assert seen([(50, 200)]).recovery_s == pytest.approx(0.201)
    twice = seen([(50, 200), (600, 900)])
    assert twice.recovery_s == pytest.approx(0.201)
    assert twice.stable_recovery_s == pytest.approx(0.901)


def test_nothing_is_over_while_the_program_is_still_at_work() -> None:
    """A rolling restart, or a blip before the deed: the last outage is the one that counts."""
    rolling = seen([(1000, 1050), (3000, 3050), (5000, 9000)], injected_ms=9500, until_ms=12000)
    assert (rolling.recovery_s, rolling.stable_recovery_s) == (9.001, 9.001)
    assert rolling.outage_gap_s == pytest.approx(8.0)
    assert rolling.outage_loss_s == pytest.approx(4.1)
    after = seen([(100, 110), (2000, 5000), (5300, 5400)], injected_ms=5100, until_ms=8000)
    assert (after.recovery_s, after.stable_recovery_s) == (5.001, 5.401)


def test_what_was_stopped_before_anything_was_to_be_seen_says_nothing() -> None:
    for bad, cut_off in (([], False), ([(100, 9000)], True)):
        found = seen(bad, injected_ms=None, cause=fake.STOPPED)
        assert found.outcome == "invalid"
        assert found.cut_off is cut_off


def test_nothing_bad_is_no_outage_and_only_once_all_is_done() -> None:
    calm = seen([], injected_ms=700)
    assert (calm.outcome, calm.recovery_s, calm.outage_gap_s) == ("recovered", 0.0, 0.0)
    assert calm.samples == 170  # until a second after it was done
    # An outage that comes long after T0, while the program is still at work, is not missed.
    late = seen([(1800, 1900)], injected_ms=2000)
    assert late.recovery_s == pytest.approx(1.901)
    assert seen([], injected_ms=None).outcome == "censored"


def test_whoever_answers_is_the_app_only_where_it_says_so() -> None:
    identities = Identities()
    identities.add("app-1")
    assert "whoever" not in identities
    identities.add(ANYBODY)
    assert "whoever" in identities
    assert "" in identities
