"""The run directory: everything that was measured, safe from kill -9 up to the last second.

    run.json            the manifest, replaced as a whole
    config.yaml         the effective config
    plan.txt            what was said of the plan when the run began, for people
    cycles.jsonl        a line per finished cycle
    events.jsonl        a line per action's edge or reading, in the kernel before `event` returns
    events.old.jsonl    those before, where not all are kept (`runs.keep_raw`)
    samples.00001.parquet  a closed chunk of samples, sorted by stream and scheduled time
    samples.folded.json    the counts of chunks that are not kept (`runs.keep_raw`)
    samples.00002.tail     the open chunk: records of 32 bytes, appended each second
    samples.00002.who      the names that the open chunk's records refer to, a JSON string a line

A tail becomes a Parquet file under a temporary name, which is renamed when it is whole; only then
the tail goes. Where both are found the tail is the leftover. Names are appended before the records
that refer to them. So whatever is cut off by a crash, what is left of it can be read.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chaosd.errors import MachineError
from chaosd.history import strict
from chaosd.history.codec import FORMAT, encode_cycle, encode_event
from chaosd.history.cycles import Cycle
from chaosd.history.events import (
    AnyEvent,
    LogRefused,
    MachineRead,
    NameAnswered,
    ProxyMeasured,
    QueriesCounted,
    ResolversRead,
    StrangersAsked,
)
from chaosd.history.values import Sample
from chaosd.system import files

SECOND_NS = 1_000_000_000
CHUNK_SAMPLES = 100_000  # 3.2 MB of tail; converting ten times as many costs 100 MB of memory
CHUNK_BYTES_MAX = 64 * files.MB  # of an open chunk's file: ten times what it can grow to
CHUNK_AGE_NS = 3600 * SECOND_NS
HELD_SAMPLES_MAX = 100_000  # in memory between two ticks
NAMES_MAX = 40_000  # of a chunk; a record has two bytes for them
BATCH_MAX = 20_000  # so that one batch can't bring more names than there is room for
ROW_GROUP = 131_072  # records that are read together
EVENTS_OLD = "events.old.jsonl"
RARE_NS = 60 * SECOND_NS
RARE = (
    ResolversRead,
    ProxyMeasured,
    QueriesCounted,
    LogRefused,
    StrangersAsked,
    MachineRead,
)  # counters: the latest one says it all
ANSWERS_PER_SECOND_MAX = 20  # of a cell; QueriesCounted has them all

RECORD = struct.Struct("<qqqHHHBB")
MARK = 0xC5  # ends each record, so that a page of zeros after a power cut is none
RECORDS = np.dtype(
    [
        ("scheduled_ns", "<i8"),
        ("lag_us", "<i8"),  # sent - scheduled
        ("took_us", "<i8"),  # done - scheduled
        ("stream", "<u2"),
        ("who", "<u2"),
        ("status", "<u2"),
        ("outcome", "u1"),
        ("mark", "u1"),
    ]
)


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step. Raises MachineError if it can't be written."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        # As private as the directory, also if it is written much later by `chaosd report`.
        mode = path.parent.stat().st_mode & 0o666
        # In a directory of somebody else's a link may stand there, or a FIFO: never written to.
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> MachineError:
    return MachineError(
        f"{path}: can't be written: {error.strerror or error} (the run directory needs a writable "
        "disk with free space)"
    )


def refuse_other(latest: Path) -> None:
    """Raise MachineError if something of the user's own is where our link would be."""
    try:
        own = latest.exists() and not latest.is_symlink()
    except OSError:
        return  # nor can anything be written there, which is said when it is attempted
    if own:
        raise MachineError(f"{latest} is no link to the latest run (move it away)")


def _is_edge(event: AnyEvent) -> bool:
    """Whether it counts what a cycle has cost."""
    return isinstance(event.what, QueriesCounted) and event.cycle > 0


class _Appended:
    """A file that only grows, by whole writes: what could not be written whole is taken back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unwritable(path, error) from error

    def append(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            try:
                os.ftruncate(self._fd, self.size)
            except OSError:
                pass  # then a torn end is left, which reading drops
            raise unwritable(self.path, error) from error
        self.size += len(data)

    def close(self) -> None:
        """May be called twice: the number of its descriptor is soon somebody else's."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Chunk:
    """The open chunk of samples: a tail and its names."""

    def __init__(self, directory: Path, number: int) -> None:
        self.stem = directory / f"samples.{number:05d}"
        self.count = 0
        self.names = {"": 0}
        self._who = _Appended(suffixed(self.stem, "who"))
        self._tail = _Appended(suffixed(self.stem, "tail"))
        self._written_names = 1

    def append(self, records: bytes) -> None:
        new = list(self.names)[self._written_names :]
        if new:
            self._who.append("".join(json.dumps(name) + "\n" for name in new).encode())
            self._written_names += len(new)
        self._tail.append(records)
        self.count += len(records) // RECORD.size

    def close(self) -> None:
        self._tail.close()
        self._who.close()


class KeepsSome(Protocol):
    """Does away with what is old: see retention.py."""

    @property
    def span_ns(self) -> int: ...

    def head(self) -> Sequence[AnyEvent]: ...

    def event(self, event: AnyEvent) -> None: ...

    def known(self) -> Any: ...

    def apply(self, newest_ns: int, known: Any) -> None: ...


class RunStore:
    """Writes a run directory. Raises MachineError when the disk does not take it any more.

    `threads` must be off where time is virtual: then a full chunk is converted on the spot.
    `explain` says in words why a cycle is no sample: for people who read cycles.jsonl.
    `latest` is a link that points here once the run has begun: one that failed before has no data.
    """

    def __init__(
        self,
        directory: Path,
        manifest: dict[str, Any],
        config: str,
        *,
        threads: bool = True,
        chunk_samples: int = CHUNK_SAMPLES,
        chunk_age_ns: int = CHUNK_AGE_NS,
        retention: KeepsSome | None = None,
        latest: Path | None = None,
        explain: Callable[[Cycle], str | None] = lambda _: None,
    ) -> None:
        self.directory = directory
        self.manifest = {"format": FORMAT, **manifest}
        self._explain = explain
        self._chunk_samples = chunk_samples
        self._chunk_age_ns = chunk_age_ns
        self._number = 0
        self._chunk: _Chunk | None = None
        self._first_ns: int | None = None  # scheduled time of the chunk's first sample
        self._held = bytearray()
        self._closed = False
        self._retention = retention
        self._events_from_ns: int | None = None
        self._newest_ns = 0
        self._rare: dict[tuple[str, type], tuple[int, AnyEvent | None]] = {}
        self._answers: dict[str, tuple[int, int]] = {}
        # With the usual turns: it computes for long, and releases the interpreter's lock meanwhile.
        self._pool = ThreadPoolExecutor(1, "parquet") if threads else None
        self._conversions: list[Future[None]] = []
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(directory, error) from error
        write_whole(directory / "config.yaml", config)
        self.update()
        self._latest = latest
        if latest is not None and not latest.exists():
            self.ready()
        self._events = _Appended(directory / "events.jsonl")
        self._cycles = _Appended(directory / "cycles.jsonl")

    def update(self, **facts: Any) -> None:
        """Add facts to the manifest."""
        self.manifest |= facts
        text = json.dumps(self.manifest, indent=2, allow_nan=False)
        write_whole(self.directory / "run.json", text + "\n")

    # --- the sink ---

    def samples(self, batch: Sequence[Sample]) -> None:
        for first in range(0, len(batch), BATCH_MAX):
            self._hold(batch[first : first + BATCH_MAX])

    def _hold(self, batch: Sequence[Sample]) -> None:
        names = self._open().names
        pack, held = RECORD.pack, self._held
        for stream, scheduled_ns, sent_ns, done_ns, outcome, status, who in batch:
            lag_us = (sent_ns - scheduled_ns + 500) // 1000
            took_us = (done_ns - scheduled_ns + 500) // 1000
            number = names.setdefault(who, len(names))
            held += pack(scheduled_ns, lag_us, took_us, stream, number, status, outcome, MARK)
        if self._first_ns is None:
            self._first_ns = batch[0].scheduled_ns
        if len(held) >= HELD_SAMPLES_MAX * RECORD.size or len(names) >= NAMES_MAX:
            self.tick()

    def event(self, event: AnyEvent) -> None:
        if self._retention is not None:
            self._retention.event(event)
        if self._put_off(event):
            return
        self._write(event)
        if self._events_from_ns is None:
            self._events_from_ns = event.at_ns
        if self._retention is None:
            return
        if event.at_ns - self._events_from_ns > self._retention.span_ns:
            self._turn_over(self._retention.head())

    def _write(self, event: AnyEvent) -> None:
        self._events.append(f"{encode_event(event)}\n".encode())

    def _turn_over(self, head: Sequence[AnyEvent]) -> None:
        """Begin a new file of events; the one before the last goes."""
        before = self._events
        path, old = before.path, before.path.with_name(EVENTS_OLD)
        try:
            path.replace(old)
        except OSError as error:
            raise unwritable(path, error) from error
        before.path = old
        # Until there is a new one, whatever is said goes into this one still.
        self._events, self._events_from_ns = _Appended(path), None
        before.close()
        for event in head:
            self._write(event)

    def cycle(self, cycle: Cycle) -> None:
        self._cycles.append(f"{encode_cycle(cycle, self._explain(cycle))}\n".encode())

    def ready(self) -> None:
        """The directory is written from the start; now it is the latest."""
        if self._latest is None:
            return
        refuse_other(self._latest)
        beside = self._latest.with_name(f".latest-{self.directory.name}")
        try:
            beside.unlink(missing_ok=True)
            beside.symlink_to(self.directory.name)
            beside.replace(self._latest)
        except OSError as error:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise unwritable(self._latest, error) from error

    def tick(self) -> None:
        """Append what is held, and close the chunk if it is full or old."""
        self._reap()
        if not self._held:
            return
        newest_ns: int = RECORD.unpack_from(self._held, len(self._held) - RECORD.size)[0]
        self._newest_ns = newest_ns
        chunk = self._open()
        chunk.append(bytes(self._held))
        self._held.clear()
        if (
            chunk.count >= self._chunk_samples
            or len(chunk.names) >= NAMES_MAX
            or newest_ns - (self._first_ns or 0) >= self._chunk_age_ns
        ):
            self._close_chunk()

    def close(self) -> None:
        """Write out everything and wait for it. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            for _, event in self._rare.values():
                if event is not None:
                    self._write(event)
            self.tick()
            if self._chunk is not None:
                self._close_chunk()
        finally:
            if self._pool is not None:
                self._pool.shutdown()
            self._events.close()
            self._cycles.close()
            self._reap()

    # --- inside ---

    def _open(self) -> _Chunk:
        if self._chunk is None:
            self._number += 1
            self._chunk = _Chunk(self.directory, self._number)
        return self._chunk

    def _close_chunk(self) -> None:
        chunk, self._chunk, self._first_ns = self._open(), None, None
        chunk.close()
        work = [partial(convert, chunk.stem)]
        if self._retention is not None:
            work.append(partial(self._retention.apply, self._newest_ns, self._retention.known()))
        for step in work:
            if self._pool is not None:
                self._conversions.append(self._pool.submit(step))
            else:
                step()

    def _reap(self) -> None:
        """Raise what went wrong in the thread. Nothing is lost by it: the tail is still there."""
        done = [conversion for conversion in self._conversions if conversion.done()]
        self._conversions = [c for c in self._conversions if c not in done]
        for conversion in done:
            conversion.result()

    def _put_off(self, event: AnyEvent) -> bool:
        """Whether this is not written now, because its like was only just written."""
        if isinstance(event.what, RARE):
            key = (event.cell, type(event.what))
            written = self._rare.get(key)
            is_new = written is None or event.at_ns >= written[0] + RARE_NS
            if written is not None and not is_new and not _is_edge(event):
                self._rare[key] = (written[0], event)
                return True
            self._rare[key] = (event.at_ns, None)
        elif isinstance(event.what, NameAnswered):
            second = event.at_ns // SECOND_NS
            last, count = self._answers.get(event.cell, (second, 0))
            count = count + 1 if last == second else 1
            self._answers[event.cell] = (second, count)
            return count > ANSWERS_PER_SECOND_MAX
        return False


# --- a chunk's files --------------------------------------------------------------------------


def suffixed(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}.{suffix}")


def read_chunk(stem: Path) -> tuple[np.ndarray[Any, np.dtype[np.void]], list[str]]:
    """The whole records of an open chunk, sorted, and the names that they refer to.

    What is torn at the end is dropped: of the records as of the names. A name that is lost so, as
    by a power cut, is nobody's.
    """
    # In this order: the names of whatever is stored by now were stored before it.
    data = files.read_bytes(suffixed(stem, "tail"), CHUNK_BYTES_MAX)
    records = np.frombuffer(data[: len(data) // RECORD.size * RECORD.size], RECORDS).copy()
    names = [""]
    for line in files.read_bytes(suffixed(stem, "who"), CHUNK_BYTES_MAX).split(b"\n")[:-1]:
        try:
            name = strict.parse(line)
        except ValueError:
            break
        names.append(name if strict.is_text(name) else "")
    torn = np.flatnonzero(records["mark"] != MARK)
    if len(torn):
        records = records[: torn[0]]
    records["who"][records["who"] >= len(names)] = 0
    return records[np.lexsort((records["scheduled_ns"], records["stream"]))], names


def convert(stem: Path) -> None:
    """Make a closed chunk's tail a Parquet file. Whenever this is cut off, one of them is whole."""
    temporary, final = suffixed(stem, "parquet.tmp"), suffixed(stem, "parquet")
    try:
        pq.write_table(
            _table(*read_chunk(stem)),
            temporary,
            compression="zstd",
            use_dictionary=["stream", "outcome", "status", "who"],
            column_encoding={
                "scheduled_ns": "DELTA_BINARY_PACKED",
                "lag_us": "BYTE_STREAM_SPLIT",
                "took_us": "BYTE_STREAM_SPLIT",
            },
            row_group_size=ROW_GROUP,
        )
        _sync(temporary)
        temporary.rename(final)
        _sync(final.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritable(final, error) from error
    suffixed(stem, "tail").unlink()
    suffixed(stem, "who").unlink()


def _table(records: np.ndarray[Any, np.dtype[np.void]], names: list[str]) -> pa.Table:
    columns = {name: pa.array(records[name]) for name in RECORDS.names or () if name != "mark"}
    indices = pa.array(records["who"].astype(np.int32))
    columns["who"] = pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))
    return pa.table(columns)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
