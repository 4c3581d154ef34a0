"""Samples that are stored, and read again."""

from __future__ import annotations

from pathlib import Path

from chaosd.history.reader import RunReader
from chaosd.history.values import Sample, rounded_ns
from chaosd.history.writer import RunStore

EVERYTHING = (0, 10**19)


def stored_samples(directory: Path, **options) -> RunStore:
    return RunStore(directory, {"seed": 1}, "name: made\n", threads=False, **options)


def rounded(sample: Sample) -> Sample:
    at_ns = sample.scheduled_ns
    return sample._replace(
        sent_ns=at_ns + rounded_ns(sample.sent_ns - at_ns),
        done_ns=at_ns + rounded_ns(sample.done_ns - at_ns),
    )


def read(directory: Path, *streams: int) -> list[Sample]:
    reader = RunReader(directory)
    return [s for stream in streams or (1,) for s in reader.samples(stream, *EVERYTHING)]


def in_order(samples: list[Sample]) -> list[Sample]:
    return sorted((rounded(s) for s in samples), key=lambda s: (s.stream, s.scheduled_ns))
