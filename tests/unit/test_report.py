"""From a run directory to its report; sentences and files exactly as people and programs read."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import fake
import pytest
from fake import IMPOSTER, INTERVAL, MS, NEW_IP, OLD_IP, SECOND
from hypothesis import given, settings, strategies
from recompute import recompute

from chaosd import report
from chaosd.analysis.recovery import Identities, RecoveryFold, measure
from chaosd.analysis.remarks import Remark, RemarkKind
from chaosd.analysis.reorder import Reorder
from chaosd.analysis.statistics import Estimate, Share
from chaosd.analysis.summary import Report, summarise
from chaosd.errors import Exit, MachineError
from chaosd.history.causes import Cause, CauseKind
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import AnyEvent, QueriesCounted
from chaosd.history.reader import RunReader
from chaosd.history.values import Address, Outcome, Sample
from chaosd.history.writer import RunStore
from chaosd.live.prometheus import PrometheusSink
from chaosd.report import analyse, closing_lines, exit_code, sentence, words, write
from chaosd.report.text import band, estimate, longest, percent, seconds

FEW = settings(derandomize=True, max_examples=15, deadline=None)
MANIFEST = {
    "chaosd": "0.1.0",
    "name": "made",
    "run": "abc234",
    "seed": 7,
    "cells": ["c1"],
    "settings": asdict(fake.settings()),
    "host": {"cpus": 2},
}

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


# --- a run, made as the engine makes one ---


class Made:
    """Drives the store and the fold as the engine does: batches come late and out of order."""

    def __init__(self, directory: Path) -> None:
        self.store = RunStore(directory, MANIFEST, "name: made\n", threads=False, chunk_samples=999)
        self.identities = Identities()
        self.reorder = Reorder()
        self.samples: list[Sample] = []
        self.events: list[AnyEvent] = []
        self.at_ns = 5 * SECOND
        self.number = 0
        self.old = "app-0"
        self.say(fake.stream())
        self.say(fake.stream(2, probe="direct", via="direct"))
        self.say(fake.instance(self.old, OLD_IP))

    def say(self, event: AnyEvent) -> None:
        self.identities.event(event)
        self.events.append(event)
        self.store.event(event)

    def cycle(self, outage_ns: int, answer=None, *, listening: bool = True) -> Cycle:
        """One failover, its samples delivered in the order of their ends."""
        self.number += 1
        number, t0_ns, new = self.number, self.at_ns, f"app-{self.number}"
        self.events.clear()
        self.say(fake.instance(new, NEW_IP, at_ns=t0_ns, cycle=number))
        self.say(fake.begin(t0_ns, cycle=number, old=self.old, new=new))
        self.say(fake.action(t0_ns, "stop", "asked", cycle=number, identity=self.old))

        def said(ms: int, source: str, what: str, **data) -> None:
            self.say(fake.reading(t0_ns + ms * MS, source, what, cycle=number, **data))

        said(1, "dns", "withdrawn")
        said(200, "dns", "published", ips=[NEW_IP])
        if listening:
            said(250, "app", "listening", identity=new)
        moved = {"server": "s1", "old": OLD_IP, "new": NEW_IP}
        said(outage_ns // MS, "proxy.log", "address_changed", **moved)
        answer = answer or fake.failover(outage_ns, t0_ns=t0_ns, old=self.old, new=new)
        config = fake.settings()
        stop_ns = t0_ns + outage_ns + 4 * SECOND
        rows = fake.row(self.at_ns - SECOND, stop_ns, answer, lag_ns=35_321)
        rows += fake.row(
            t0_ns + 270 * MS, t0_ns + SECOND, lambda _: (777_777, Outcome.OK, new), stream=2
        )
        rows.sort(key=lambda s: s.done_ns)
        fold = RecoveryFold(t0_ns, new, self.identities, config)
        end_ns = None
        while end_ns is None:
            batch, rows = rows[:40], rows[40:]
            self.store.samples(batch)
            self.store.tick()
            self.samples += batch
            for sample in batch:
                if sample.stream == 1:
                    self.reorder.push(sample)
            waiting = [s.scheduled_ns for s in rows if s.stream == 1]
            complete_ns = min(waiting, default=stop_ns)
            for sample in self.reorder.release(complete_ns):
                fold.add(sample)
            end_ns = fold.over_at_ns(complete_ns)
        self.store.samples(rows)  # what was already under way at the end
        self.store.tick()
        bounds = {"lower_s": 0.3, "mean_s": 0.8, "upper_s": 1.31}
        said(0, "engine", "predicted", **bounds)
        self.say(fake.end(end_ns, cycle=number))
        finished = measure(
            self.events, self.samples, self.identities, settings=config, stream=1, direct=2
        )
        self.store.cycle(finished)
        self.reorder, self.samples = Reorder(), []
        self.at_ns, self.old = stop_ns + 2 * SECOND, new
        return finished


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


# --- the report ---


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


# --- the verdict ---


def verdict(*cycles: Cycle, **manifest) -> tuple[str, tuple[str, ...]]:
    found = summarise("made", MANIFEST | {"end_unix": 1.0} | manifest, cycles, [], {})
    assert exit_code(found) == (Exit.OK if found.verdict == "ok" else Exit.UNKNOWN)
    assert list(map(words.remark, found.doubts)) == words.reasons(found)
    return found.verdict, tuple(words.reasons(found))


POOR = fake.cycle(doubt=fake.LATE)
INVALID = fake.cycle(outcome=CycleOutcome.INVALID, recovery_s=None, cause=fake.NOT_FRESH)
STOPPED = replace(INVALID, cause=fake.STOPPED)
CUT_OFF = replace(
    INVALID,
    end_ns=fake.T0 + 50_100 * MS,
    cause=fake.STOPPED,
    cut_off=True,
)
LONGER = "without a recovery: the quantiles count them as longer than that"
CENSORED = fake.cycle(
    outcome=CycleOutcome.CENSORED, recovery_s=None, stable_recovery_s=None, outage_gap_s=None
)

RESTART = fake.restart(phases={"replace_s": 1.0})


@pytest.mark.parametrize(
    ("cycles", "manifest", "reasons"),
    [
        ([fake.cycle()], {}, []),
        ([CENSORED], {}, []),
        ([], {}, ["cell c1: no valid cycle"]),
        ([INVALID], {}, ["cell c1: no valid cycle"]),
        ([fake.cycle()], {"cells": ["c1", "c2"]}, ["cell c2: no valid cycle"]),
        ([], {"cells": []}, ["no valid cycle"]),
        ([POOR], {}, ["1 of 1 cycle poor (at most 5 % may be)"]),
        ([fake.cycle()] * 2 + [POOR, INVALID], {}, []),  # one of each is allowed to any run
        ([fake.cycle()] * 38 + [POOR] * 2, {}, []),
        (
            [fake.cycle()] * 37 + [POOR] * 2,
            {},
            ["2 of 39 cycles poor (at most 5 % may be)"],
        ),
        ([fake.cycle()] * 38 + [INVALID] * 2, {}, []),
        (
            [fake.cycle()] * 37 + [INVALID] * 2,
            {},
            ["2 of 39 cycles invalid (at most 5 % may be)"],
        ),
        ([fake.cycle()] * 2 + [STOPPED, CUT_OFF], {}, []),
        ([CUT_OFF], {}, ["cell c1: no valid cycle"]),
        (
            [fake.cycle()] * 80
            + [replace(cycle, cell="c2") for cycle in (POOR, POOR, INVALID, INVALID, CENSORED)],
            {"cells": ["c1", "c2"]},
            [
                "cell c2: 2 of 3 cycles poor (at most 5 % may be)",
                "cell c2: 2 of 5 cycles invalid (at most 5 % may be)",
            ],
        ),
        (
            [fake.cycle()],
            {"exit": 70, "reason": "a bug of chaosd"},
            ["the run ended with an error: a bug of chaosd"],
        ),
        (
            [fake.cycle(outcome=CycleOutcome.CONTROL, recovery_s=None)],
            {},
            ["1 of 1 cycle of control without a good answer"],
        ),
        ([fake.cycle(outcome=CycleOutcome.CONTROL, recovery_s=0.001)], {}, []),
        # What a fault comes to must not drown among control cycles.
        (
            [INVALID, *[fake.cycle(outcome=CycleOutcome.CONTROL, fault="noop")] * 400],
            {},
            ["cell c1: fault recreate: no valid cycle"],
        ),
        (
            [INVALID] * 20 + [fake.cycle(outcome=CycleOutcome.CONTROL, fault="noop")] * 400,
            {},
            [
                "cell c1: fault recreate: no valid cycle",
            ],
        ),
        (
            [fake.cycle(outcome=CycleOutcome.CONTROL, fault="noop")] * 400
            + [INVALID, INVALID, fake.cycle()],
            {},
            ["cell c1: fault recreate: 2 of 3 cycles invalid (at most 5 % may be)"],
        ),
        ([STOPPED, fake.cycle(outcome=CycleOutcome.CONTROL, fault="noop")], {}, []),
        (
            [fake.cycle(), *[RESTART] * 3, replace(RESTART, recovery_s=None)],
            {},
            ["1 of 4 cycles at the same address without a recovery"],
        ),
        (
            [fake.cycle(fault="command", recovery_s=0.0)] * 8,
            {},
            [],
        ),
        ([fake.cycle(fault="command", recovery_s=0.0), fake.cycle(fault="command")], {}, []),
    ],
)
def test_unknown_outranks_ok_and_says_why(cycles, manifest, reasons) -> None:
    assert verdict(*cycles, **manifest) == ("unknown" if reasons else "ok", tuple(reasons))


@pytest.mark.parametrize(
    ("cycles", "notes"),
    [
        ([INVALID, INVALID], ["2 cycles invalid: not counted in any number"]),
        ([STOPPED], ["1 cycle cut off: not counted in any number"]),
        (
            [CUT_OFF],
            [f"1 cycle cut off after 50.1 s {LONGER}"],
        ),
        (
            [CUT_OFF, replace(CUT_OFF, end_ns=fake.T0 + SECOND), STOPPED, INVALID],
            [
                "1 cycle invalid: not counted in any number",
                f"2 cycles cut off, the longest after 50.1 s {LONGER}",
                "1 cycle cut off: not counted in any number",
            ],
        ),
    ],
)
def test_what_is_not_among_the_numbers_is_noted(cycles, notes) -> None:
    found = summarise("made", MANIFEST | {"end_unix": 1.0}, [fake.cycle(), *cycles], [], {})
    assert list(map(words.remark, found.notes)) == notes


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


def test_log_lines_of_others_are_noted(tmp_path) -> None:
    run = Made(tmp_path)
    for count in (1, 727):
        said = {"count": count, "sender": "127.0.0.1:4242"}
        run.say(fake.reading(run.at_ns, "proxy.log", "refused", cycle=0, **said))
    run.store.close()
    line = "727 log lines came from another sender than the proxy (127.0.0.1:4242) and were not "
    notes = list(map(words.remark, write(tmp_path).notes))
    assert f"cell c1: {line}believed" in notes
    assert "727 log lines" in (tmp_path / "report.md").read_text()


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


def test_censored_cycles_stay_in_the_quantiles() -> None:
    censored = replace(CENSORED, end_ns=fake.T0 + 30 * SECOND, outage_loss_s=29.0)
    found = summarise("made", MANIFEST, [fake.cycle()] * 3 + [censored] * 2, [], {}).total
    assert (found.recovery_s.n, found.recovery_s.censored) == (5, 2)
    assert found.recovery_s.p50.value == 1.043
    assert found.recovery_s.p90.value is found.recovery_s.max is None
    assert (found.recovery_s.p90.beyond, found.recovery_s.max_beyond) == (30.0, 30.0)
    assert estimate(found.recovery_s.p90) == "unknown, > 30.0 s [1.04–?]"
    assert longest(found.recovery_s) == "unknown, > 30.0 s"
    # What a cycle had lost when it was given up is not what it would have lost.
    assert (found.outage_loss_s.n, found.outage_loss_s.p90.beyond) == (5, 29.0)
    never_stable = fake.cycle(stable_recovery_s=None, end_ns=fake.T0 + 30 * SECOND)
    found = summarise("made", MANIFEST, [fake.cycle(), never_stable, censored], [], {}).total
    assert (found.recovery_s.censored, found.stable_recovery_s.censored) == (1, 2)
    # It takes `stable_for` to be called stable, so a later one could not have been seen.
    assert found.stable_recovery_s.p50.beyond == 29.0


def test_what_was_cut_off_by_a_stop_was_longer_than_that() -> None:
    """Else a daemon that is stopped now and then would forget its longest recoveries."""
    cut_off = replace(CUT_OFF, end_ns=fake.T0 + 1_500 * MS)
    cycles = [fake.cycle(recovery_s=second / 10) for second in range(1, 21)]
    found = summarise("made", MANIFEST, [*cycles, *[cut_off] * 5], [], {}).total
    plain = summarise("made", MANIFEST, cycles, [], {}).total
    assert (found.failovers, found.recovery_s.n, found.recovery_s.censored) == (20, 25, 5)
    assert (plain.recovery_s.p50.value, plain.recovery_s.p90.value) == (1.0, 1.8)
    assert (found.recovery_s.p50.value, found.recovery_s.p90.value) == (1.3, 1.9)


def test_an_outage_without_an_end_is_at_least_what_was_lost() -> None:
    """It answered for a moment, and then no more: the longest outages must not be left out."""
    short = [fake.cycle(outage_gap_s=0.5, outage_loss_s=0.5)] * 80
    relapsed = fake.cycle(
        recovery_s=0.6, stable_recovery_s=None, outage_gap_s=None, outage_loss_s=29.9,
        end_ns=fake.T0 + 30 * SECOND,
    )  # fmt: skip
    cut_off = replace(CUT_OFF, outage_loss_s=12.0)
    found = summarised(*short, *[relapsed] * 80, cut_off).total
    assert (found.outage_gap_s.n, found.outage_gap_s.censored) == (161, 81)
    assert found.outage_gap_s.p95.value is None
    assert found.outage_gap_s.p95.beyond == 29.9
    assert (found.outage_loss_s.n, found.outage_loss_s.censored) == (161, 1)


def test_a_share_is_shown_so_that_its_interval_is_seen() -> None:
    def shown(*numbers: float | None) -> str:
        return report.text.share(Estimate(*numbers))

    assert shown(0.84, 0.73, 0.925) == "84% [73%–92.5%]"
    assert shown(0.8399, 0.8391, 0.8407) == "83.99% [83.91%–84.07%]"
    assert shown(0.0, 0.0, 0.036) == "0% [0%–3.6%]"
    assert shown(0.5, None, None) == "50% [?–?]"
    assert report.text.in_band(
        Share(count=9_999, n=10_000, value=0.9999, low=0.9994, high=1.0)
    ) == ("9999 of 10000 recoveries within their band (95 % interval over 99.940%)")


def test_recoveries_that_are_alike_are_noted_with_what_it_means() -> None:
    """As where checks and polls keep their phase: docs/findings.md, 6."""
    locked = [fake.cycle(recovery_s=0.5 + 0.3 * (place // 10 % 2)) for place in range(60)]
    [note] = map(words.remark, summarised(*locked).notes)
    assert note.startswith("recreate: successive recoveries are alike (serial corr")
    assert note.endswith(" times as wide, or the run longer")
    # Two cells that are constant, each in its way, must not end the analysis.
    constant = [
        fake.cycle(cell=f"c{1 + place % 2}", recovery_s=1.0 + place % 2) for place in range(60)
    ]
    assert "serial correlation 1.00" in words.remark(summarised(*constant).notes[0])
    # Of two faults that take turns each is looked at by itself.
    turns = [
        fake.cycle(recovery_s=1.0 + 0.01 * (place % 7), fault=f"f{place % 2}")
        for place in range(60)
    ]
    assert summarised(*turns).notes == ()


def test_a_run_without_a_failover_has_a_report_too(tmp_path) -> None:
    RunStore(tmp_path / "run", MANIFEST, "").close()
    found = write(tmp_path / "run")
    assert found.verdict == "unknown"
    assert "No failover was measured." in (tmp_path / "run" / "report.md").read_text()
    assert closing_lines(found, tmp_path)[0] == "0 failovers"


def test_flapping_outages_are_noted() -> None:
    flapping = fake.cycle(outage_gap_s=0.9, outage_loss_s=0.7)
    found = summarise("made", MANIFEST | {"end_unix": 1.0}, [flapping, fake.cycle()], [], {})
    assert found.total.disagreeing == 1
    note = words.remark(found.notes[0])
    assert note.startswith("1 cycle of 2 had good answers between bad ones")
    assert note.endswith("(by 0.200 s at most)")
    quality = list(report.text.quality(found))
    assert "outage, first-to-last failure vs lost probes: agree in 1 of 2" in quality
    # To within twice the error bar they agree, and what could not be sent is no difference.
    bar = flapping.resolution_s
    near = fake.cycle(outage_gap_s=0.9, outage_loss_s=0.9 - 1.9 * bar)
    far = fake.cycle(outage_gap_s=0.9, outage_loss_s=0.9 - 2.1 * bar)
    unsent = fake.cycle(outage_gap_s=0.9, outage_loss_s=0.85, dropped=4)
    for cycle, flaps in ((near, 0), (far, 1), (unsent, 0)):
        assert summarised(cycle).total.disagreeing == flaps


def summarised(*cycles: Cycle) -> Report:
    return summarise("made", MANIFEST | {"end_unix": 1.0}, cycles, [], {})


def test_a_restart_with_requests_for_somebody_else_is_a_false_alarm() -> None:
    restart = fake.restart(phases={"replace_s": 1.0})
    silent = replace(restart, recovery_s=None, phases={})
    cycles = [fake.cycle(), *[restart] * 3, silent, replace(restart, misrouted=3)]
    found = summarised(*cycles)
    assert list(map(words.remark, found.notes)) == [
        (
            "3 requests were answered by another app (misrouted) in 5 cycles in which nobody else "
            "had its address"
        )
    ]
    again = found.total.restart
    assert (again.cycles, again.recovery_s.n, again.recovery_s.censored) == (5, 5, 1)
    assert again.wait_s.p50.value == pytest.approx(0.043)


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


def test_what_is_so_in_many_cells_is_said_once() -> None:
    none = [Remark(kind=RemarkKind.NO_CYCLE, cell=f"c{n}") for n in range(1, 61)]
    assert words.remarks(none) == ["60 cells (c1, c2, c3 and 57 more): no valid cycle"]
    assert words.remarks(none[:2]) == ["2 cells (c1, c2): no valid cycle"]
    assert words.remarks(none[:1]) == ["cell c1: no valid cycle"]
    poor = [Remark(kind=RemarkKind.POOR, cell=f"c{n}", count=n, total=99) for n in range(2, 62)]
    assert words.remarks([*none, *poor]) == [
        "60 cells (c1, c2, c3 and 57 more): no valid cycle",
        "cell c2: 2 of 99 cycles poor (at most 5 % may be)",
        "cell c3: 3 of 99 cycles poor (at most 5 % may be)",
        "cell c4: 4 of 99 cycles poor (at most 5 % may be)",
        "57 more cells: the like, with other numbers",
    ]


@pytest.mark.parametrize("kind", RemarkKind)
def test_no_kind_of_remark_fills_the_screen_however_many_cells_have_it(kind) -> None:
    found = [
        Remark(
            kind=kind,
            cell=f"c{n}",
            fault=f"f{n % 3}",
            count=n,
            total=2 * n,
            samples=n,
            detail=f"d{n}",
        )
        for n in range(1, 61)
    ]
    said = words.remarks(found)
    assert len(said) <= words.LIKE_MAX + 1, said
    # Each of the 60 is in one of the lines.
    counted = [int(line.split()[0]) for line in said if re.match(r"\d+ (more )?cells", line)]
    assert sum(counted) + sum(line.startswith("cell ") for line in said) == 60
