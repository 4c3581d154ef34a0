"""What keeps a run directory small, and the memory that it takes."""

from __future__ import annotations

import fake
import numpy as np
from fake import MS, SECOND, T0
from storing import in_order, read, stored_samples

from chaosd.history import writer as module
from chaosd.history.reader import RunReader
from chaosd.history.values import Outcome
from chaosd.history.writer import read_chunk


def test_counters_are_written_once_a_minute_and_at_the_end(tmp_path) -> None:
    run = stored_samples(tmp_path)
    polls = [
        fake.reading(s * SECOND, "dns", "queries", cycle=0, cell=cell, count=s)
        for s in range(0, 151, 5)
        for cell in ("c1", "c2")
    ]
    for poll in polls:
        run.event(poll)
    run.close()
    kept = [(e.cell, e.what.count) for e in RunReader(tmp_path).events("queries")]
    assert kept == [(c, n) for n in (0, 60, 120, 150) for c in ("c1", "c2")]


def test_the_count_at_the_edge_of_a_cycle_is_written_at_once_and_none_before_it_comes_later(
    tmp_path,
) -> None:
    run = stored_samples(tmp_path)
    for s, cycle in ((0, 0), (5, 0), (7, 1)):
        run.event(fake.reading(s * SECOND, "dns", "queries", cycle=cycle, cell="c1", count=s))
    run.close()
    assert [e.what.count for e in RunReader(tmp_path).events("queries")] == [0, 7]


def test_a_flood_of_answers_is_cut_to_some_a_second(tmp_path) -> None:
    run = stored_samples(tmp_path)
    for ms in range(3000):
        for cell in ("c1", "c2"):
            answer = {"qtype": "A", "rcode": "NOERROR"}
            run.event(fake.reading(T0 + ms * MS, "dns", "answer", cell=cell, **answer))
    run.close()
    kept = [e.cell for e in RunReader(tmp_path).events("answer")]
    assert kept.count("c1") == kept.count("c2") == 3 * module.ANSWERS_PER_SECOND_MAX


def test_real_looking_samples_take_less_than_four_bytes(tmp_path) -> None:
    """Latencies and lags as measured, an outage of a second every five, a new name after each."""
    random = np.random.default_rng(1)
    count = 90_000
    lag = np.exp(random.normal(np.log(32e3), 0.5, count)).astype(int)
    took = lag + np.exp(random.normal(np.log(150e3), 0.35, count)).astype(int)
    out = np.arange(count) % 5000 < 1000
    took[out] = random.integers(0, SECOND, out.sum())
    bad = out & (random.random(count) < 0.3)
    run = stored_samples(tmp_path)
    for i in range(count):
        if i % 1000 == 999:
            run.tick()
        outcome, who = (Outcome.HTTP_ERROR, "") if bad[i] else (Outcome.OK, f"app-{i // 5000}")
        run.samples([fake.sample(T0 + i * MS, int(took[i]), outcome, who, lag_ns=int(lag[i]))])
    run.tick()
    assert (tmp_path / "samples.00001.tail").stat().st_size == count * 32
    run.close()
    assert (tmp_path / "samples.00001.parquet").stat().st_size / count < 4
    assert sorted(p.name for p in tmp_path.glob("samples.*")) == ["samples.00001.parquet"]


def test_a_chunk_is_closed_when_it_is_old_or_has_too_many_names(tmp_path, monkeypatch) -> None:
    run = stored_samples(tmp_path, chunk_age_ns=SECOND)
    for second in (0, 1, 2):
        run.samples([fake.sample(T0 + second * SECOND)])
        run.tick()
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    monkeypatch.setattr(module, "NAMES_MAX", 10)
    monkeypatch.setattr(module, "BATCH_MAX", 5)
    samples = [fake.sample(T0 + 5 * SECOND + i, who=f"anybody-{i}") for i in range(60)]
    run.samples(samples)
    run.close()
    assert len(list(tmp_path.glob("*.parquet"))) > 5
    assert read(tmp_path)[3:] == in_order(samples)


def test_what_is_held_between_two_ticks_is_bounded(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "HELD_SAMPLES_MAX", 10)
    run = stored_samples(tmp_path)
    run.samples([fake.sample(T0 + i) for i in range(15)])
    assert len(read_chunk(tmp_path / "samples.00001")[0]) == 15
    run.close()
