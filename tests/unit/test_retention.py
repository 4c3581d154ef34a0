"""Old samples become counts: the report of probes stays the same, and no crash counts one twice."""

from __future__ import annotations

import errno
import json
import os
import shutil

import fake
import pytest
import stored

from chaosd.errors import MachineError
from chaosd.history.reader import FOLDED, RunReader
from chaosd.history.retention import Retention
from chaosd.history.values import Outcome, Sample
from chaosd.history.writer import RunStore
from chaosd.report import analyse

MS, SECOND, SLOW = 1_000_000, 1_000_000_000, 100_000_000
MANIFEST = {"name": "n", "run": "r", "cells": ["c1"], "settings": {"slow_after_ns": SLOW}}


def sample(number: int) -> Sample:
    at_ns = number * 10 * MS
    took_ns = 200 * MS if number % 7 == 0 else 2 * MS
    outcome = Outcome.REFUSED if number % 11 == 0 else Outcome.OK
    who = "" if outcome != Outcome.OK else fake.NEW if number % 13 else "somebody"
    lag_ns = (number % 50) * 1000
    return Sample(1, at_ns, at_ns + lag_ns, at_ns + took_ns, outcome, 200, who)


def stored_samples(directory, *, keep_s: float | None, seconds: int = 60):
    """A minute of samples in chunks of 500, five seconds each."""
    retention = Retention(directory, round(keep_s * SECOND), fake.counts(SLOW)) if keep_s else None
    store = RunStore(directory, MANIFEST, "", threads=False, chunk_samples=500, retention=retention)
    store.event(fake.stream())
    store.event(fake.reading(0, "engine", "instance", cycle=0, identity=fake.NEW))
    for second in range(seconds):
        store.samples([sample(number) for number in range(second * 100, second * 100 + 100)])
        store.tick()
    store.close()
    return directory


def test_the_report_of_probes_is_the_same(tmp_path):
    whole = stored_samples(tmp_path / "whole", keep_s=None)
    some = stored_samples(tmp_path / "some", keep_s=20)
    assert analyse(whole).report.probes == analyse(some).report.probes
    kept = sorted(path.name for path in some.glob("samples.*.parquet"))
    assert 4 <= len(kept) <= 6
    assert len(list(whole.glob("samples.*.parquet"))) == 12
    # What is kept is the newest.
    reader = RunReader(some)
    assert len(reader.samples(1, 40 * SECOND, 60 * SECOND)) == 2000
    assert reader.samples(1, 0, 20 * SECOND) == []


def test_a_chunk_that_was_counted_and_not_yet_removed_is_not_counted_again(tmp_path):
    whole = stored_samples(tmp_path / "whole", keep_s=None)
    some = stored_samples(tmp_path / "some", keep_s=20)
    through = json.loads((some / FOLDED).read_text())["through"]
    leftover = f"samples.{through:05}.parquet"
    shutil.copy(whole / leftover, some / leftover)  # as a kill between the two steps leaves it
    assert analyse(some).report.probes == analyse(whole).report.probes


def stored_days(directory, *, keep_s: float | None):
    """Three days: an instance every ten minutes, counts of queries, a few samples an hour."""
    retention = Retention(directory, round(keep_s * SECOND), fake.counts(SLOW)) if keep_s else None
    store = RunStore(directory, MANIFEST, "", threads=False, retention=retention)
    store.event(fake.stream())
    store.event(fake.reading(0, "engine", "instance", cycle=0, cell="still", identity="first"))
    for minute in range(10, 3 * 24 * 60, 10):
        at_ns = minute * 60 * SECOND
        who = f"app.{minute}"
        store.event(fake.reading(at_ns, "engine", "instance", cycle=minute, identity=who))
        store.event(fake.reading(at_ns + 1, "engine", "end", cycle=minute))
        store.event(fake.reading(at_ns, "dns", "queries", cycle=0, count=minute * 7))
        store.samples([Sample(1, at_ns, at_ns, at_ns + MS, Outcome.OK, 200, who)] * 3)
        store.tick()
    store.close()
    return directory


def test_old_events_go_and_what_they_explained_is_still_known(tmp_path):
    whole = stored_days(tmp_path / "whole", keep_s=None)
    some = stored_days(tmp_path / "some", keep_s=2 * 3600)
    assert analyse(some).report.probes == analyse(whole).report.probes
    assert analyse(some).report.queries == analyse(whole).report.queries
    size = {
        run: sum(path.stat().st_size for path in run.glob("events*.jsonl")) for run in (whole, some)
    }
    assert len(list(whole.glob("events*.jsonl"))) == 1
    assert len(list(some.glob("events*.jsonl"))) == 2
    assert size[some] < size[whole] / 2
    # Everything of the last hours is there, once and in its order.
    kept = list(RunReader(some).events("end"))
    assert kept == list(RunReader(whole).events("end"))[-len(kept) :]
    assert kept[0].at_ns < (3 * 24 - 6) * 3600 * SECOND
    cells = {e.cell for e in RunReader(some).events("instance")}
    assert cells == {"c1", "still"}


def test_a_turn_over_that_fails_harms_nobody_elses_file(tmp_path, monkeypatch):
    """A full disk: what is said meanwhile goes where it went, and the run ends with one line."""
    retention = Retention(tmp_path / "run", SECOND, fake.counts(SLOW))
    store = RunStore(tmp_path / "run", MANIFEST, "", threads=False, retention=retention)
    store.event(fake.stream())
    plain = os.open

    def full(path, *rest):
        if str(path).endswith("events.jsonl"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(path, *rest)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(MachineError, match="can't be written: No space left"):
        store.event(fake.reading(10**6 * SECOND, "engine", "end"))
    monkeypatch.undo()
    other = (tmp_path / "other").open("w+")
    store.event(fake.reading(10**6 * SECOND + 1, "engine", "late"))
    store.close()
    store.close()
    other.write("mine")
    other.close()
    assert (tmp_path / "other").read_text() == "mine"
    assert "late" in [stored.line(e).what for e in RunReader(tmp_path / "run").events()]


def test_an_unreadable_file_of_counts_is_said_in_a_line(tmp_path):
    from chaosd.errors import MachineError

    some = stored_samples(tmp_path / "some", keep_s=20)
    (some / FOLDED).write_text("{")
    with pytest.raises(MachineError, match=r"samples\.folded\.json: can't be read"):
        analyse(some)


def test_a_chunk_that_goes_while_it_is_read_is_said_in_a_line(tmp_path):
    from chaosd.errors import MachineError

    whole = stored_samples(tmp_path / "whole", keep_s=None)
    reader = RunReader(whole)
    blocks = reader.blocks()
    next(blocks)
    for path in whole.glob("samples.*.parquet"):
        path.unlink()
    with pytest.raises(MachineError, match="try again"):
        next(blocks)
