"""A log line's instant is the kernel's, however late chaosd comes to read it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time

import pytest
import uvloop

from chaosd.history.causes import LagKind
from chaosd.history.events import (
    DatagramUnread,
    Inbox,
    LogRefused,
    ServerChange,
    Teller,
    WorldWatched,
)
from chaosd.history.values import Address
from chaosd.proxies.haproxy.log import read
from chaosd.runtimes.senders import OfAddress, OfProcess
from chaosd.runtimes.syslog import LogReceiver
from chaosd.system.clock import SECOND_NS, RealClock

CHANGED = b"<133>Nov 25 12:00:00 haproxy[7]: be/app changed its IP from 1.1.1.1 to 1.1.1.2 by r/n."
BUSY_S = 0.3
FORGER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sender:
    for _ in range(int(sys.argv[3])):
        sender.sendto(sys.argv[4].encode(), (sys.argv[1], int(sys.argv[2])))
    print("sent", flush=True)
    sys.stdin.read()
"""


class Recording:
    def __init__(self) -> None:
        self.clock = RealClock()
        self.readings, self.unread = [], []

    def record(self, what, *, at_ns=0, error_ns=0) -> None:
        if isinstance(what, DatagramUnread):
            assert what.inbox is Inbox.LOG
            self.unread.append(what.late_ns / 1e9)
        else:
            self.readings.append((what, at_ns, error_ns))


async def hear(recorder: Recording, lines: list[bytes]) -> list[tuple[int, int]]:
    """Send lines to a receiver whose loop is busy; the instants before and after each."""
    believes = OfProcess(os.getpid, recorder.clock)
    receiver = LogReceiver(Address("127.0.0.1", 0), read, recorder, believes=believes)
    sent = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"the first one may be without a stamp", receiver.address)
            for line in lines:
                await asyncio.sleep(0.01)
                before_ns = time.monotonic_ns()
                sender.sendto(line, receiver.address)
                sent.append((before_ns, time.monotonic_ns()))
                time.sleep(BUSY_S)  # noqa: ASYNC251 - a busy loop is the point
        for _ in range(500):
            if len(recorder.readings) >= sum(line == CHANGED for line in lines):
                break
            await asyncio.sleep(0.01)
    finally:
        receiver.close()
        receiver.close()
    return sent


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_line_is_stamped_when_it_came_and_not_when_it_was_read(loop) -> None:
    recorder = Recording()
    with asyncio.Runner(loop_factory=loop) as runner:
        sent = runner.run(hear(recorder, [CHANGED, b"nothing of interest", CHANGED]))
    assert len(recorder.readings) == 2
    for (what, at_ns, error_ns), (before_ns, after_ns) in zip(
        recorder.readings, sent[::2], strict=True
    ):
        assert (what.told_by, what.change) == (Teller.LOG, ServerChange.ADDRESS)
        assert (what.server, what.old, what.new) == ("be/app", "1.1.1.1", "1.1.1.2")
        # Two clocks of one kernel: they are slewed by 0.05 % at most.
        slack_ns = error_ns + BUSY_S * 1e9 / 1000
        assert before_ns - slack_ns <= at_ns <= after_ns + slack_ns
    # How late they were read is told as well.
    assert BUSY_S * 0.95 < max(recorder.unread) < BUSY_S * 4


def test_a_wall_clock_that_leaps_is_not_believed() -> None:
    class Leaping(RealClock):
        def unix_ns(self) -> int:
            return super().unix_ns() - 3600 * 10**9

    recorder = Recording()
    recorder.clock = Leaping()
    sent = asyncio.run(hear(recorder, [CHANGED]))
    [(_, at_ns, _)] = recorder.readings
    assert sent[0][0] <= at_ns <= time.monotonic_ns()


async def forged(at: str, believes, *, from_us: int, from_others: int) -> Recording:
    """Send lines from this process and from another one; what the receiver has made of them."""
    recorder = Recording()
    receiver = LogReceiver(Address(at, 0), read, recorder, believes=believes(recorder.clock))
    where = [at, str(receiver.address.port), str(from_others), CHANGED.decode()]
    with (
        subprocess.Popen(  # noqa: ASYNC220 - it is there when this returns
            [sys.executable, "-I", "-c", FORGER, *where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as other,
        socket.socket(socket.AF_INET6 if ":" in at else socket.AF_INET, socket.SOCK_DGRAM) as own,
    ):
        assert other.stdout is not None
        try:
            await asyncio.to_thread(other.stdout.readline)
            for _ in range(from_us):
                own.sendto(CHANGED, receiver.address)
                await asyncio.sleep(0.01)
        finally:
            other.kill()
    receiver.close()
    return recorder


def told(recorder: Recording) -> tuple[int, int]:
    """How many lines were believed, and how many were counted as another's."""
    events = [what for what, _, _ in recorder.readings]
    refused = [what.count for what in events if isinstance(what, LogRefused)]
    return len(events) - len(refused), max(refused, default=0)


@pytest.mark.parametrize("at", ["127.0.0.1", "127.77.3.2", "::1"])
def test_only_the_proxys_own_lines_are_believed(at) -> None:
    proxy = lambda clock: OfProcess(os.getpid, clock)  # noqa: E731
    recorder = asyncio.run(forged(at, proxy, from_us=3, from_others=727))
    assert told(recorder) == (3, 727)
    # 727 lines are no 727 events: the first is said at once, the rest with the next second.
    assert len([1 for what, _, _ in recorder.readings if isinstance(what, LogRefused)]) == 2


def test_nobody_is_believed_while_there_is_no_proxy() -> None:
    recorder = asyncio.run(
        forged("127.0.0.1", lambda clock: OfProcess(lambda: None, clock), from_us=1, from_others=1)
    )
    assert told(recorder) == (0, 2)


@pytest.mark.parametrize(("named", "believed"), [(None, 2), ("127.0.0.1", 2), ("10.0.0.5", 0)])
def test_elsewhere_one_address_is_believed(named, believed) -> None:
    recorder = asyncio.run(
        forged("127.0.0.1", lambda _: OfAddress(named), from_us=1, from_others=1)
    )
    assert told(recorder) == (believed, 2 - believed)


async def flooded(recorder: Recording, size: int) -> None:
    """More lines come than there is room for, while nobody reads; one more comes afterwards."""
    believes = OfProcess(os.getpid, recorder.clock)
    receiver = LogReceiver(Address("127.0.0.1", 0), read, recorder, believes=believes)
    receiver._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # as small as can be
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(2):
                for _ in range(size):
                    sender.sendto(b"x" * 100, receiver.address)
                await asyncio.sleep(0.05)
                sender.sendto(b"the one that finds room", receiver.address)
                await asyncio.sleep(0.05)
    finally:
        receiver.close()


def test_what_came_to_a_full_buffer_is_told_once_and_with_its_count() -> None:
    recorder = Recording()
    asyncio.run(flooded(recorder, 500))
    found = [what for what, _, _ in recorder.readings if isinstance(what, WorldWatched)]
    lags = [lag for what in found for lag in what.lags]
    assert {lag.kind for lag in lags} == {LagKind.UDP_DROPPED}
    assert 800 < sum(lag.count for lag in lags) <= 1000
    assert all(0 <= lag.seconds < 5 for lag in lags)
    recorder = Recording()
    asyncio.run(flooded(recorder, 1))
    assert recorder.readings == []


def test_the_last_words_of_a_process_that_was_replaced_are_believed_for_a_while() -> None:
    class Clock:
        ns = SECOND_NS

        def now_ns(self) -> int:
            return self.ns

    clock, pids = Clock(), [os.getpid()]
    believes = OfProcess(lambda: pids[0], clock)
    other = Address("127.0.0.1", 9)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        sender = Address(*ours.getsockname())
        assert believes(sender)
        with subprocess.Popen(["sleep", "30"], start_new_session=True) as successor:
            pids[0] = successor.pid
            assert not believes(other)  # so it has looked at the other one
            assert believes(sender)
            clock.ns += 6 * SECOND_NS
            assert not believes(other)
            assert not believes(sender)
            successor.kill()
