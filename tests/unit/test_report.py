"""From a run directory to its report; sentences and files exactly as people and programs read."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fake
import pytest
from fake import IMPOSTER, INTERVAL, MS, SECOND
from hypothesis import given, strategies
from recompute import recompute
from reported import CUT_OFF, FEW, INVALID, LONGER, MANIFEST, Made, summarised

from chaosd import report
from chaosd.errors import Exit, MachineError
from chaosd.history.causes import Cause, CauseKind
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import AnyEvent, QueriesCounted
from chaosd.history.reader import RunReader
from chaosd.history.writer import RunStore
from chaosd.report import analyse, closing_lines, exit_code, words, write
from chaosd.report.text import percent


@FEW
@given(
    outages=strategies.lists(
        strategies.tuples(strategies.integers(0, 3_000_000), strategies.booleans()), max_size=5
    )
)
def test_online_is_offline(outages, tmp_path_factory) -> None:
    run = Made(directory := tmp_path_factory.mktemp("run"))
    cycles = [run.cycle(us * 1000, listening=told) for us, told in outages]
    run.store.tick()
    assert list(recompute(directory)) == list(RunReader(directory).cycles()) == cycles
    run.store.close()
    assert list(recompute(directory)) == cycles
    for (us, told), cycle in zip(outages, cycles, strict=True):
        assert cycle.recovery_s == pytest.approx(us / 1e6, abs=0.012)
        listening_s = 0.25 if told else 0.270778
        assert cycle.phases["replace_s"] == min(listening_s, cycle.recovery_s)


def test_a_cycle_that_was_cut_off_is_none(tmp_path) -> None:
    run = Made(tmp_path)
    first = run.cycle(500 * MS)
    run.say(fake.begin(run.at_ns, cycle=2))
    run.store.tick()
    assert list(recompute(tmp_path)) == [first]


@pytest.fixture
def directory(tmp_path) -> Path:
    """Six failovers, a control cycle, a skipped one, and a poor one."""
    run = Made(tmp_path / "made-1")
    cycles = [run.cycle(ms * MS) for ms in (300, 500, 700, 900, 1100, 1500)]
    run.say(fake.end(run.at_ns, cycle=7))
    run.store.cycle(
        replace(
            cycles[0],
            cycle=7,
            fault="noop",
            outcome=CycleOutcome.CONTROL,
            recovery_s=0.001,
            new_ip=None,
            anomaly=None,
        )
    )
    run.store.cycle(
        replace(
            cycles[0],
            cycle=8,
            outcome=CycleOutcome.SKIPPED,
            cause=Cause(kind=CauseKind.NOT_SETTLED, cycle=7),
        )
    )
    for at_s, count in ((10, 5), (70, 65), (130, 125)):
        run.say(fake.reading(at_s * SECOND, "dns", "queries", cycle=0, count=count))
    # Between the cycles somebody else answered, and one was late.
    run.store.samples([fake.sample(run.at_ns, who=IMPOSTER)])
    run.store.samples([fake.sample(run.at_ns + INTERVAL, 500 * MS, who=run.old)])
    run.store.close()
    run.store.update(end_unix=1e9 + 60, exit=0, reason="done")
    return tmp_path / "made-1"


def test_the_report_of_a_run(directory) -> None:
    found = write(directory)
    whole = found.total
    assert found.run == "made abc234"
    assert (found.verdict, tuple(words.reasons(found))) == ("ok", ())
    assert exit_code(found) == Exit.OK
    assert whole.outcomes == {
        "recovered": 6,
        "censored": 0,
        "poor": 0,
        "invalid": 0,
        "unaffected": 0,
        "skipped": 1,
        "control": 1,
    }
    assert (whole.recovery_s.n, whole.recovery_s.p50.value) == (6, 0.701)
    assert (whole.recovery_s.p50.low, whole.recovery_s.p50.high) == (0.301, 1.501)
    assert (whole.recovery_s.p95.value, whole.recovery_s.p95.high) == (1.501, None)
    assert (whole.recovery_s.max, whole.control_s.p50.value) == (1.501, 0.001)
    assert whole.failed == (300 + 500 + 700 + 900 + 1100 + 1500) // 10
    # Five of six are within 0.30 to 1.31 s and the error bar.
    assert (whole.in_band.count, whole.in_band.n) == (5, 6)
    assert whole.phases["discover"].n == 6
    shares = [phase.share for phase in whole.phases.values() if phase.share is not None]
    assert sum(shares) + whole.phases_unknown_share == pytest.approx(1)
    assert found.queries["c1"].count == 125
    assert found.queries["c1"].per_second == 1
    assert list(found.faults["c1"]) == ["recreate", "noop"]
    http, direct = found.probes
    assert (http.via, direct.via) == ("proxy", "direct")
    assert (http.misrouted, http.masked, http.dropped) == (1, 1, 0)
    assert (http.lag_p50_s, http.lag_p99_s) == (0.000035, 0.000035)
    assert http.sent == http.outcomes["ok"] + http.outcomes["refused"]
    assert http.outcomes["refused"] >= whole.failed


ALARM = (
    "1 of 1 cycle of control had 30 failed of 131 requests, though nothing was taken away: the "
    "fault does not explain that many"
)


def test_the_closing_lines(directory) -> None:
    assert closing_lines(write(directory), directory) == [
        "6 failovers (and 1 control, 1 skipped)",
        (
            "recovery: p50 0.70 s [0.30–1.50], p95 1.50 s [0.90–?], longest 1.50 s (n 6, 95 % "
            "intervals; resolution 10 ms)"
        ),
        "where the seconds went: discover 70%, replace 30%",
        (
            "predicted: 5 of 6 recoveries within their band (95 % interval 36%–100%); +29 ms "
            "[-424 to +483] mean residual"
        ),
        "requests during failovers: 1,106; 500 failed, 0 masked, 0 misrouted",
        "availability: 86% [76%–91.3%] of all requests of the run",
        (
            "probes: 3,502 sent, 0 not sent in time; schedule lag p50 35 µs, p99 35 µs; 0 of 7 "
            "cycles poor"
        ),
        "outage, first-to-last failure vs lost probes: agree in 6 of 6",
        "control: an undisturbed cycle's recovery is 1.0 ms [?–?]; false alarms in 1 of 1",
        "note: 1 cycle outside of the predicted band: anomalies",
        "note: 1 cycle skipped: the cycle before had not settled",
        f"note: {ALARM}",
        "verdict: ok (measurement good; no objectives set)",
        f"report: {directory / 'report.html'}",
    ]


def test_report_json_is_for_programs(directory) -> None:
    write(directory)
    value = json.loads((directory / "report.json").read_text())
    assert list(value) == [
        "version",
        "run",
        "verdict",
        "reasons",
        "doubts",
        "notes",
        "remarks",
        "objectives",
        "availability",
        "total",
        "cells",
        "faults",
        "probes",
        "arms",
        "manifest",
        "config",
    ]
    total = value["total"]
    assert total["recovery_s"]["p50"] == {
        "value": 0.701,
        "low": 0.301,
        "high": 1.501,
        "beyond": None,
    }
    assert total["recovery_s"]["n"] == total["failovers"] == 6
    assert total["cycles"] == 8
    assert set(total["phases"]["discover"]) == {"n", "mean_s", "share"}
    cell = value["cells"]["c1"]
    assert cell["recovery_s"] == total["recovery_s"] == cell["faults"]["recreate"]["recovery_s"]
    assert cell["faults"]["noop"]["outcomes"]["control"] == 1
    assert value["faults"] == cell["faults"]
    assert cell["dns_queries"] == {"count": 125, "per_second": 1.0}
    assert value["probes"][0]["misrouted"] == 1
    assert value["manifest"]["seed"] == 7


def test_report_md_stands_alone(directory) -> None:
    (directory / "plan.txt").write_text("recreate every 6s\nrecreate: no prediction: it is odd\n")
    write(directory)
    text = (directory / "report.md").read_text()
    first, verdict = text.split("\n\n")[1:3]
    assert first.startswith("In 6 failovers the new instance gave its first good answer after 0.70")
    assert "got no good answer" in first
    assert first.endswith("no objectives are set.")
    assert verdict.startswith("* verdict: **ok**: measurement good; no objectives set\n* 6 failov")
    assert "## What was run\n\n```\nrecreate every 6s\nrecreate: no prediction: it is" in text
    assert " = longest | = longest | = longest | " in text  # of 6, p90 to p99 are no more
    for title in (
        "Recovery",
        "Where the seconds went",
        "What users saw",
        "How good these numbers are",
        "How to read this",
        "Settings",
    ):
        assert f"\n## {title}\n" in text
    assert "| c1 recreate | 6 | 0.70 s [0.30–1.50] |" in text
    assert "noop" not in text  # a control cycle is no row of failovers
    assert "| discover | 6 | 0.58 s | 70% |" in text
    assert "* c1: 125 DNS queries from the proxy, 1.00/s" in text
    assert "`config.yaml`:\n\n```\nname: made\n```" in text
    assert "| ended | 2001-09-09 01:47:40 UTC: done |" in text
    # Every table is whole: as many cells in each row as in its head.
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1


def test_writing_again_changes_nothing(directory) -> None:
    write(directory)
    before = {p.name: p.read_bytes() for p in directory.iterdir()}
    write(directory)
    assert {p.name: p.read_bytes() for p in directory.iterdir()} == before


def test_what_is_left_of_a_killed_run_is_reported(directory) -> None:
    manifest = json.loads((directory / "run.json").read_text())
    for key in ("end_unix", "exit", "reason"):
        del manifest[key]
    (directory / "run.json").write_text(json.dumps(manifest))
    lines = (directory / "cycles.jsonl").read_bytes()
    (directory / "cycles.jsonl").write_bytes(lines[: lines.rindex(b"{") + 20])
    found = write(directory)
    assert found.total.failovers == 6
    assert found.verdict == "ok"
    assert tuple(map(words.remark, found.notes)) == (
        "the run has not ended by itself: this is what was stored until now",
        "1 cycle outside of the predicted band: anomalies",
        ALARM,
    )


def test_a_run_of_invalid_cycles_only_reads_well(tmp_path) -> None:
    run = Made(tmp_path)
    run.store.samples([fake.sample(run.at_ns)])
    for cycle in (INVALID, INVALID, CUT_OFF):
        run.say(fake.end(run.at_ns, cycle=cycle.cycle))
        run.store.cycle(replace(cycle, samples=0))
    run.store.close()
    run.store.update(end_unix=1.0, exit=4, reason="done")
    found = write(tmp_path)
    assert closing_lines(found, tmp_path)[:-1] == [
        "0 failovers (and 3 invalid)",
        "probes: 1 sent, 0 not sent in time; schedule lag p50 0 s, p99 0 s",
        "note: 2 cycles invalid: not counted in any number",
        f"note: 1 cycle cut off after 50.1 s {LONGER}",
        "verdict: unknown (cell c1: no valid cycle)",
    ]
    text = (tmp_path / "report.md").read_text()
    assert text.count("No failover was measured.") == 3
    for clumsy in (" 0 of 0 ", ": unknown", "| unknown | – |", "\n\n\n"):
        assert clumsy not in text, clumsy


def test_the_nameservers_counts_are_folded_while_they_are_read(tmp_path, monkeypatch) -> None:
    RunStore(tmp_path, MANIFEST, "").close()
    alive = []

    def events(*_: object, **__: object) -> Iterator[AnyEvent]:
        for second in range(1000):
            yield fake.reading(second * SECOND, "dns", "queries", cycle=0, count=7 + 2 * second)
        gc.collect()
        alive.append(sum(isinstance(o, QueriesCounted) for o in gc.get_objects()))

    monkeypatch.setattr(RunReader, "events", events)
    found = analyse(tmp_path).report.queries["c1"]
    assert (found.count, found.per_second) == (2005, 2.0)
    assert alive[0] < 10


def test_a_run_without_a_failover_has_a_report_too(tmp_path) -> None:
    RunStore(tmp_path / "run", MANIFEST, "").close()
    found = write(tmp_path / "run")
    assert found.verdict == "unknown"
    assert "No failover was measured." in (tmp_path / "run" / "report.md").read_text()
    assert closing_lines(found, tmp_path)[0] == "0 failovers"


def test_the_floor_of_the_meter_is_said() -> None:
    control = fake.cycle(outcome=CycleOutcome.CONTROL, recovery_s=0.01, masked=0)
    alarm = replace(control, failed=2, dropped=1)
    short = [fake.cycle(recovery_s=0.01 * (1 + place * 11 % 29)) for place in range(29)]

    def notes(*cycles: Cycle) -> list[str]:
        found = summarised(*cycles)
        assert found.total.control.cycles == sum(c.outcome == "control" for c in cycles)
        return list(map(words.remark, found.notes))

    assert notes(fake.cycle(), *[control] * 3) == []
    assert notes(*short, *[control] * 3) == []
    assert notes(fake.cycle(), alarm, *[control] * 3) == [
        (
            "1 of 4 cycles of control had 2 failed, 1 not sent of 1,724 requests, though nothing "
            "was taken away: the fault does not explain that many"
        )
    ]
    (said,) = notes(*short, replace(control, recovery_s=0.2))
    assert said.startswith("the median recovery is no longer than control cycles take (up to 0")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (0.0, "0%"),
        (1.0, "100%"),
        (0.39, "39%"),
        (0.05, "5.0%"),
        (0.00123, "0.12%"),
        (0.99953, "99.953%"),
        (1e-9, "0.00000%"),
        (None, "unknown"),
    ],
)
def test_shares_are_told_to_two_places(part, said) -> None:
    assert percent(part) == said


@pytest.mark.slow
def test_ten_thousand_cycles_take_seconds(tmp_path) -> None:
    run = RunStore(tmp_path, MANIFEST, "", threads=False)
    for number in range(10_000):
        run.cycle(fake.cycle(cycle=number, recovery_s=1 + number / 1e4))
    run.close()
    found = analyse(tmp_path).report
    assert found.total.recovery_s.p50.value == 1.4999
    assert found.total.recovery_s.p50.low == pytest.approx(1.49, abs=1e-3)


def test_a_directory_that_is_no_run(tmp_path) -> None:
    with pytest.raises(MachineError, match="not a run directory"):
        report.write(tmp_path)
