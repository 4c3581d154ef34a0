"""The close look at the proxy: what changes becomes a reading with its error, and nothing else."""

from __future__ import annotations

import asyncio

import pytest
import stored

from chaosd.engine.recorder import CellRecorder
from chaosd.engine.server_poller import LOOK_S, ServerPoller
from chaosd.plugins.proxy import ProxyLook, ServerState
from chaosd.system.clock import VirtualClock, VirtualLoop, sleep

MS = 1_000_000


class Proxy:
    """Its answers over time: (until this second, address, health)."""

    def __init__(self, clock, story):
        self.clock, self.story, self.looks = clock, story, 0

    async def read_servers(self, api):
        assert api == "socket"
        self.looks += 1
        now_s = self.clock.now_ns() / 1e9
        address, health = next(rest for until, *rest in self.story if now_s < until)
        if address == "gone":
            raise OSError(address)
        server = ServerState(server="b/s", address=address, health=health)
        counters = {"dns": {"sent": 10 + self.looks, "valid": 3}}
        return ProxyLook(servers=[server], counters=counters)


def watch(story, *, api="socket", seconds=2.0):
    events = []

    async def scene():
        clock = VirtualClock()
        proxy = Proxy(clock, story)
        async with ServerPoller(proxy).closely(api, CellRecorder(clock, "c1", events.append)):
            await sleep(clock, seconds)
        looks = proxy.looks
        await sleep(clock, 1.0)
        assert proxy.looks == looks  # it has ended
        return looks

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return events, runner.run(scene())


def test_changes_are_told_with_the_half_of_the_pause_as_error():
    story = [(0.52, "a", "up"), (0.91, None, "maint"), (1.33, "b", "down"), (9, "b", "up")]
    events, looks = watch(story)
    told = [(e.what, e.data.get("old"), e.data.get("new")) for e in stored.lines(events[:-1])]
    assert told == [
        ("maint", None, None),
        ("address_changed", None, "b"),
        ("down", None, None),
        ("up", None, None),
    ]
    for event, at_s in zip(stored.lines(events), (0.52, 0.91, 0.91, 1.33), strict=False):
        assert event.source == "proxy.api"
        assert event.data["server"] == "b/s"
        assert abs(event.at_ns - at_s * 1e9) <= event.error_ns <= LOOK_S * 1e9
    assert looks == pytest.approx(2.0 / LOOK_S, abs=2)


def test_in_the_end_it_tells_what_was_counted_meanwhile():
    events, looks = watch([(9, "a", "up")])
    (counted,) = stored.lines(events)
    assert counted.what == "counted"
    assert counted.data["counters"] == {"dns": {"sent": looks - 1}}


def test_a_proxy_that_does_not_answer_is_waited_for():
    story = [(0.5, "a", "up"), (1.0, "gone", "down"), (9, "b", "up")]
    events, _ = watch(story)
    (changed, _) = stored.lines(events)
    assert changed.what == "address_changed"
    # It may have changed at any time since it was last heard of.
    assert changed.at_ns - changed.error_ns <= 500 * MS
    assert changed.at_ns + changed.error_ns >= 1000 * MS


def test_without_an_api_nothing_is_asked():
    assert watch([], api=None) == ([], 0)


def test_what_changed_between_two_cycles_is_told_by_the_next_look():
    events = []

    async def scene():
        clock = VirtualClock()
        proxy = Proxy(clock, [(1.5, "a", "up"), (4.0, "a", "down"), (99, "a", "up")])
        watch, recorder = ServerPoller(proxy), CellRecorder(clock, "c1", events.append)
        async with watch.closely("socket", recorder):
            await sleep(clock, 1.0)
        for _ in range(3):
            await sleep(clock, 2.0)
            assert await watch.look("socket", recorder)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene())
    told = [event for event in stored.lines(events) if event.what != "counted"]
    assert [event.what for event in told] == ["down", "up"]
    for event, at_s in zip(told, (1.5, 4.0), strict=True):
        assert abs(event.at_ns - at_s * 1e9) <= event.error_ns <= 1050 * MS
