"""The bytes between the prober's process and its parent.

A frame is a kind, a length and a payload. Samples travel as fixed records, and who answered as a
number whose meaning an earlier frame has told. The table of names is bounded: when it is full the
oldest number gets a new meaning, in-band, so that samples before and after it are both read right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import IntEnum
from itertools import starmap
from struct import Struct
from typing import Any

from chaosd.history.values import Outcome, Sample

# More identities than a cell has instances alive at once; a run of weeks has many more in all.
NAMES_MAX = 4096
NAME_LENGTH_MAX = 200  # characters of an identity that are kept

_HEADER = Struct("<BI")  # kind, length of the payload
_NAME = Struct("<H")  # number; its text follows
_RECORD = Struct("<IqqqBiH")  # the fields of Sample, with a number for `who`
_RUN = Struct("<IqqIq")  # stream, first slot, interval, count, when they were given up
_MARK = Struct("<Iq")  # stream, complete up to


class _Kind(IntEnum):
    HELLO = 1
    NAME = 2
    SAMPLES = 3
    SKIPPED = 4
    MARKS = 5


Batch = tuple[list[Sample], dict[int, int]]


def _frame(kind: _Kind, payload: bytes) -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload


class Writer:
    """Collects samples until `take` is called; keeps the order in which they came."""

    def __init__(self) -> None:
        self._names = {"": 0}
        self._texts = [""]  # by number
        self._oldest = 0
        self._frames: list[bytes] = []
        self._records: list[tuple[int, ...]] = []

    @staticmethod
    def hello(facts: dict[str, Any]) -> bytes:
        """The first frame: what the process says of itself."""
        return _frame(_Kind.HELLO, json.dumps(facts).encode())

    def sample(self, who: str, *others: int) -> None:
        """Add one: who answered, and the other fields of Sample in their order."""
        number = self._names.get(who)
        if number is None:
            number = self._learn(who)
        self._records.append((*others, number))  # packed with all others, in one go

    def skipped(
        self, stream: int, first_ns: int, interval_ns: int, count: int, given_up_ns: int
    ) -> None:
        """Slots in a row that were not sent: one DROPPED sample each, in a few bytes for all."""
        self._end_records()
        run = _RUN.pack(stream, first_ns, interval_ns, count, given_up_ns)
        self._frames.append(_frame(_Kind.SKIPPED, run))

    def take(self, marks: Iterable[tuple[int, int]]) -> bytes:
        """Everything since the last time, ended by how far each stream is complete."""
        self._end_records()
        payload = b"".join([_MARK.pack(stream, complete_ns) for stream, complete_ns in marks])
        self._frames.append(_frame(_Kind.MARKS, payload))
        taken = b"".join(self._frames)
        self._frames.clear()
        return taken

    def _end_records(self) -> None:
        if self._records:
            records = b"".join(starmap(_RECORD.pack, self._records))
            self._frames.append(_frame(_Kind.SAMPLES, records))
            self._records.clear()

    def _learn(self, who: str) -> int:
        text = who[:NAME_LENGTH_MAX]
        if text in self._names:
            return self._names[text]
        if len(self._texts) < NAMES_MAX:
            number = len(self._texts)
            self._texts.append(text)
        else:
            self._oldest = number = self._oldest % (NAMES_MAX - 1) + 1  # 0 is always nobody
            del self._names[self._texts[number]]
            self._texts[number] = text
        self._names[text] = number
        self._end_records()
        payload = _NAME.pack(number) + text.encode(errors="replace")
        self._frames.append(_frame(_Kind.NAME, payload))
        return number


class Reader:
    """Turns the bytes back, in pieces of any size; holds no more than one batch."""

    def __init__(self) -> None:
        self.hello: dict[str, Any] | None = None
        self._names = [""] * NAMES_MAX
        self._bytes = bytearray()
        self._samples: list[Sample] = []

    def feed(self, data: bytes) -> list[Batch]:
        """The batches that these bytes complete: samples, and how far each stream is complete."""
        self._bytes += data
        batches: list[Batch] = []
        start, end = 0, len(self._bytes)
        while end - start >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._bytes, start)
            if end - start - _HEADER.size < length:
                break
            start += _HEADER.size + length
            payload = bytes(self._bytes[start - length : start])
            if kind == _Kind.MARKS:
                batches.append((self._samples, dict(_MARK.iter_unpack(payload))))
                self._samples = []
            else:
                self._read(kind, payload)
        del self._bytes[:start]
        return batches

    def _read(self, kind: int, payload: bytes) -> None:
        match kind:
            case _Kind.SAMPLES:
                names = self._names
                self._samples += [
                    Sample(stream, scheduled_ns, sent_ns, done_ns, outcome, status, names[who])
                    for stream, scheduled_ns, sent_ns, done_ns, outcome, status, who in (
                        _RECORD.iter_unpack(payload)
                    )
                ]
            case _Kind.SKIPPED:
                stream, first_ns, interval_ns, count, at_ns = _RUN.unpack(payload)
                self._samples += [
                    Sample(stream, first_ns + n * interval_ns, at_ns, at_ns, Outcome.DROPPED, 0, "")
                    for n in range(count)
                ]
            case _Kind.NAME:
                (number,) = _NAME.unpack_from(payload)
                self._names[number] = payload[_NAME.size :].decode()
            case _Kind.HELLO:
                self.hello = json.loads(payload)
            case _:
                raise ValueError(f"not a frame of the prober: kind {kind}")
