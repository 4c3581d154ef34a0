"""What is said of a cycle in its line."""

from __future__ import annotations

from dataclasses import replace

import fake
import pytest
from fake import IMPOSTER, MS, OLD_IP, SECOND
from hypothesis import given, strategies
from reported import FEW, MANIFEST

from chaosd.history.causes import Cause, CauseKind
from chaosd.history.cycles import CycleOutcome
from chaosd.history.values import Address, Outcome
from chaosd.history.writer import RunStore
from chaosd.live.prometheus import PrometheusSink
from chaosd.report import analyse, sentence
from chaosd.report.text import band, seconds

# --- sentences ---


def test_the_sentence_of_the_design() -> None:
    assert sentence(fake.cycle()) == (
        "cycle 12: app moved 127.64.0.5 → 127.64.0.6, recovered in 1.043 s (predicted 0.30–1.31 s)"
        ": discover 0.98 s; 0 of 431 requests failed, 104 masked, 0 misrouted"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"predicted": None, "phases": dict.fromkeys(fake.cycle().phases), "anomaly": None},
            (
                "app moved A → B, recovered in 1.043 s; 0 of 431 requests failed, 104 masked, "
                "0 misrouted"
            ),
        ),
        (
            {
                "recovery_s": 0.0421,
                "stable_recovery_s": 3.2,
                "anomaly": True,
                "phases": {"replace_s": None, "discover_s": 0.004, "serve_s": 0.038},
                "predicted": replace(fake.cycle().predicted, lower_s=0.001, upper_s=0.02),
            },
            (
                "app moved A → B, recovered in 42.1 ms, stable after 3.200 s (predicted 1.0–20.0 ms"
                ", outside of it): serve 38 ms; 0 of 431 requests failed, 104 masked, 0 misrouted"
            ),
        ),
        (
            {
                "recovery_s": 12.3456,
                "stable_recovery_s": None,
                "failed": 5,
                "misrouted": 2,
                "dropped": 3,
                "doubt": fake.LATE,
                "phases": {"replace_s": 2.0, "discover_s": 10.0, "serve_s": 0.3456},
                "predicted": None,
            },
            (
                "app moved A → B, recovered in 12.35 s, not known to be stable: replace 2.00 s, "
                "discover 10.0 s; 5 of 431 requests failed, 104 masked, 2 misrouted, 3 not sent; "
                "poor: probes were sent late (1 % by more than 20.0 ms)"
            ),
        ),
        (
            {
                "outcome": CycleOutcome.CENSORED,
                "end_ns": fake.T0 + 30 * SECOND,
                "recovery_s": None,
                "stable_recovery_s": None,
                "failed": 431,
                "masked": 0,
                "phases": {"replace_s": 0.25, "publish_s": 0.0, "discover_s": None},
            },
            (
                "app moved A → B, not recovered within 30 s (predicted 0.30–1.31 s): replace 0.25 s"
                "; 431 of 431 requests failed, 0 masked, 0 misrouted"
            ),
        ),
        (
            {"outcome": CycleOutcome.INVALID, "cause": fake.NOT_FRESH},
            "recreate invalid, 127.64.0.6 is not a fresh IP: it was in use lately",
        ),
        (
            {"outcome": CycleOutcome.SKIPPED, "cause": Cause(kind=CauseKind.NOT_SETTLED, cycle=11)},
            "recreate skipped, cycle 11 had not settled",
        ),
        (
            {
                "outcome": CycleOutcome.CONTROL,
                "recovery_s": 0.00123,
                "masked": 0,
            },
            (
                "control, nothing was taken away: answered after 1.23 ms; 0 of 431 requests failed"
                ", 0 masked, 0 misrouted"
            ),
        ),
        (
            {"outcome": CycleOutcome.CONTROL, "recovery_s": None, "failed": 431, "masked": 0},
            (
                "control, nothing was taken away: never answered; 431 of 431 requests failed, "
                "0 masked, 0 misrouted"
            ),
        ),
        (
            {
                "outcome": CycleOutcome.CONTROL,
                "recovery_s": 0.226,
                "new_ip": "A",
                "phases": {"replace_s": 0.22, "discover_s": 0.0, "serve_s": 0.006},
            },
            (
                "control, app restarted at A: answered after 0.226 s (replace 0.22 s); "
                "0 of 431 requests failed, 104 masked, 0 misrouted"
            ),
        ),
        (
            {"old_ip": None, "predicted": None, "phases": {}},
            (
                "app came up at B, recovered in 1.043 s; 0 of 431 requests failed, 104 masked, "
                "0 misrouted"
            ),
        ),
    ],
)
def test_sentences(changes, expected) -> None:
    ips = {} if changes.get("outcome") == CycleOutcome.CONTROL else {"old_ip": "A", "new_ip": "B"}
    changed = ips | changes
    assert sentence(fake.cycle(**changed)) == f"cycle 12: {expected}"


def test_wide_runs_name_the_cell() -> None:
    assert sentence(fake.cycle(), wide=True) == f"c1 {sentence(fake.cycle())}"


@pytest.mark.parametrize(
    ("value_s", "two", "three"),
    [
        (None, "unknown", "unknown"),
        (0.0, "0 s", "0 s"),
        (0.0000401, "40 µs", "40.1 µs"),
        (0.00421, "4.2 ms", "4.21 ms"),
        (0.0431, "43 ms", "43.1 ms"),
        (0.312, "0.31 s", "0.312 s"),
        (1.0434, "1.04 s", "1.043 s"),
        (12.345, "12.3 s", "12.35 s"),
        (312.44, "312 s", "312.4 s"),
        (float("inf"), "beyond the limit", "beyond the limit"),
    ],
)
def test_durations_are_told_in_the_unit_that_suits_them(value_s, two, three) -> None:
    assert (seconds(value_s), seconds(value_s, 3)) == (two, three)


def test_bands() -> None:
    assert band(0.3, 1.31) == "0.30–1.31 s"
    assert band(0.001, 0.0204) == "1.0–20.4 ms"


@FEW
@given(data=strategies.data())
def test_the_metrics_page_and_the_report_count_alike(data, tmp_path_factory) -> None:
    """Over all probes, in cycles and between them. The page listens on a free loopback port."""
    directory = tmp_path_factory.mktemp("run")
    store = RunStore(directory, MANIFEST, "", threads=False, chunk_samples=50)
    page = PrometheusSink(
        Address("127.0.0.1", 0),
        cells={"c1": "main"},
        faults=[],
        slow_after_ns=fake.settings().slow_after_ns,
        run={},
        build={},
    )
    took_ms = strategies.sampled_from([0, 1, 99, 100, 101, 500])
    samples = [
        fake.sample(
            place * MS,
            data.draw(took_ms) * MS,
            data.draw(strategies.sampled_from([Outcome.OK, *Outcome])),
            data.draw(strategies.sampled_from([fake.OLD, IMPOSTER])),
            lag_ns=data.draw(took_ms) * MS,
            stream=1 + place % 2,
        )
        for place in range(data.draw(strategies.integers(0, 120)))
    ]
    try:
        for sink in (store, page):
            sink.event(fake.stream())
            sink.event(fake.stream(2, probe="direct", via="direct"))
            sink.event(fake.instance(fake.OLD, OLD_IP))
            sink.samples(samples)
            sink.tick()
        found = {
            (one.name.removeprefix("chaosd_"), one.labels["probe"], one.labels.get("outcome")): one
            for family in page.registry.collect()
            for one in family.samples
            if "probe" in one.labels
        }
    finally:
        page.close()
    for probe in analyse(directory).report.probes:
        mine = [s for s in samples if s.stream == (1 if probe.via == "proxy" else 2)]
        lags = sorted(s.sent_ns - s.scheduled_ns for s in mine if s.outcome != Outcome.DROPPED)
        assert probe.sent == len(lags)
        assert probe.lag_max_s == (lags[-1] / 1e9 if lags else None)
        for outcome, count in probe.outcomes.items():
            assert found["probe_requests_total", probe.probe, outcome].value == count
        for name, count in (
            ("misrouted_requests_total", probe.misrouted),
            ("masked_requests_total", probe.masked),
            ("probe_dropped_total", probe.dropped),
        ):
            assert found[name, probe.probe, None].value == count
    store.close()
