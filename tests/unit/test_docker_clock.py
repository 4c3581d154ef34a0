"""When something was on an engine: by its wall clock, which somebody may set, as ours."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from wall_clock import SECOND, Clock

from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.follow import Events, Output


def met(clock: Clock, *, here: bool, ahead_s: float = 0.0) -> Engine:
    """An engine whose wall clock is ahead of ours by so much."""
    endpoint = SimpleNamespace(is_socket=here, url="", host="")
    engine = Engine(SimpleNamespace(endpoint=endpoint, hangs=False), clock)
    at = datetime.fromtimestamp(clock.unix_ns() / SECOND + ahead_s, UTC)

    async def now(_call):
        return {"SystemTime": at.isoformat(), "KernelVersion": os.uname().release}

    engine.now = now
    asyncio.run(engine.meet())
    return engine


@pytest.mark.parametrize("leap_s", [5, -5, 3600])
def test_what_was_stamped_before_the_clock_was_set_came_now(leap_s) -> None:
    clock = Clock()
    engine = met(clock, here=True)
    stamped = [clock.unix_ns(), clock.unix_ns()]
    clock.at_ns += SECOND // 10
    assert engine.monotonic_ns(stamped[0]) == 100 * SECOND
    clock.ahead_ns += leap_s * SECOND
    assert [engine.monotonic_ns(stamp) for stamp in stamped] == [clock.at_ns] * 2
    # From then on it is believed again.
    stamp, came_ns = clock.unix_ns(), clock.at_ns
    clock.at_ns += SECOND
    assert engine.monotonic_ns(stamp) == came_ns


@pytest.mark.parametrize("leap_s", [5, -5, 3600])
def test_that_our_clock_is_set_moves_no_other_machines(leap_s) -> None:
    clock = Clock()
    engine = met(clock, here=False, ahead_s=20)
    clock.ahead_ns += leap_s * SECOND
    stamp, came_ns = clock.at_ns + 1_700_000_020 * SECOND, clock.at_ns
    clock.at_ns += SECOND
    assert engine.monotonic_ns(stamp) == came_ns
    assert engine.offset_ns == (20 - leap_s) * SECOND


def test_another_machines_clock_is_surer_right_after_it_was_measured_and_is_measured_again() -> (
    None
):
    clock = Clock()
    engine = met(clock, here=False)
    asked = []

    async def now(call):
        asked.append(call)
        clock.at_ns += SECOND // 100  # there and back
        its = datetime.fromtimestamp(clock.unix_ns() / SECOND + 3, UTC)
        return {"SystemTime": its.isoformat(), "KernelVersion": "other"}

    engine.now = now
    assert (engine.offset_ns, engine.offset_error_ns) == (0, 0)
    clock.at_ns += 61 * SECOND
    assert engine.offset_error_ns == 61 * SECOND * 500 // 1_000_000

    async def work() -> None:
        await engine.do("deed")
        await engine.do("deed")
        await engine._measuring

    asyncio.run(work())
    assert len(asked) == 3  # two deeds, and once what time it is there
    assert engine.offset_ns == pytest.approx(3 * SECOND, abs=SECOND // 100)
    assert SECOND // 200 <= engine.offset_error_ns <= SECOND // 100


def test_our_own_machines_clock_is_ours_for_good() -> None:
    clock = Clock()
    engine = met(clock, here=True)
    clock.at_ns += 1000 * SECOND
    assert engine.offset_error_ns == 0


def follower(kind, *args):
    """One that hears at once; what it has heard."""
    heard: list[str] = []

    async def make():
        clock = Clock()
        engine = SimpleNamespace(
            clock=clock, offset_ns=0, offset_error_ns=0, monotonic_ns=lambda its_ns: its_ns
        )
        return kind(engine, *args, lambda what, *_: heard.append(what), **keys)

    nothing = {"returned": lambda: None, "absent": lambda: None}
    keys = nothing if kind is Events else {}
    made = asyncio.run(make())
    made._call = lambda what, *arguments: what(*arguments)
    return made, heard


def line(second: int, text: str) -> bytes:
    return f"2026-01-01T00:00:{second:02}.000000000Z {text}\n".encode()


def test_lines_go_on_when_the_clock_is_set_back_and_only_repeated_ones_are_left_out() -> None:
    output, heard = follower(Output, "c")
    for second, text in ((30, "a"), (31, "b"), (10, "c"), (11, "d")):
        output._take(line(second, text))
    assert heard == ["a", "b", "c", "d"]
    output._repeats = True  # it is taken up again
    for second, text in ((10, "c"), (11, "d"), (12, "e")):
        output._take(line(second, text))
    assert heard == ["a", "b", "c", "d", "e"]


def test_events_go_on_when_the_clock_is_set_back_and_only_repeated_ones_are_left_out() -> None:
    events, heard = follower(Events)

    def say(*stamps: int) -> list[int]:
        for at_ns in stamps:
            events._take({"timeNano": at_ns, "Action": f"{at_ns}", "Actor": {"ID": "c"}})
        return [entry["timeNano"] for entry in heard]

    assert say(30, 31, 10, 11) == [30, 31, 10, 11]
    events._repeats = True  # it is taken up again
    assert say(10, 11, 11, 12, 5) == [30, 31, 10, 11, 12, 5]
