"""Objectives: when they are kept, broken, or not to be told; and how CI servers are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import fake
import pytest

from chaosd.analysis.slo import Objective, cycles_needed, verdict
from chaosd.analysis.statistics import Clusters
from chaosd.analysis.summary import Probe, Report, summarise
from chaosd.config.slo import Slo
from chaosd.errors import Exit
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.report import closing_lines, exit_code, junit, markdown, words

MANIFEST = {"cells": ["c1"], "start_unix": 1e9, "end_unix": 1e9 + 60}
CENSORED = fake.cycle(
    outcome=CycleOutcome.CENSORED,
    recovery_s=None,
    stable_recovery_s=None,
    outage_gap_s=None,
    end_ns=fake.T0 + 30 * fake.SECOND,
)
TIMES = ("recovery_s", "stable_recovery_s", "outage_gap_s")
POOR = {"doubt": fake.LATE}


def cycles(count: int, **changes: Any) -> list[Cycle]:
    """Recoveries, and outages, of 10 ms, 20 ms, 30 ms, …"""
    return [
        fake.cycle(**dict.fromkeys(TIMES, place / 100) | changes) for place in range(1, count + 1)
    ]


def probe(sent: int, bad: int) -> Probe:
    return Probe(
        cell="c1",
        probe="http",
        via="proxy",
        interval_s=0.01,
        sent=sent,
        outcomes={"ok": sent - bad},
        misrouted=0,
        masked=0,
        dropped=0,
        lag_p50_s=0.0,
        lag_p99_s=0.0,
        lag_max_s=0.0,
    )


def judged(
    some: list[Cycle], *, probes: tuple[Probe, ...] = (), lost: Sequence[int] = (), **slo: Any
) -> Report:
    """`lost` are the requests that were lost of 2,000 between one T0 and the next."""
    wanted = Slo.model_validate(slo).objectives()
    windows = Clusters()
    for count in lost:
        windows.add(count, 2_000)
    manifest = MANIFEST | {"slo": wanted}
    return summarise(
        "made", manifest, some, probes, {}, windows={"c1": windows} if windows else None
    )


def one(some: list[Cycle], **given: Any) -> Objective:
    (found,) = judged(some, **given).objectives
    return found


# Of 0.01 to 1.00 s, p95 is 0.95 s, from 0.90 to 1.00 s; each may be 10.1 ms less.
@pytest.mark.parametrize(
    ("target", "result"),
    [("1s", "ok"), ("999ms", "unknown"), ("890ms", "unknown"), ("889ms", "fail")],
)
def test_a_duration_is_judged_by_its_interval_and_error_bar(target, result) -> None:
    found = one(cycles(100), recovery_p95=target)
    assert (found.value, found.low, found.high, found.n) == (0.95, 0.9, 1.0, 100)
    assert found.result == result
    assert bool(words.objective(found)) == (result != "ok")


def test_an_outage_may_be_longer_than_measured() -> None:
    assert one(cycles(100), outage_p95="1s").result == "unknown"
    assert one(cycles(100), outage_p95="1011ms").result == "ok"


def test_too_few_cycles_have_no_upper_bound() -> None:
    found = one(cycles(71), recovery_p95="10s")
    assert (found.result, words.objective(found)) == ("unknown", "its upper bound takes 72 cycles")
    assert one(cycles(72), recovery_p95="10s").result == "ok"
    assert [cycles_needed(f"recovery_p{p}") for p in (50, 95, 99)] == [6, 72, 368]
    # What is far too long is so with few cycles too.
    assert one(cycles(71), recovery_p95="10ms").result == "fail"


def test_a_minimum_of_cycles_comes_before_anything_else() -> None:
    assert one(cycles(20), recovery_p50="10s").result == "ok"
    found = one(cycles(19), recovery_p50="10s")
    assert (found.result, words.objective(found)) == ("unknown", "too few cycles: 19 of 20")
    assert one(cycles(19), recovery_p50="1ms").result == "unknown"
    assert one(cycles(19), recovery_p50="10s", min_cycles=19).result == "ok"
    own = {"at_most": "10s", "min_cycles": 30}
    assert (
        words.objective(one(cycles(29), recovery_p50=own, min_cycles=5))
        == "too few cycles: 29 of 30"
    )


def test_what_was_not_observed_to_its_end_is_not_kept() -> None:
    found = one([*cycles(90), *[CENSORED] * 10], recovery_p95="60s")
    assert (found.value, found.beyond, found.result) == (None, 30.0, "unknown")
    assert words.objective(found) == "its upper bound is not known"
    assert one([*cycles(90), *[CENSORED] * 10], recovery_p95="800ms").result == "fail"
    assert one([*cycles(80), *[CENSORED] * 20], recovery_p95="29s").result == "fail"
    assert one([*cycles(90), *[CENSORED] * 10], recovery_p50="800ms").result == "ok"


@pytest.mark.parametrize(
    ("name", "spoilt"),
    [
        ("failed", {"failed": 200}),
        ("masked", {"masked": 200}),
        ("misrouted", {"misrouted": 200}),
    ],
)
def test_shares_of_requests(name, spoilt) -> None:
    clean = {"failed": 0, "masked": 0, "misrouted": 0, "samples": 400}
    good, bad = cycles(50, **clean), cycles(50, **(clean | spoilt))
    assert one(good, **{name: 0}).result == "ok"
    # One request in 50 cycles is too many where none is allowed, and few where some are.
    spot = [*good, fake.cycle(**(clean | {name: 1}))]
    assert one(spot, **{name: 0}).result == "fail"
    assert one(spot[-3:], **{name: 0}).result == "fail"
    assert one(spot, **{name: "1%"}).result == "ok"
    mixed = [*good, *bad]
    found = one(mixed, **{name: "25%"})
    assert (found.value, found.n, found.result) == (0.25, 100, "unknown")
    assert found.low < 0.25 < found.high
    assert one(mixed, **{name: "15%"}).result == "fail"
    assert one(mixed, **{name: "35%"}).result == "ok"


def test_what_could_not_be_sent_is_no_request() -> None:
    found = one(cycles(20, samples=400, dropped=200, failed=100, masked=0), failed="10%")
    assert (found.value, found.result) == (0.5, "fail")


def test_shares_of_cycles() -> None:
    some = [*cycles(95), *[replace(CENSORED, anomaly=None)] * 5]
    assert one(some, censored=0).result == "fail"
    found = one(some, censored="5%")  # of 1.6 to 11.3 %
    assert (found.value, found.result) == (0.05, "unknown")
    assert one(some, censored="12%").result == "ok"
    assert one(some, censored="1%").result == "fail"
    odd = [*cycles(95), *cycles(5, anomaly=True), *cycles(7, anomaly=None)]
    assert (one(odd, anomalies="5%").n, one(odd, anomalies="12%").result) == (100, "ok")
    assert one(odd, anomalies="1%").result == "fail"
    # Nothing seen is no more than its interval: 0 of 20 may be 17 %, 0 of 368 no more than 1 %.
    few = one(cycles(20), censored="1%")
    assert (few.result, few.high) == ("unknown", pytest.approx(0.168, abs=0.001))
    assert words.objective(few) == "nothing bad was seen, but it takes 368 cycles to be sure"
    assert one(cycles(367), censored="1%").result == "unknown"
    assert one(cycles(368), censored="1%").result == "ok"
    assert one(cycles(20), censored=0).result == "ok"  # no number of cycles would do
    unpredicted = one(cycles(50, anomaly=None), anomalies="5%")
    assert (unpredicted.result, unpredicted.n) == ("unknown", 0)


def test_availability_counts_all_requests_and_varies_from_one_t0_to_the_next() -> None:
    lost = [30] * 25 + [70] * 25  # of 2,000 each
    found = one(cycles(50), probes=(probe(100_000, 2_500),), lost=lost, availability="97%")
    assert (found.value, found.result, found.at_least) == (0.975, "ok", True)
    # They vary by 20 each. The spread: 2.01 * 20.2 * √50.
    assert 1 - found.low == pytest.approx(0.025 * 2.71828 ** (287 / 2500), rel=0.01)

    def result(target: str) -> str:
        return one(
            cycles(50), probes=(probe(100_000, 2_500),), lost=lost, availability=target
        ).result

    assert (result("97.5%"), result("98%")) == ("unknown", "fail")
    good = one(cycles(50), probes=(probe(100_000, 0),), lost=[0] * 50, availability="100%")
    assert good.result == "ok"
    assert words.objective(one(cycles(50), availability="100%")) == "nothing was counted"


@pytest.mark.parametrize("each", [0, 1])
def test_one_outage_between_clean_failovers_does_not_make_availability_sure(each) -> None:
    lost = [each] * 49 + [4_000]
    many = (probe(100_000, sum(lost)),)
    found = one(cycles(50), probes=many, lost=lost, availability="95%")
    assert found.value == pytest.approx(0.96, abs=0.001)
    assert found.result == "unknown"
    assert found.low < 0.8
    # Of what is not kept any more only the sum is known, and it may all have been lost at once.
    known = one(cycles(50), probes=many, lost=lost[:25], availability="95%")
    assert known.result == "unknown"
    assert one(cycles(50), probes=many, availability="95%").low is None


def test_availability_is_the_measuring_probes() -> None:
    """Of each cell, and whoever is misrouted was not answered well."""
    measuring = replace(probe(1000, 100), misrouted=50)
    others = (
        replace(probe(1000, 1000), probe="second"),
        replace(probe(1000, 1000), via="direct"),
        replace(probe(1000, 0), cell="c2"),
    )
    found = one(cycles(50), probes=(measuring, *others), availability="50%")
    assert found.value == 1850 / 2000


def test_every_objective_of_the_config_is_judged() -> None:
    """And each is kept by a run that is good in every way."""
    wanted = {
        name: "95%" if name == "availability" else "10s" if "_p" in name else "100%"
        for name in Slo.model_fields
        if name not in ("min_cycles", "faults")
    }
    found = judged(cycles(400), probes=(probe(1_000_000, 0),), lost=[0] * 100, **wanted)
    assert [o.name for o in found.objectives] == list(wanted)
    assert {o.result for o in found.objectives} == {"ok"}
    assert (found.verdict, tuple(words.reasons(found)), exit_code(found)) == ("ok", (), Exit.OK)
    assert "measurement good; all 15 objectives are kept" in markdown.render(found, {})


def test_a_fault_has_objectives_of_its_own() -> None:
    some = [*cycles(40, misrouted=0), *cycles(40, fault="imposter", misrouted=100)]
    assert one(cycles(30), min_cycles=30, faults={"recreate": {"misrouted": 0}}).min_cycles == 30
    wanted = {"recreate": {"misrouted": 0}, "imposter": {"misrouted": "50%", "min_cycles": 50}}
    found = judged(some, misrouted=0, faults=wanted)
    names = {o.name: (o.result, o.n) for o in found.objectives}
    assert names == {
        "misrouted": ("fail", 80),
        "recreate: misrouted": ("ok", 40),
        "imposter: misrouted": ("unknown", 40),
    }
    assert words.reasons(found)[-1] == "imposter: misrouted: too few cycles: 40 of 50"
    # One that never came is unknown, and no crash.
    (never,) = judged(some, faults={"noop": {"recovery_p95": "1s"}}).objectives
    assert (never.result, never.n) == ("unknown", 0)


# --- the verdict ---


@pytest.mark.parametrize(
    ("results", "doubts", "expected"),
    [
        ([], (), "ok"),
        (["ok", "ok"], (), "ok"),
        (["ok", "unknown"], (), "unknown"),
        (["ok", "unknown", "fail"], (), "fail"),
        (["ok"], ("poor",), "unknown"),
        (["fail"], ("poor",), "unknown"),
    ],
)
def test_the_verdict(results, doubts, expected) -> None:
    template = one(cycles(50), recovery_p50="10s")
    objectives = tuple(replace(template, result=result) for result in results)
    assert verdict(doubts, objectives) == expected


def test_a_broken_objective_fails_the_run_and_says_why() -> None:
    found = judged(cycles(100), recovery_p50="10s", recovery_p95="100ms")
    assert (found.verdict, exit_code(found)) == ("fail", Exit.FAIL)
    assert tuple(words.reasons(found)) == ("recovery_p95: all of its interval is above the target",)
    assert found.doubts == ()
    lines = closing_lines(found, Path("runs/x"))
    assert [line for line in lines if line.startswith(("slo", "verdict", "report"))] == [
        "slo: recovery_p50 ≤ 10s: ok, 0.50 s [0.40–0.61] (n 100)",
        (
            "slo: recovery_p95 ≤ 100ms: fail, 0.95 s [0.90–1.00] (n 100): all of its interval is "
            "above the target"
        ),
        "verdict: fail (recovery_p95: all of its interval is above the target)",
        "report: runs/x/report.html",
    ]


def test_a_poor_measurement_neither_keeps_nor_breaks_anything() -> None:
    some = [*cycles(100), *cycles(10, **POOR)]
    found = judged(some, recovery_p50="10s", recovery_p95="100ms")
    assert (found.verdict, exit_code(found)) == ("unknown", Exit.UNKNOWN)
    assert tuple(words.reasons(found)) == ("10 of 110 cycles poor (at most 5 % may be)",)
    assert [words.objective(objective) for objective in found.objectives] == [
        "seems kept; the measurement is too poor to tell",
        "seems broken; the measurement is too poor to tell",
    ]


# --- for CI servers ---


def test_junit_has_a_case_for_each_objective_and_for_the_measurement() -> None:
    found = judged(
        cycles(100), recovery_p50="10s", recovery_p95="100ms", recovery_p99="10s", failed="5%"
    )
    suite = ET.fromstring(junit.render(found))
    assert suite.attrib == {
        "name": "chaosd made",
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "0",
        "timestamp": "2001-09-09T01:46:40",
        "time": "60.000",
    }
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == [
        "measurement",
        "slo recovery_p50 ≤ 10s",
        "slo recovery_p95 ≤ 100ms",
        "slo recovery_p99 ≤ 10s",
        "slo failed ≤ 5%",
    ]
    assert len(cases["measurement"]) == 0
    assert cases["slo recovery_p50 ≤ 10s"].findtext("system-out").endswith("(n 100)")
    failure = cases["slo recovery_p95 ≤ 100ms"].find("failure")
    assert failure.get("message") == "all of its interval is above the target"
    assert failure.text.startswith("recovery_p95 ≤ 100ms: fail, 0.95 s [0.90–1.00] (n 100)")
    # Servers take what is skipped for passed, and nobody knows whether this is.
    error = cases["slo recovery_p99 ≤ 10s"].find("error")
    assert error.get("message") == "its upper bound takes 368 cycles"


def test_junit_says_that_the_measurement_was_poor() -> None:
    suite = ET.fromstring(junit.render(judged(cycles(100, **POOR), recovery_p50="10s")))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "2")
    assert "cycles poor" in suite[0].find("error").get("message")


def test_junit_is_xml_whatever_ended_the_run() -> None:
    manifest = {"exit": 3, "reason": "HAProxy said \x1b[31m<no> & \x00 \ud800"}
    text = junit.render(summarise("made \x07", manifest, cycles(3), [], {}))
    assert ET.fromstring(text.encode()).get("name") == r"chaosd made \x07"
    assert r"said \x1b[31m<no> & \x00" in ET.fromstring(text.encode())[0].find("error").get(
        "message"
    )


def test_each_duration_is_judged_by_its_own_number() -> None:
    some = cycles(100, stable_recovery_s=5.0, outage_gap_s=3.0)
    assert one(some, recovery_p50="2s").result == "ok"
    assert one(some, stable_recovery_p50="2s").result == "fail"
    assert one(some, outage_p50="2s").result == "fail"
    # A stable recovery is measured too long by its error bar, too.
    late = cycles(100, stable_recovery_s=5.0, resolution_s=0.5)
    assert one(late, stable_recovery_p50="4600ms").result == "unknown"
    found = one(late, stable_recovery_p50="4400ms")
    assert found.result == "fail"
    assert "error bar" in words.objective(one(late, stable_recovery_p50="4600ms"))


def test_an_outage_may_be_longer_by_what_is_not_known_of_it() -> None:
    """Five of 105 that look short and are known badly may be the longest of all."""
    some = [
        *(cycle for n in range(100) for cycle in cycles(1, outage_gap_s=0.3 + n / 500)),
        *cycles(5, outage_gap_s=0.31, resolution_s=0.4),
    ]
    assert one(some, outage_p95="550ms").result == "unknown"
    assert one(some[:100], outage_p95="550ms").result == "ok"


def test_of_several_cells_the_worst_ones_lag_is_told_as_that() -> None:
    def said(*lags_s: float) -> str:
        probes = [
            replace(probe(1000, 0), cell=f"c{number}", lag_p50_s=lag_s / 2, lag_p99_s=lag_s)
            for number, lag_s in enumerate(lags_s, start=1)
        ]
        lines = closing_lines(judged(cycles(3), probes=tuple(probes)), Path("runs/x"))
        return next(line for line in lines if line.startswith("probes:"))

    assert "schedule lag p50 1.0 ms, p99 2.0 ms; 0 of 3 cycles" in said(0.002)
    assert "schedule lag p50 1.0 ms, p99 2.0 ms in the worst cell; 0 of 3" in said(0.001, 0.002)


def test_what_is_broken_comes_before_what_is_unknown() -> None:
    found = judged(cycles(40, misrouted=5), recovery_p95="1s", misrouted=0)
    assert [o.result for o in found.objectives] == ["unknown", "fail"]
    line = "fail (misrouted: 200 of 17,240 where none should be; recovery_p95: its "
    assert f"verdict: {line}" in "\n".join(closing_lines(found, Path("runs/x")))
