"""The run directory: what is put in comes out, whenever it was cut off. One test has processes."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace

import budget
import fake
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake import IMPOSTER, INTERVAL, MS, NEW, OLD, SECOND, T0
from hypothesis import given, settings, strategies
from storing import EVERYTHING, in_order, read, stored_samples

from chaosd.errors import MachineError
from chaosd.history.reader import RunReader
from chaosd.history.values import Outcome, Sample
from chaosd.history.writer import RECORD, RECORDS, RunStore, read_chunk, write_whole
from chaosd.report.load_run import settings_of

FEW = settings(derandomize=True, max_examples=budget.of(8, 60), deadline=None)


@pytest.fixture
def some() -> list[Sample]:
    random = Random(1)
    return [
        fake.sample(
            T0 + place * INTERVAL,
            random.randrange(2 * SECOND),
            random.choice(list(Outcome)),
            random.choice(["", OLD, NEW, IMPOSTER, "ein Gerät → 2"]),
            lag_ns=random.randrange(MS),
            stream=1 + place % 2,
        )
        for place in range(300)
    ]


# --- in and out ---


@FEW
@given(data=strategies.data())
def test_samples_come_back_as_they_were_to_the_microsecond(data, tmp_path_factory) -> None:
    directory = tmp_path_factory.mktemp("run")
    nanoseconds = strategies.integers(0, 3 * SECOND)
    count = data.draw(strategies.integers(0, 60))
    samples = [
        Sample(
            data.draw(strategies.integers(1, 3)),
            T0 + place,
            T0 + place + data.draw(nanoseconds),
            T0 + place + data.draw(nanoseconds),
            data.draw(strategies.sampled_from(list(Outcome))),
            data.draw(strategies.integers(0, 999)),
            data.draw(strategies.text(max_size=5)),
        )
        for place in range(count)
    ]
    # Those of the dropped have no time at all.
    samples = [s._replace(sent_ns=0) if s.outcome == Outcome.DROPPED else s for s in samples]
    data.draw(strategies.randoms(use_true_random=False)).shuffle(samples)
    run = stored_samples(directory, chunk_samples=data.draw(strategies.integers(1, 40)))
    for sample in samples:
        run.samples([sample])
        if data.draw(strategies.booleans()):
            run.tick()
    if data.draw(strategies.booleans()):
        run.close()
    else:
        run.tick()
    assert read(directory, 1, 2, 3) == in_order(samples)
    shutil.rmtree(directory)


def test_a_range_is_read_without_touching_the_rest(tmp_path) -> None:
    run = stored_samples(tmp_path, chunk_samples=1000)
    samples = [fake.sample(T0 + i * MS, stream=1 + i % 2) for i in range(10_000)]
    for first in range(0, 10_000, 100):
        run.samples(samples[first : first + 100])
        run.tick()
    run.close()
    reader = RunReader(tmp_path)
    expected = [
        s for s in samples if s.stream == 2 and 3500 * MS <= s.scheduled_ns - T0 < 3600 * MS
    ]
    assert reader.samples(2, T0 + 3500 * MS, T0 + 3600 * MS) == expected
    assert reader._block.cache_info().misses == 1
    assert reader.samples(3, *EVERYTHING) == []
    assert sum(len(block.records) for block in reader.blocks()) == 10_000


def test_events_and_cycles_come_back_and_are_there_at_once(tmp_path) -> None:
    run = stored_samples(tmp_path)
    events = [fake.action(T0, "stop", "asked", identity=OLD), fake.begin(), fake.end(T0 + SECOND)]
    for place, event in enumerate(events, start=1):
        run.event(event)
        assert list(RunReader(tmp_path).events()) == events[:place]
    run.cycle(fake.cycle())
    reader = RunReader(tmp_path)
    assert list(reader.cycles()) == [fake.cycle()]
    assert list(reader.events("begin", "nothing")) == [fake.begin()]
    assert reader.config() == "name: made\n"
    run.close()


def test_the_manifest_is_always_whole(tmp_path) -> None:
    run = stored_samples(tmp_path)
    assert RunReader(tmp_path).manifest == {"format": 1, "seed": 1}
    run.close()
    run.update(exit=0, end_unix=5.5)
    assert RunReader(tmp_path).manifest == {"format": 1, "seed": 1, "exit": 0, "end_unix": 5.5}
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("text", [None, "", '{"seed": 1'])
def test_a_directory_that_is_no_run_is_said_to_be_none(tmp_path, text) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(MachineError) as error:
        RunReader(tmp_path)
    assert str(error.value) == f"{tmp_path}: not a run directory (a whole run.json is missing)"


def test_a_line_that_is_broken_in_the_middle_is_no_torn_end(tmp_path) -> None:
    stored_samples(tmp_path).close()
    (tmp_path / "events.jsonl").write_text('{"kind":"action"}\n')
    with pytest.raises(MachineError, match=r"events.jsonl:1: damaged: not an event"):
        list(RunReader(tmp_path).events())


# --- damage, and equal bytes ---


def test_names_that_are_numbers_are_damage(tmp_path, some) -> None:
    """Found by tests/attack/damaged.py: an AttributeError."""
    run = stored_samples(tmp_path)
    run.samples(some)
    run.close()
    [chunk] = tmp_path.glob("*.parquet")
    table = pq.read_table(chunk)
    names = pa.array(range(table.num_rows))
    place = table.schema.get_field_index("who")
    pq.write_table(table.set_column(place, "who", names), chunk)
    with pytest.raises(MachineError, match="damaged: names are no text in it"):
        read(tmp_path, some[0].stream)


def test_settings_that_are_not_whole_are_damage(tmp_path) -> None:
    """Found by tests/attack/damaged.py: in a sweep's round it was a ValueError."""
    reader = SimpleNamespace(directory=tmp_path, manifest={"arms": {}, "settings": {"proxy": "x"}})
    with pytest.raises(MachineError, match=r"run.json: .*the settings of cell c1 are not whole"):
        settings_of(reader, "c1")


def test_equal_runs_are_equal_bytes(tmp_path, some) -> None:
    for name in ("one", "two"):
        run = stored_samples(tmp_path / name, chunk_samples=100)
        run.event(fake.begin())
        for first in range(0, 300, 30):
            run.samples(some[first : first + 30])
            run.tick()
        run.cycle(fake.cycle())
        run.close()
    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two")
    )
    assert one == two
    assert {"samples.00001.parquet", "samples.00003.parquet"} <= set(one)


# --- cut off at any moment ---


def test_a_torn_tail_loses_its_last_record_at_most(tmp_path, some) -> None:
    samples = some[:6]
    run = stored_samples(tmp_path)
    run.samples(samples)
    run.tick()
    tail = tmp_path / "samples.00001.tail"
    whole = tail.read_bytes()
    for cut in range(len(whole) + 1):
        tail.write_bytes(whole[:cut])
        assert read(tmp_path, 1, 2) == in_order(samples[: cut // RECORD.size])
    # After a power cut a file may end in zeros instead.
    tail.write_bytes(whole[: 3 * RECORD.size] + bytes(len(whole) - 3 * RECORD.size))
    assert read(tmp_path, 1, 2) == in_order(samples[:3])
    assert [len(block.records) for block in RunReader(tmp_path).blocks()] == [3]
    run.close()


def test_torn_names_and_lines_lose_their_end_only(tmp_path, some) -> None:
    run = stored_samples(tmp_path)
    run.samples(some[:20])
    run.tick()
    names = tmp_path / "samples.00001.who"
    # Names are appended before the records that need them: what is torn was not needed yet.
    whole = names.read_bytes() + json.dumps("näher").encode() + b"\n"
    for cut in range(len(whole) - 8, len(whole)):
        names.write_bytes(whole[:cut])
        assert read(tmp_path, 1, 2) == in_order(some[:20])
    events = [fake.begin(), fake.end(T0 + SECOND)]
    for event in events:
        run.event(event)
    log = tmp_path / "events.jsonl"
    lines = log.read_bytes()
    first = lines.index(b"\n") + 1
    for cut in range(len(lines) + 1):
        log.write_bytes(lines[:cut])
        count = 0 if cut < first else 1 if cut < len(lines) else 2
        assert list(RunReader(tmp_path).events()) == events[:count]
    run.close()


def test_a_crash_while_a_chunk_is_converted_neither_loses_nor_doubles(tmp_path, some) -> None:
    run = stored_samples(tmp_path / "run")
    run.samples(some)
    run.tick()
    before = tmp_path / "before"
    shutil.copytree(tmp_path / "run", before)
    run.close()
    parquet = (tmp_path / "run" / "samples.00001.parquet").read_bytes()
    # Half of it written, under its temporary name:
    (before / "samples.00001.parquet.tmp").write_bytes(parquet[: len(parquet) // 2])
    assert read(before, 1, 2) == in_order(some)
    # Renamed, but the tail still there:
    (before / "samples.00001.parquet.tmp").rename(before / "samples.00001.parquet")
    (before / "samples.00001.parquet").write_bytes(parquet)
    assert read(before, 1, 2) == in_order(some)
    # The tail gone, its names not yet:
    (before / "samples.00001.tail").unlink()
    assert read(before, 1, 2) == in_order(some)


def test_a_reader_that_was_there_before_the_conversion_still_reads(tmp_path, some) -> None:
    run = stored_samples(tmp_path)
    run.samples(some)
    run.tick()
    reader = RunReader(tmp_path)
    reader._index()
    run.close()
    assert reader.samples(1, *EVERYTHING) == [s for s in in_order(some) if s.stream == 1]


def test_a_thread_converts_while_more_comes_in(tmp_path) -> None:
    run = RunStore(tmp_path, {}, "", chunk_samples=1000)
    samples = [fake.sample(T0 + i) for i in range(10_500)]
    for first in range(0, 10_500, 500):
        run.samples(samples[first : first + 500])
        run.tick()
    run.close()
    assert len(list(tmp_path.glob("*.parquet"))) == 11
    assert not list(tmp_path.glob("*.tail"))
    assert read(tmp_path) == in_order(samples)


WRITER = """
import sys
from pathlib import Path
from chaosd.history.values import Sample
from chaosd.history.writer import RunStore

run = RunStore(Path(sys.argv[1]), {}, "", chunk_samples=700)
for number in range(1_000_000):
    run.samples([Sample(1, number * 1000, number * 1000, number * 1000, 0, 200, f"app-{number}")])
    run.event(stored.event(number, "c1", 0, verb="release", edge="asked"))
    if number % 100 == 99:
        run.tick()
    print(number, flush=True)
"""


@pytest.mark.sized
def test_kill_at_any_moment_leaves_everything_up_to_the_last_tick(tmp_path) -> None:
    random = Random(9)
    for attempt in range(budget.of(3, 12)):
        directory = tmp_path / str(attempt)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        enough = random.randrange(1, 4_000)  # a chunk has 700
        said = -1
        with writer:
            for line in writer.stdout:
                said = int(line)
                if said == enough:
                    writer.send_signal(signal.SIGKILL)
                    break
            said = max([said, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        events = [event.at_ns for event in RunReader(directory).events()]
        assert events == list(range(len(events)))
        assert len(events) > said  # an event is in the kernel before anything else is done
        samples = read(directory)
        assert [s.scheduled_ns for s in samples] == [n * 1000 for n in range(len(samples))]
        assert [s.who for s in samples] == [f"app-{n}" for n in range(len(samples))]
        assert len(samples) >= (said + 1) // 100 * 100 - 100
        assert len(samples) % 100 == 0


# --- a full disk ---


@contextmanager
def files_up_to(size: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full(path: Path) -> str:
    return (
        f"{path}: can't be written: No space left on device (the run directory needs a writable "
        "disk with free space)"
    )


def test_a_full_disk_is_one_line(tmp_path) -> None:
    for name in ("events.jsonl", "cycles.jsonl", "samples.00001.tail"):
        (tmp_path / name).symlink_to("/dev/full")
    run = stored_samples(tmp_path)
    run.samples([fake.sample(T0)])
    for name, write in (
        ("events.jsonl", lambda: run.event(fake.begin())),
        ("cycles.jsonl", lambda: run.cycle(fake.cycle())),
        ("samples.00001.tail", run.tick),
        ("samples.00001.tail", run.close),
    ):
        with pytest.raises(MachineError) as error:
            write()
        assert str(error.value) == full(tmp_path / name)
    run.close()


def test_what_is_written_goes_to_no_other_file(tmp_path) -> None:
    """As by `chaosd report` in a directory of somebody else's."""
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / "report.json.tmp").symlink_to(other)
    os.mkfifo(tmp_path / "report.md.tmp")
    for name in ("report.json", "report.md"):
        write_whole(tmp_path / name, "said")
        assert (tmp_path / name).read_text() == "said"
        assert not (tmp_path / name).is_symlink()
    assert other.read_text() == "precious"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other", "report.json", "report.md"]


def test_what_could_not_be_written_whole_is_taken_back(tmp_path) -> None:
    run = stored_samples(tmp_path)
    run.event(fake.begin())
    size = (tmp_path / "events.jsonl").stat().st_size
    with files_up_to(size + 10), pytest.raises(MachineError, match="File too large"):
        run.event(fake.end(T0))
    assert (tmp_path / "events.jsonl").stat().st_size == size
    run.event(fake.end(T0 + 1))  # there is room again
    assert list(RunReader(tmp_path).events()) == [fake.begin(), fake.end(T0 + 1)]
    run.close()


@pytest.mark.parametrize("threads", [False, True])
def test_a_disk_too_full_for_parquet_keeps_the_tail(tmp_path, some, threads) -> None:
    (tmp_path / "samples.00001.parquet.tmp").symlink_to("/dev/full")
    run = RunStore(tmp_path, {}, "", threads=threads)
    run.samples(some)
    with pytest.raises(MachineError, match="No space left on device") as error:
        run.close()
    assert str(error.value).startswith(f"{tmp_path / 'samples.00001.parquet'}: can't be written")
    assert "\n" not in str(error.value)
    assert read(tmp_path, 1, 2) == in_order(some)


def test_a_directory_that_can_not_be_made(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file/run: can't be written: Not a directory"):
        stored_samples(tmp_path / "file" / "run")


def test_a_link_that_can_not_be_put_in_its_place_is_not_left_beside_it(
    tmp_path, monkeypatch
) -> None:
    def refused(*_) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = RunStore(tmp_path / "r", {}, "", threads=False, latest=tmp_path / "latest")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refused)
        with pytest.raises(MachineError, match=r"latest: can't be written: No space left"):
            store.ready()
    store.close()
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["latest", "r"]


def test_a_record_is_what_numpy_reads() -> None:
    assert RECORD.size == RECORDS.itemsize == 32
    packed = RECORD.pack(1, 2, 3, 4, 5, 6, 7, 8)
    assert np.frombuffer(packed, RECORDS)[0].tolist() == (1, 2, 3, 4, 5, 6, 7, 8)


def test_a_tick_between_two_reads_takes_nobodys_name(tmp_path, monkeypatch) -> None:
    """Whoever answered what is read was written down before it."""
    store = RunStore(tmp_path, {}, "", threads=False)

    def answer(second: int, who: str) -> None:
        at_ns = second * SECOND
        store.samples([Sample(1, at_ns, at_ns, at_ns + 1000, Outcome.OK, 200, who)])
        store.tick()

    answer(1, "old")
    plain = Path.read_bytes, np.fromfile
    for reads, where in ((plain[0], (Path, "read_bytes")), (plain[1], (np, "fromfile"))):
        with monkeypatch.context() as patch:

            def meanwhile(*given, reads=reads, **more):
                answer(2, f"new {reads.__name__}")
                return reads(*given, **more)

            patch.setattr(*where, meanwhile)
            records, names = read_chunk(tmp_path / "samples.00001")
        assert "" not in [names[record["who"]] for record in records]
