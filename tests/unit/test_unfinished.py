"""A run directory that is being written, or was cut off: what is read of it is true even so."""

from __future__ import annotations

import json
from dataclasses import asdict

import fake
import pytest
from fake import INTERVAL, MS, NEW, OLD, SECOND, T0

from chaosd.analysis.samples import KINDS
from chaosd.errors import MachineError
from chaosd.history.cycles import CycleOutcome
from chaosd.history.reader import RunReader
from chaosd.history.retention import Retention
from chaosd.history.values import ANYBODY, Outcome
from chaosd.history.writer import RunStore
from chaosd.report import analyse, words, write

MANIFEST = {"name": "n", "run": "r", "cells": ["c1"], "settings": asdict(fake.settings())}


class Run:
    """A run that goes on: an app, a stream, and what is said."""

    def __init__(self, directory, *, identity: str = OLD, manifest=MANIFEST, **options) -> None:
        self.directory = directory
        self.store = RunStore(directory, manifest, "", threads=False, **options)
        self.store.event(fake.stream())
        self.store.event(fake.instance(identity, fake.OLD_IP))

    def ask(self, from_ns: int, to_ns: int, outcome=Outcome.OK, who: str = OLD) -> None:
        answer = MS, outcome, who if outcome == Outcome.OK else ""
        self.store.samples(fake.row(from_ns, to_ns, lambda _: answer))
        self.store.tick()


def test_where_nobody_says_who_answers_all_good_answers_are_the_apps(tmp_path) -> None:
    run = Run(tmp_path, identity=ANYBODY)
    run.ask(T0 - SECOND, T0, who="")
    run.ask(T0, T0 + SECOND, Outcome.REFUSED)
    run.ask(T0 + SECOND, T0 + 3 * SECOND, who="whoever")
    run.store.cycle(fake.cycle(cycle=1, t0_ns=T0, end_ns=T0 + 3 * SECOND, recovery_s=1.0))
    run.store.close()
    found = analyse(tmp_path)
    [probe] = found.report.probes
    assert (probe.misrouted, probe.outcomes["ok"]) == (0, 300)
    assert found.report.availability.value == 0.75
    counts = dict(zip(KINDS, found.heats[""].counts.sum(axis=(0, 1)), strict=True))
    assert counts["misrouted"] == counts["dropped"] == 0
    assert counts["failed"] == 100


def test_a_cycle_that_was_going_on_when_it_was_killed_has_taken_longer(tmp_path) -> None:
    run = Run(tmp_path)
    run.ask(T0 - SECOND, T0)
    run.store.event(fake.instance(NEW, fake.NEW_IP, at_ns=T0, cycle=7))
    run.store.event(fake.begin(T0, cycle=7))
    run.ask(T0, T0 + 29 * SECOND, Outcome.REFUSED)
    found = write(tmp_path)  # nothing was closed
    whole = found.total
    assert (whole.outcomes["invalid"], whole.cut_off) == (1, 1)
    assert whole.recovery_s.censored == whole.outage_gap_s.censored == 1
    assert whole.recovery_s.max_beyond == pytest.approx(29, abs=0.02)
    assert "1 cycle cut off after 29.0 s without a recovery" in " ".join(
        map(words.remark, found.notes)
    )
    assert (tmp_path / "cycles.jsonl").read_text() == ""  # which is the run's own, and not ours


def test_one_that_had_recovered_is_only_not_counted(tmp_path) -> None:
    run = Run(tmp_path)
    run.ask(T0 - SECOND, T0)
    run.store.event(fake.instance(NEW, fake.NEW_IP, at_ns=T0, cycle=1))
    run.store.event(fake.begin(T0, cycle=1))
    run.ask(T0, T0 + SECOND, Outcome.REFUSED)
    run.ask(T0 + SECOND, T0 + SECOND + 30 * INTERVAL, who=NEW)
    found = analyse(tmp_path).report
    assert (found.total.stopped, found.total.cut_off) == (1, 0)
    assert found.total.recovery_s.n == 0
    # And one of which nothing is known at all is none.
    run.store.event(fake.begin(T0 + 60 * SECOND, cycle=2))
    assert analyse(tmp_path).report.total.outcomes["invalid"] == 1


@pytest.mark.parametrize("ended", [True, False])
def test_one_that_was_over_and_not_written_down_yet_is_measured(tmp_path, ended) -> None:
    """Killed between its end and its line: all of it had been seen, and was stored."""
    run = Run(tmp_path)
    run.ask(T0 - SECOND, T0)
    run.store.event(fake.instance(NEW, fake.NEW_IP, at_ns=T0, cycle=1))
    run.store.event(fake.begin(T0, cycle=1))
    run.ask(T0, T0 + SECOND, Outcome.REFUSED)
    run.ask(T0 + SECOND, T0 + 3 * SECOND, who=NEW)
    if ended:
        run.store.event(fake.end(T0 + 2 * SECOND + MS, cycle=1))
    [cycle] = analyse(tmp_path).cycles
    assert (cycle.outcome, cycle.recovery_s) == (CycleOutcome.RECOVERED, 1.001)
    assert cycle.lasted_s == pytest.approx(2.001)
    # But not if what came until its end was not stored: an answer may be missing.
    run.store.event(fake.begin(T0 + 10 * SECOND, cycle=2))
    run.ask(T0 + 10 * SECOND, T0 + 11 * SECOND, Outcome.REFUSED)
    run.store.event(fake.end(T0 + 12 * SECOND, cycle=2))
    _, cycle = analyse(tmp_path).cycles
    assert cycle.outcome == CycleOutcome.INVALID
    assert cycle.lasted_s == pytest.approx(1, abs=0.02)


def test_one_that_was_no_sample_any_more_stays_none(tmp_path) -> None:
    """Killed after something else than the fault had disturbed it, and after its recovery."""
    run = Run(tmp_path)
    run.ask(T0 - SECOND, T0)
    run.store.event(fake.instance(NEW, fake.NEW_IP, at_ns=T0, cycle=1))
    run.store.event(fake.begin(T0, cycle=1))
    cause = asdict(fake.NOT_FRESH)
    run.store.event(fake.reading(T0 + MS, "engine", "disturbed", cause=cause))
    run.ask(T0, T0 + SECOND, Outcome.REFUSED)
    run.ask(T0 + SECOND, T0 + 3 * SECOND, who=NEW)
    [cycle] = analyse(tmp_path).cycles
    assert (cycle.outcome, cycle.cause) == (CycleOutcome.INVALID, fake.NOT_FRESH)
    assert analyse(tmp_path).report.total.recovery_s.n == 0


@pytest.mark.parametrize("after_s", [None, 2.5, 1.5])
def test_one_whose_fault_was_not_all_done_had_not_recovered(tmp_path, after_s) -> None:
    """Killed while its program ran, or soon after: what comes then is part of the outage, too."""
    run = Run(tmp_path)
    run.ask(T0 - SECOND, T0)
    gone = dict.fromkeys(("old", "old_ip", "new", "new_ip"))
    run.store.event(fake.begin(T0, cycle=1, fault="command", **gone))
    run.ask(T0, T0 + SECOND, Outcome.REFUSED)
    run.ask(T0 + SECOND, T0 + 3 * SECOND)
    if after_s is not None:
        at_ns = T0 + round(after_s * SECOND)
        run.store.event(fake.reading(at_ns, "engine", "injected"))
    [cycle] = analyse(tmp_path).cycles
    if after_s != 1.5:
        assert (cycle.outcome, cycle.cause) == (CycleOutcome.INVALID, fake.STOPPED)
        return
    assert (cycle.outcome, cycle.recovery_s) == (CycleOutcome.RECOVERED, 1.001)
    assert cycle.lasted_s == 2.5


def while_it_is_read(monkeypatch, deed) -> None:
    """Have this done once, between the samples and the events."""
    plain, todo = RunReader.events, [deed]

    def events(self, *whats):
        while todo:
            todo.pop()()
        return plain(self, *whats)

    monkeypatch.setattr(RunReader, "events", events)


def test_whoever_comes_while_a_report_is_made_is_no_stranger(tmp_path, monkeypatch) -> None:
    run = Run(tmp_path)
    run.ask(T0, T0 + SECOND)

    def born() -> None:
        run.store.event(fake.instance(NEW, fake.NEW_IP, at_ns=T0 + SECOND, cycle=1))
        run.ask(T0 + SECOND, T0 + 2 * SECOND, who=NEW)

    while_it_is_read(monkeypatch, born)
    [probe] = analyse(tmp_path).report.probes
    assert (probe.misrouted, probe.outcomes["ok"]) in ((0, 100), (0, 200))
    [probe] = analyse(tmp_path).report.probes
    assert (probe.misrouted, probe.outcomes["ok"]) == (0, 200)


def test_a_chunk_that_is_closed_while_a_report_is_made_is_read_once(tmp_path, monkeypatch) -> None:
    run = Run(tmp_path, chunk_samples=150)
    run.ask(T0, T0 + SECOND)
    while_it_is_read(monkeypatch, lambda: run.ask(T0 + SECOND, T0 + 2 * SECOND))
    [probe] = analyse(tmp_path).report.probes
    assert list(tmp_path.glob("*.parquet"))
    assert probe.sent in (100, 200)


def test_samples_that_become_counts_while_a_report_is_made_are_never_lost(
    tmp_path, monkeypatch
) -> None:
    retention = Retention(tmp_path, 5 * SECOND, fake.counts(100 * MS))
    run = Run(tmp_path, chunk_samples=100, retention=retention)
    for second in range(4):
        run.ask(T0 + second * SECOND, T0 + (second + 1) * SECOND)

    def later() -> None:
        for second in range(4, 20):
            run.ask(T0 + second * SECOND, T0 + (second + 1) * SECOND)

    while_it_is_read(monkeypatch, later)
    with pytest.raises(MachineError, match="became counts while they were read"):
        analyse(tmp_path)
    [probe] = analyse(tmp_path).report.probes
    assert probe.sent == 2000


def test_the_hundred_thousandth_chunk_comes_after_the_one_before(tmp_path) -> None:
    retention = Retention(tmp_path, 3 * SECOND, fake.counts(100 * MS))
    run = Run(tmp_path, chunk_samples=100, retention=retention)
    run.store._number = 99_990
    for second in range(20):
        run.ask(T0 + second * SECOND, T0 + (second + 1) * SECOND)
    run.store.close()
    kept = sorted(path.name for path in tmp_path.glob("*.parquet"))
    assert kept == [f"samples.{number}.parquet" for number in range(100_008, 100_011)]
    [probe] = analyse(tmp_path).report.probes
    assert probe.sent == 2000


@pytest.mark.parametrize("left", [b"", b'"app', b"\0\0\0\0\n\0", b'"app-1"\n"so'])
def test_names_that_a_power_cut_took_are_nobodys(tmp_path, left) -> None:
    run = Run(tmp_path)
    run.store.samples([fake.sample(T0 + n * INTERVAL, who=w) for n, w in enumerate((OLD, "some"))])
    run.store.tick()
    [names] = tmp_path.glob("samples.*.who")
    names.write_bytes(left)
    [probe] = analyse(tmp_path).report.probes
    assert probe.outcomes["ok"] == 2
    assert probe.misrouted == (1 if left.startswith(b'"app-1"\n') else 2)


def test_what_was_sent_in_other_cycles_is_not_painted_into_failovers(tmp_path) -> None:
    """A restart six seconds after a failover: its failures are its own."""
    run = Run(tmp_path)
    long = fake.cycle(cycle=1, t0_ns=T0, end_ns=T0 + 40 * SECOND, recovery_s=30.0)
    restart_ns = T0 + 50 * SECOND
    run.ask(T0 - SECOND, T0 + 49 * SECOND)
    run.ask(restart_ns, restart_ns + SECOND, Outcome.REFUSED)
    run.store.cycle(long)
    again = {"new_ip": fake.OLD_IP, "fault": "restart", "outcome": "control"}
    values = asdict(fake.cycle(cycle=2, t0_ns=restart_ns, end_ns=restart_ns + 5 * SECOND)) | again
    values.pop("predicted")
    with (tmp_path / "cycles.jsonl").open("a") as file:
        file.write(json.dumps(values | {"predicted": None}) + "\n")
    skipped = fake.cycle(cycle=3, t0_ns=T0 + 5 * SECOND, end_ns=T0 + 5 * SECOND, outcome="skipped")
    run.store.cycle(skipped)  # nothing was done then
    heat = analyse(tmp_path).heats[""]
    counts = dict(zip(KINDS, heat.counts.sum(axis=(0, 1)), strict=True))
    assert counts["failed"] == 0
    assert counts["good"] > 3000


def test_what_must_have_been_stored_and_is_not_makes_the_answer_unknown(tmp_path) -> None:
    """Half a file of events knows half of the app's instances: the rest would be misrouted."""
    run = Run(tmp_path)
    for number in (1, 2):
        t0_ns = number * 10 * SECOND
        run.ask(t0_ns - SECOND, t0_ns + 3 * SECOND)
        run.store.event(fake.begin(t0_ns, cycle=number, new=OLD))
        run.store.event(fake.end(t0_ns + SECOND, cycle=number))
        run.store.cycle(fake.cycle(cycle=number, t0_ns=t0_ns, samples=100))
    run.store.close()
    assert analyse(tmp_path).report.verdict == "ok"
    events = (tmp_path / "events.jsonl").read_bytes()
    (tmp_path / "events.jsonl").write_bytes(events[: len(events) * 4 // 5])
    found = analyse(tmp_path).report
    said = "cell c1: events are lost: the end of cycle 2 is not among them"
    assert (found.verdict, tuple(words.reasons(found))) == ("unknown", (said,))
    (tmp_path / "events.jsonl").write_bytes(events)
    # And the cycles are made of more than what is stored.
    (tmp_path / "cycles.jsonl").unlink()
    run = RunStore(tmp_path, MANIFEST, "", threads=False)
    run.cycle(fake.cycle(cycle=2, samples=2000))
    run.close()
    found = analyse(tmp_path).report
    assert words.reasons(found)[0].startswith(
        "cell c1: samples are lost: 800 are stored, and its cycles"
    )
