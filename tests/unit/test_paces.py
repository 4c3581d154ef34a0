"""Where a probe idles between cycles, shares of requests are shares of the time."""

from __future__ import annotations

import fake
import numpy as np

from chaosd.analysis.samples import Paces
from chaosd.history.events import StreamPaced
from chaosd.history.reader import RunReader
from chaosd.history.retention import Retention
from chaosd.history.values import Outcome, Sample
from chaosd.history.writer import RunStore
from chaosd.report import analyse

MS, SECOND, SLOW = 1_000_000, 1_000_000_000, 100_000_000
IDLE_EVERY = 5
MANIFEST = {"name": "n", "run": "r", "cells": ["c1"], "settings": {"slow_after_ns": SLOW}}
OUTAGES = [(second, second + 1) for second in range(10, 60, 20)]  # from, to: seconds


def test_a_request_between_cycles_stands_for_those_that_were_not_sent() -> None:
    paced = [(at, StreamPaced(stream=1, dense=dense)) for at, dense in ((10, True), (20, False))]
    other = [(15, StreamPaced(stream=2, dense=True))]
    paces = Paces([fake.opened(idle_every=IDLE_EVERY)], [*paced, *other])
    at_ns = np.array([0, 9, 10, 19, 20, 30])
    assert paces.weights(1, at_ns).tolist() == [5, 5, 1, 1, 5, 5]
    assert Paces([fake.opened()], paced).weights(1, at_ns).tolist() == [1] * 6
    assert Paces([fake.opened(idle_every=IDLE_EVERY)]).weights(1, at_ns).tolist() == [5] * 6


def samples_of(second: int, *, dense: bool) -> list[Sample]:
    """What a second of probes at 100/s, or a fifth of that, came to."""
    found = []
    for number in range(0, 100, 1 if dense else IDLE_EVERY):
        at_ns = second * SECOND + number * 10 * MS
        bad = any(first <= second < last for first, last in OUTAGES)
        outcome, who = (Outcome.REFUSED, "") if bad else (Outcome.OK, fake.NEW)
        found.append(Sample(1, at_ns, at_ns, at_ns + MS, outcome, 200, who))
    return found


def run(directory, *, idle_every: int | None, keep_s: float | None = None):
    """A minute with an outage of a second each 20 s, asked densely from a second before it."""
    retention = Retention(directory, round(keep_s * SECOND), fake.counts(SLOW)) if keep_s else None
    store = RunStore(directory, MANIFEST, "", threads=False, chunk_samples=500, retention=retention)
    store.event(fake.stream(**({} if idle_every is None else {"idle_every": idle_every})))
    store.event(fake.reading(0, "engine", "instance", cycle=0, identity=fake.NEW))
    edges = {first - 1: True for first, _ in OUTAGES} | {last + 1: False for _, last in OUTAGES}
    dense, number = idle_every is None, 0
    for second in range(60):
        if idle_every is not None and second in edges:
            dense = edges[second]
            data = {"stream": 1, "dense": dense}
            store.event(fake.reading(second * SECOND, "engine", "paced", cycle=0, **data))
        if second in [first for first, _ in OUTAGES]:
            number += 1
            store.event(fake.begin(second * SECOND, cycle=number))
            store.event(fake.end((second + 1) * SECOND, cycle=number))
            store.cycle(fake.cycle(cycle=number, t0_ns=second * SECOND))
        store.samples(samples_of(second, dense=dense))
        store.tick()
    store.close()
    return analyse(directory).report


def test_availability_is_that_of_a_probe_that_never_idles(tmp_path) -> None:
    whole = run(tmp_path / "whole", idle_every=None)
    idling = run(tmp_path / "idling", idle_every=IDLE_EVERY)
    assert whole.availability.value == 1 - 3 / 60
    assert whole.availability.low is not None
    # The very same, and so is its interval: that of the time, from one T0 to the next.
    assert idling.availability == whole.availability
    (probe,) = idling.probes
    assert (probe.sent, probe.interval_s, probe.idle_interval_s) == (9 * 100 + 51 * 20, 0.01, 0.05)


def test_what_becomes_counts_keeps_its_weight(tmp_path) -> None:
    all_kept = run(tmp_path / "all", idle_every=IDLE_EVERY)
    some = run(tmp_path / "some", idle_every=IDLE_EVERY, keep_s=10)
    chunks = [len(list((tmp_path / name).glob("samples.*.parquet"))) for name in ("all", "some")]
    assert chunks[1] < chunks[0]
    assert some.availability == all_kept.availability


def test_a_new_file_of_events_says_again_how_densely_is_asked(tmp_path) -> None:
    retention = Retention(tmp_path, SECOND, fake.counts(SLOW))
    store = RunStore(tmp_path, MANIFEST, "", threads=False, retention=retention)
    store.event(fake.stream(idle_every=IDLE_EVERY))
    store.event(fake.reading(0, "engine", "paced", cycle=0, stream=1, dense=True))
    for turn in range(1, 4):  # the first of its files is gone then
        at_ns = turn * (retention.span_ns + SECOND)
        store.event(fake.reading(at_ns, "dns", "queries", cycle=0, count=turn))
        store.event(fake.reading(at_ns, "dns", "published", cycle=0, ips=["127.64.0.5"]))
    store.close()
    said = [event.what for event in RunReader(tmp_path).events("paced")]
    assert said
    assert set(said) == {StreamPaced(stream=1, dense=True)}
