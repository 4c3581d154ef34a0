"""Standard output that nobody reads stops nothing, and what was left out is said."""

from __future__ import annotations

import os
import threading
import time

from chaosd.live.outlet import WAITING_MAX, Outlet

SIZE = 4096


class Reader:
    """A descriptor whose reader may stop reading."""

    def __init__(self) -> None:
        self.reads, self.asked = threading.Event(), threading.Event()
        self.got = b""

    def write(self, descriptor: int, data: bytes) -> int:
        assert descriptor == 7
        self.asked.set()
        self.reads.wait(30)
        taken = bytes(data[:10])  # a kernel may take a part
        self.got += taken
        return len(taken)


def test_all_is_written_in_its_order() -> None:
    reader = Reader()
    reader.reads.set()
    outlet = Outlet(7, "ascii", reader.write)
    for number in range(100):
        outlet.write(f"cycle {number}: a → b\n")
    outlet.finish()
    assert reader.got.decode().splitlines() == [f"cycle {n}: a \\u2192 b" for n in range(100)]
    assert not outlet.is_behind


def test_who_does_not_read_is_not_waited_for_and_told_what_is_missing() -> None:
    reader = Reader()
    outlet = Outlet(7, "utf-8", reader.write, patience_s=0.01)
    began_s = time.monotonic()
    outlet.write("0\n")
    assert reader.asked.wait(30)  # from now on nothing is taken
    for number in range(1, 3 * WAITING_MAX):
        outlet.write(f"{number}\n")
    outlet.finish()
    assert time.monotonic() - began_s < 5
    assert outlet.is_behind
    reader.reads.set()
    outlet._patience_s = 30
    outlet.finish()
    outlet.write("again\n")
    outlet.finish()
    lines = reader.got.decode().splitlines()
    kept = [int(line) for line in lines if line.isdigit()]
    assert kept == list(range(len(kept)))
    assert WAITING_MAX <= len(kept) <= WAITING_MAX + 1
    missing = 3 * WAITING_MAX - len(kept)
    note = f"({missing} lines left out here: standard output was not read)"
    assert lines[len(kept) :] == [note, "again"]


def test_a_failure_is_that_of_the_latest_text() -> None:
    def write(_: int, data: bytes) -> int:
        if bytes(data) == b"bad":
            raise OSError(28, "No space left on device")
        return len(data)

    outlet = Outlet(7, "utf-8", write)
    outlet.write("bad")
    outlet.finish()
    assert outlet.failure is not None
    outlet.write("good")
    outlet.finish()
    assert outlet.failure is None


def test_a_pipe_that_does_not_wait_loses_nothing() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    outlet = Outlet(writes, "utf-8")
    text = "x" * 300_000 + "\n"  # more than a pipe takes
    outlet.write(text)
    with os.fdopen(reads, "rb") as pipe:
        got = b""
        while not got.endswith(b"\n"):
            got += pipe.read1(65536)
    outlet.finish()
    os.close(writes)
    assert got.decode() == text
    assert outlet.failure is None
