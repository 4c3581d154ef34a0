"""Reads a run directory, one that is being written or was cut off at any moment included."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chaosd.errors import MachineError
from chaosd.history import manifest, strict
from chaosd.history.codec import decode_cycle, decode_event
from chaosd.history.cycles import Cycle
from chaosd.history.events import AnyEvent
from chaosd.history.values import Outcome, Sample
from chaosd.history.writer import EVENTS_OLD, MARK, RECORDS, ROW_GROUP, read_chunk, suffixed
from chaosd.system import files

T = TypeVar("T")
FOLDED = "samples.folded.json"
BLOCKS_CACHED = 8  # of some 4 MB each
WHOLE_BYTES_MAX = 32 * files.MB  # of what is read in one piece, such as run.json
PLAN = "plan.txt"
CONFIG_BYTES_MAX = 4 * files.MB  # a config has at most 1 MB, and this is all of it spelled out
# What Arrow says of a file that is no whole one, or has no samples of chaosd in it.
DAMAGED = (OSError, ValueError, KeyError, TypeError, MemoryError, pa.ArrowException)
COLUMNS = [name for name in RECORDS.names or () if name != "mark"]
WORDS_MAX = 300
CHUNK = re.compile(r"samples\.(\d{1,12})\.(parquet|tail)")
# What a sample's numbers may be: a century of nanoseconds, some days of microseconds.
LIMITS = (
    ("scheduled_ns", 0, 1 << 62),
    ("lag_us", -(1 << 40), 1 << 40),
    ("took_us", -(1 << 40), 1 << 40),
    ("outcome", 0, max(Outcome)),
)
GROUP_ROWS_MAX, GROUP_BYTES_MAX = 8 * ROW_GROUP, 256 * files.MB


class Block(NamedTuple):
    """Some samples, sorted by stream and scheduled time."""

    records: np.ndarray[Any, np.dtype[np.void]]  # of store.RECORDS
    names: list[str]  # what `who` refers to


class _Place(NamedTuple):
    """Where a block lies, and what may be in it."""

    stem: Path
    row_group: int
    streams: tuple[int, int]
    scheduled_ns: tuple[int, int]
    tail: Block | None = None  # of the open chunk: itself, for it is soon another


class RunReader:
    """What a run directory holds. Raises MachineError if it is none."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / "run.json"
        none = MachineError(f"{directory}: not a run directory (a whole run.json is missing)")
        try:
            value = strict.parse(files.read_bytes(path, WHOLE_BYTES_MAX))
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise none from error
        except OSError as error:
            raise unreadable(path, error) from error
        if not isinstance(value, dict):
            raise none
        try:
            self.manifest: dict[str, Any] = manifest.check(value)
        except ValueError as error:
            raise unreadable(path, error) from error
        self._block = lru_cache(BLOCKS_CACHED)(_load)
        self._places: list[_Place] | None = None
        self._folded: dict[str, Any] | None = None

    def config(self) -> str:
        """The effective config, or nothing if it is lost: it is only shown."""
        try:
            return files.read_utf8(self.directory / "config.yaml", CONFIG_BYTES_MAX)
        except (OSError, ValueError):
            return ""

    def plan(self) -> str:
        """What was said of the plan when the run began; nothing in runs of before that was kept."""
        try:
            return files.read_utf8(self.directory / PLAN, CONFIG_BYTES_MAX)
        except (OSError, ValueError):
            return ""

    def cycles(self) -> Iterator[Cycle]:
        return self._lines("cycles.jsonl", decode_cycle)

    def events(self, *whats: str) -> Iterator[AnyEvent]:
        """All events in the order in which they were stored, or only the readings named."""
        marks = [f'"what":"{what}"' for what in whats]
        return self._event_lines(marks)

    def events_of(self, cycles: Iterable[tuple[str, int]]) -> Iterator[AnyEvent]:
        """The events of these cycles of these cells, in the order in which they were stored."""
        return self._event_lines(
            [f'"cell":{json.dumps(cell)},"cycle":{number},' for cell, number in cycles]
        )

    def _event_lines(self, marks: Sequence[str]) -> Iterator[AnyEvent]:
        for name in (EVENTS_OLD, "events.jsonl"):
            yield from self._lines(name, decode_event, marks)

    def blocks(self) -> Iterator[Block]:
        """All samples, a block after the other: those that were stored when this was called.

        Call it before reading the events of a run that goes on: what is known of an instance is
        stored before its first answer.
        """
        return (place.tail or _load(place) for place in self._index())

    def samples(self, stream: int, from_ns: int, to_ns: int) -> list[Sample]:
        """A stream's samples scheduled from this instant until before that, in this order."""
        found: list[Sample] = []
        for place in self._index():
            (low, high), (first_ns, last_ns) = place.streams, place.scheduled_ns
            if low <= stream <= high and first_ns < to_ns and last_ns >= from_ns:
                block = place.tail or self._block(place)
                found += _cut(block, stream, from_ns, to_ns)
        # Neighbouring chunks overlap a little: samples are stored in the order of their ends.
        return sorted(found, key=lambda sample: sample.scheduled_ns)

    def _lines(
        self, name: str, decode: Callable[[str], T], marks: Sequence[str] = ()
    ) -> Iterator[T]:
        path = self.directory / name
        return lines_of(path, decode, marks) if path.exists() else iter(())

    def folded(self) -> dict[str, Any] | None:
        """The counts of samples that are not kept any more; see retention.py."""
        self._index()  # so that none is in both, or in neither
        return self._folded

    def _index(self) -> list[_Place]:
        if self._places is None:
            before = self._folded = folded(self.directory)
            through = before["through"] if before is not None else 0
            stems = {
                path.with_suffix("")
                for suffix in ("parquet", "tail")
                for path in self.directory.glob(f"samples.*.{suffix}")
                if CHUNK.fullmatch(path.name) and chunk_number(path) > through
            }
            ordered = sorted(stems, key=chunk_number)
            self._places = [place for stem in ordered for place in _places(stem)]
        return self._places


def lines_of(path: Path, decode: Callable[[str], T], marks: Sequence[str] = ()) -> Iterator[T]:
    """What each whole line of a file says, or each that has one of these marks in it.

    Raises MachineError for a line that is not what it should be, but for a torn one at the end,
    and for a file that can't be read.
    """
    wanted = [mark.encode() for mark in marks]
    try:
        for number, line in enumerate(files.lines(path), start=1):
            if not line.endswith(b"\n"):
                return
            if wanted and not any(mark in line for mark in wanted):
                continue
            try:
                yield decode(line.decode(errors="replace"))
            except ValueError as error:
                raise MachineError(f"{path}:{number}: damaged: {_words(error)}") from error
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> MachineError:
    """What is wrong with a file of a run, in one line: a library's own words may be several."""
    what = error.strerror if isinstance(error, OSError) else None
    return MachineError(f"{path}: can't be read: {what or f'damaged: {_words(error)}'}")


def _words(error: BaseException) -> str:
    """What a library says, in one line of bounded length."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= WORDS_MAX else f"{words[:WORDS_MAX]}…"


def chunk_number(path: Path) -> int:
    """Of `samples.00012.parquet`: 12."""
    return int(path.name.split(".")[1])


def folded(directory: Path) -> dict[str, Any] | None:
    """What is left of samples that were folded; None if none were. Raises MachineError."""
    path = directory / FOLDED
    try:
        found = strict.parse(files.read_bytes(path, WHOLE_BYTES_MAX))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not isinstance(found, dict) or type(found.get("through")) is not int:
        raise unreadable(path, ValueError("these are no counts of chaosd"))
    return found


def parquet_chunks(directory: Path) -> Iterator[tuple[Path, int]]:
    """Closed chunks in their order, each with the scheduled time of its last sample."""
    closed = (path for path in directory.glob("samples.*.parquet") if CHUNK.fullmatch(path.name))
    for path in sorted(closed, key=chunk_number):
        places = _places(path.with_suffix(""))
        yield path, max((place.scheduled_ns[1] for place in places), default=0)


def load(path: Path) -> Iterator[Block]:
    """The blocks of a closed chunk."""
    return map(_load, _places(path.with_suffix("")))


def _places(stem: Path) -> list[_Place]:
    """The blocks of a chunk. Its tail counts only as long as there is no Parquet file."""
    parquet = suffixed(stem, "parquet")
    if not parquet.exists():
        tail = suffixed(stem, "tail")
        try:
            block = Block(*read_chunk(stem))
            _check(block)
        except (OSError, ValueError) as error:
            if not parquet.exists():
                wrong = error.filename if isinstance(error, OSError) else None
                raise unreadable(Path(wrong or tail), error) from error
            return _places(stem)  # it has become one this very moment
        if not len(block.records):
            return []
        low, high = (
            [int(most(block.records[c])) for c in ("stream", "scheduled_ns")]
            for most in (np.min, np.max)
        )
        return [_Place(stem, 0, (low[0], high[0]), (low[1], high[1]), block)]
    try:
        with files.open_regular(parquet) as raw, pq.ParquetFile(raw) as file:
            return _groups(stem, file.metadata)
    except DAMAGED as error:
        raise unreadable(parquet, error) from error


def _groups(stem: Path, metadata: Any) -> list[_Place]:
    """Where the blocks of a closed chunk lie. Raises one of DAMAGED."""
    found = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.num_rows > GROUP_ROWS_MAX or group.total_byte_size > GROUP_BYTES_MAX:
            raise ValueError("these are more samples than chaosd keeps together")
        columns = [group.column(i) for i in range(group.num_columns)]
        ranges = {
            c.path_in_schema: (int(c.statistics.min), int(c.statistics.max))
            for c in columns
            if c.path_in_schema in ("stream", "scheduled_ns") and c.statistics is not None
        }
        if len(ranges) < len(("stream", "scheduled_ns")):
            raise ValueError("these are no samples of chaosd")
        found.append(_Place(stem, number, ranges["stream"], ranges["scheduled_ns"]))
    return found


def _load(place: _Place) -> Block:
    parquet = suffixed(place.stem, "parquet")
    try:
        with (
            files.open_regular(parquet) as raw,
            pq.ParquetFile(raw, read_dictionary=["who"]) as file,
        ):
            block = _block(file.read_row_group(place.row_group, use_threads=False))
            _check(block)
            return block
    except FileNotFoundError:
        raise MachineError(
            f"{parquet}: its samples became counts while they were read (try again)"
        ) from None
    except DAMAGED as error:
        raise unreadable(parquet, error) from error


def _block(table: Any) -> Block:
    """Raises one of DAMAGED."""
    table.validate(full=True)  # a damaged file may refer to names that it does not have
    who = table["who"].combine_chunks()
    if isinstance(who, pa.ChunkedArray):  # an old pyarrow gives one, of a single chunk
        who = who.chunk(0)
    if not pa.types.is_dictionary(who.type):
        raise ValueError("names are no text in it")
    records = np.empty(table.num_rows, RECORDS)
    for name in COLUMNS:
        column = who.indices if name == "who" else table[name]
        if column.null_count or not pa.types.is_integer(column.type):
            raise ValueError(f"{name} is no number in it")
        records[name] = column.to_numpy()
    records["mark"] = MARK
    names = who.dictionary.to_pylist()
    if not all(isinstance(name, str) for name in names):
        raise ValueError("names are no text in it")
    return Block(records, names)


def _check(block: Block) -> None:
    """Raise ValueError for values that no probe can have: later ones are computed with them."""
    records = block.records
    for name, low, high in LIMITS:
        if len(records) and not (low <= records[name].min() and records[name].max() <= high):
            raise ValueError(f"a sample's {name} can't be so large or small")
    if len(records) and not block.names:
        raise ValueError("samples without names")


def _cut(block: Block, stream: int, from_ns: int, to_ns: int) -> list[Sample]:
    first, last = np.searchsorted(block.records["stream"], [stream, stream + 1])
    mine = block.records[first:last]
    first, last = np.searchsorted(mine["scheduled_ns"], [from_ns, to_ns])
    names = block.names
    return [
        Sample(
            number,
            scheduled_ns,
            scheduled_ns + lag_us * 1000,
            scheduled_ns + took_us * 1000,
            outcome,
            status,
            names[who],
        )
        for scheduled_ns, lag_us, took_us, number, who, status, outcome, _ in mine[
            first:last
        ].tolist()
    ]
