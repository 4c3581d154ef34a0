"""Two runs compared: how often that is right, for samples whose truth is known."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Any

import budget
import fake
import pytest
from compared import LIMIT, MANIFEST, cycle, differs, longer, rows, uniform

from chaosd.analysis.compare import LOST, SHARES, Reason, ReasonKind, Side, compare
from chaosd.analysis.compare import _difference as difference
from chaosd.analysis.statistics import Estimate
from chaosd.analysis.summary import summarise
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.report import compare as files
from chaosd.report import json as report_json
from chaosd.report import words


def censored(limit_s: float = 30.0) -> Cycle:
    gone = dict.fromkeys(("recovery_s", "stable_recovery_s", "outage_gap_s"))
    end_ns = fake.T0 + round(limit_s * fake.SECOND)
    changes = {"outcome": CycleOutcome.CENSORED, "end_ns": end_ns}
    return fake.cycle(**changes, **gone, samples=3000, failed=3000, masked=0)


def side(cycles: Sequence[Cycle], **manifest: Any) -> Side:
    report = summarise("made", MANIFEST | LIMIT | manifest, cycles, (), {})
    said = json.loads(report_json.render(report, {}))
    return Side.of(said, said["total"])


@lru_cache
def pairs(start_s: float) -> list[tuple[Side, list[Cycle]]]:
    """Of a hundred cycles each."""
    random = Random(f"pairs {start_s}")
    return [
        (side(uniform(random, start_s)), uniform(random, start_s)) for _ in range(budget.of(3, 100))
    ]


def answers(start_s: float, change: Callable[[float], float]) -> Counter[str]:
    """In percent of the pairs, the second of each changed."""
    found: Counter[str] = Counter()
    for a, b in pairs(start_s):
        found[compare(a, side(longer(b, change))).answer] += 100 // len(pairs(start_s))
    return found


# configs/sim.yaml gives 0.2 to 1.2 s; an app that is slower to start 0.5 to 1.5 s.
@pytest.mark.sized
@pytest.mark.parametrize("start_s", [0.2, 0.5])
def test_runs_of_the_same_settings_are_the_same(start_s) -> None:
    assert answers(start_s, lambda s: s)["same"] >= 95


@pytest.mark.sized
@pytest.mark.parametrize("start_s", [0.2, 0.5])
def test_a_change_of_20_percent_is_found(start_s) -> None:
    mean = start_s + 0.5
    assert answers(start_s, lambda s: 1.2 * s)["worse"] >= 95
    assert answers(start_s, lambda s: s + 0.2 * mean)["worse"] >= 95
    assert answers(start_s, lambda s: s / 1.2)["better"] >= 95


def test_too_few_cycles_tell_nothing() -> None:
    random = Random(1)
    a, b = uniform(random, 0.2), uniform(random, 0.2)
    found = compare(side(a[:30]), side(b[:30]))
    assert found.answer == "unknown"
    (reason,) = found.reasons
    assert reason == Reason(kind=ReasonKind.WIDE, number="recovery p95", share=0.2)
    expected = "recovery p95 may differ by more than 20%: more cycles would tell"
    assert words.comparison(reason) == expected
    assert compare(side([]), side([])).answer == "unknown"  # by its doubts


# --- the intervals ---


def wilson(count: int, n: int) -> Estimate:
    z2, p = 1.959964**2, count / n
    middle = (2 * count + z2) / 2 / (n + z2)
    half = math.sqrt(z2) * math.sqrt(z2 + 4 * count * (1 - p)) / 2 / (n + z2)
    return Estimate(p, middle - half, middle + half)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17, 1998, 873-890, table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
    ],
)
def test_the_interval_of_a_difference_is_the_one_in_the_papers(one, other, low, high) -> None:
    found = difference(wilson(*other), wilson(*one), 0.0, 1.0)
    assert found.value == pytest.approx(one[0] / one[1] - other[0] / other[1])
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_missing_bound_leaves_that_side_open() -> None:
    a, b = Estimate(1.0, 0.9, None), Estimate(2.0, 1.8, 2.2)
    found = difference(a, b, 0.0, 1.0)
    assert (found.value, found.low) == (1.0, None)
    assert found.high == pytest.approx(1 + math.hypot(0.2, 0.1))
    found = difference(b, a, 0.0, 1.0)
    assert (found.low, found.high) == (pytest.approx(-1 - math.hypot(0.2, 0.1)), None)


def test_what_is_beyond_all_that_was_observed_differs_if_the_intervals_are_apart() -> None:
    a, beyond = Estimate(1.0, 0.9, 1.1), Estimate(None, 1.5, None, beyond=30.0)
    assert difference(a, beyond, 0.0, 1.0) == Estimate(None, pytest.approx(0.4), None)
    assert difference(beyond, a, 0.0, 1.0) == Estimate(None, None, pytest.approx(-0.4))
    overlapping = Estimate(None, 1.05, None, beyond=30.0)
    assert difference(a, overlapping, 0.0, 1.0) == Estimate(None, None, None)


def numbers(p95_low: float, p95: float, p95_high: float, resolution_s: float = 0.0) -> Side:
    """A run of which only the p95 is known."""
    unknown = Estimate(None, None, None)
    known = dict.fromkeys(["recovery p50", "recovery mean", *LOST, *SHARES], unknown)
    known |= {"recovery p95": Estimate(p95, p95_low, p95_high)}
    return Side(
        name="x",
        failovers=100,
        numbers=known,
        resolution_s=resolution_s,
        limit_s=30.0,
        stable_for_s=1.0,
        doubts=(),
        config={},
    )


@pytest.mark.parametrize(
    ("b", "answer"),
    [
        (numbers(1.00, 1.00, 1.00), "same"),
        (numbers(1.00, 1.04, 1.04), "same"),  # known, and too small to matter
        (numbers(1.06, 1.06, 1.06), "worse"),
        (numbers(0.94, 0.94, 0.94), "better"),
        (numbers(1.01, 1.04, 1.06), "worse"),
        (numbers(0.90, 1.00, 1.19), "same"),
        (numbers(0.90, 1.00, 1.21), "unknown"),
        (numbers(0.79, 1.00, 1.10), "unknown"),
    ],
)
def test_the_margin_and_the_tolerance(b, answer) -> None:
    assert compare(numbers(1.0, 1.0, 1.0), b).answer == answer


def test_what_the_meter_cannot_see_is_no_difference() -> None:
    a, b = numbers(1.0, 1.0, 1.0), numbers(1.1, 1.1, 1.1)
    assert compare(a, b).answer == "worse"
    coarse = (replace(a, resolution_s=0.11), replace(b, resolution_s=0.11))
    assert compare(*coarse).answer == "same"
    # A coarser meter measures longer recoveries: that much of it may be the meter's doing.
    b = numbers(1.3, 1.3, 1.3)
    assert compare(a, b).answer == "worse"
    assert compare(a, replace(b, resolution_s=0.31), margin=0.7).answer == "same"
    assert compare(a, replace(b, resolution_s=0.29), margin=0.7).answer == "worse"


def test_a_meter_that_is_too_coarse_can_not_say_the_same() -> None:
    a, b = numbers(0.49, 0.50, 0.51, 0.6), numbers(0.94, 0.95, 0.96, 0.6)
    found = compare(a, b)
    (reason,) = found.reasons
    assert (found.answer, reason.kind, reason.seconds) == ("unknown", ReasonKind.COARSE, 0.6)
    told = words.comparison(reason)
    assert told.endswith("by the probes, too coarsely: a higher rate would tell")
    assert compare(a, a).answer == "unknown"
    far = numbers(1.60, 1.70, 1.80, 0.6)
    assert compare(a, far).answer == "worse"
    assert compare(far, a).answer == "better"
    # One badly known recovery of a hundred makes no quantile coarse.
    some = [cycle(0.3 + place / 500) for place in range(100)]
    late = [*some[:50], replace(some[50], resolution_s=0.6), *some[51:]]
    slow = longer(late, lambda s: 1.9 * s)
    assert compare(side(late), side(slow)).answer == "worse"


def test_what_one_run_never_sees_and_the_other_always_is_a_difference() -> None:
    some = [cycle(0.3 + place / 500, failed=0) for place in range(100)]
    for name, found in (("misrouted", "any misrouted"), ("failed", "any failed")):
        spoilt = [replace(c, **{name: 3}) for c in some]
        assert compare(side(some), side(spoilt)).reasons == differs(found)
        assert compare(side(spoilt), side(some)).answer == "better"
        assert compare(side(some), side([*some[:97], *spoilt[:3]])).answer == "same"


def test_a_longer_look_is_no_better_proxy() -> None:
    """What is watched for longer after its recovery has more good requests, and fails as many."""
    random = Random(8)
    some = uniform(random, 0.2)
    longer_look = [replace(c, samples=c.samples + 900) for c in some]
    assert compare(side(some), side(longer_look)).answer == "same"
    # It may see more, if it is meant to be longer.
    seen = {"settings": LIMIT["settings"] | {"stable_for_ns": 10 * fake.SECOND}}
    found = compare(side(some), side(longer_look, **seen))
    assert rows(found)["any failed"] == "unknown"
    assert {row.name for row in found.rows if row.difference.value is None} == {
        *("failed", "misrouted", "any failed", "any misrouted")
    }
    # Who recovers sooner is watched for less long: as many lost requests are no worse.
    lost = [replace(c, failed=20) for c in some]
    sooner = [replace(c, failed=20) for c in longer(some, lambda s: s / 2)]
    found = compare(side(lost), side(sooner))
    assert found.reasons == differs("recovery p95", "recovery p50", "recovery mean")
    assert found.answer == "better"


def test_a_baseline_without_seconds_of_lost_requests_is_never_the_same() -> None:
    some = side(uniform(random := Random(8), 0.2))
    assert compare(some, some).answer == "same"
    nothing = Estimate(None, None, None)
    before = replace(some, numbers=some.numbers | dict.fromkeys(LOST, nothing))
    for a, b in ((before, some), (some, before)):
        found = compare(a, b)
        assert (found.answer, {reason.kind for reason in found.reasons}) == (
            "unknown",
            {ReasonKind.MISSING},
        )
        assert "does not say how many seconds of requests were failed" in words.comparison(
            found.reasons[0]
        )
    assert compare(before, before).answer == "same"
    slower = side(longer(uniform(random, 0.2), lambda s: 2 * s))
    assert compare(before, slower).answer == "worse"


def test_what_is_given_up_sooner_loses_no_fewer_requests() -> None:
    random = Random(9)
    some = uniform(random, 0.2)[:20]
    limit = {"settings": LIMIT["settings"] | {"recovery_limit_ns": 10 * fake.SECOND}}
    sooner = side([*some, *[replace(censored(10), failed=1000, samples=1000)] * 9], **limit)
    later = side([*some, *[censored(30)] * 9])

    def failed(a: Side, b: Side) -> float | None:
        (row,) = (row for row in compare(a, b).rows if row.name == "failed")
        return row.difference.value

    assert failed(sooner, later) is None
    assert failed(side(some), side(some, **limit)) == 0.0


def test_one_probe_more_is_within_the_error_bar() -> None:
    some = [replace(cycle(1.5), failed=3, interval_s=1.0, resolution_s=1.0) for _ in range(5)]
    more = [replace(c, failed=4) for c in some]
    assert compare(side(some), side(more)).answer == "unknown"


def test_recoveries_that_never_come_are_worse() -> None:
    a = [cycle(0.5 + place / 100) for place in range(100)]
    found = compare(side(a), side([*a[:80], *[censored()] * 20]))
    assert found.answer == "worse"
    assert rows(found)["censored"] == rows(found)["recovery p95"] == "worse"
    assert found.rows[0].b.beyond == 30.0
    text = "\n".join(files.lines(found))
    assert "unknown, > 30.0 s" in text
    # Given up at different times, they can't be counted against each other.
    limit = {"settings": {"recovery_limit_ns": 10 * fake.SECOND}}
    assert rows(compare(side(a), side([*a, *[censored(10)] * 9], **limit)))["censored"] == "unknown"


def test_a_poor_measurement_makes_everything_unknown() -> None:
    random = Random(2)
    a = uniform(random, 0.2)
    b = longer(a, lambda s: 2 * s)
    poor = [replace(c, doubt=fake.LATE) for c in b[::10]]
    found = compare(side(a), side([*b, *poor]))
    assert rows(found)["recovery p95"] == "worse"
    assert found.answer == "unknown"
    said = "10 of 110 cycles poor (at most 5 % may be)"
    assert found.reasons == (Reason(kind=ReasonKind.DOUBT, side="made", detail=said),)
    assert words.comparison(found.reasons[0]) == f"made: {said}"


def test_worse_outranks_better() -> None:
    random = Random(3)
    a = uniform(random, 0.2)
    quicker = [replace(c, misrouted=20) for c in longer(a, lambda s: s / 2)]
    found = compare(side(a), side(quicker))
    assert (rows(found)["recovery p95"], rows(found)["misrouted"]) == ("better", "worse")
    assert (found.answer, found.reasons) == ("worse", differs("misrouted", "any misrouted"))


def test_whoever_looks_at_many_numbers_asks_more_of_each() -> None:
    """One of eight decides; each of the others gets its part of what may be wrong in all."""
    a, b = side(uniform(Random(1), 0.2)), side(uniform(Random(2), 0.2))
    rows = {row.name: row for row in compare(a, b).rows}
    alone = {name: difference(rows[name].a, rows[name].b, 0.0, 1.0) for name in rows}

    def width(found: Estimate) -> float:
        return found.high - found.low

    assert width(rows["recovery p95"].difference) == width(alone["recovery p95"])
    for name in ("recovery p50", "recovery mean"):
        # The two-sided 95 % point of seven tests together, by that of one: 2.690 / 1.960.
        assert width(rows[name].difference) / width(alone[name]) == pytest.approx(1.3726, abs=0.001)


def test_a_coarser_meter_makes_every_difference_less_sure() -> None:
    a, b = numbers(0.9, 1.0, 1.1), numbers(0.9, 1.0, 1.1)
    for row in compare(a, b).rows[:1]:
        alike = row.difference
    for row in compare(a, replace(b, resolution_s=a.resolution_s + 0.05)).rows[:1]:
        apart = row.difference
    assert apart.low == pytest.approx(alike.low - 0.05)
    assert apart.high == pytest.approx(alike.high + 0.05)
