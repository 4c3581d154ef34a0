"""A stream's slots: each yields exactly one sample, whatever happens between."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.history.values import Address, Outcome
from chaosd.plugins.bases import ProbeConfig
from chaosd.probes import outcomes
from chaosd.probes.http import HttpProbe
from chaosd.probes.httpx import HttpxProbe
from chaosd.probes.wire import Reader, Writer
from chaosd.probes.worker import LATE_MAX_NS, RUN_MAX, Stream

HERE, THERE = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
MS = 1_000_000


class World:
    """A stream with time, timers, outbox and probe in the test's hand."""

    def __init__(self, interval_ns=10 * MS, timeout_ns=100 * MS, idle_every=1):
        self.now = 1_000 * MS
        self.fired = []  # (scheduled_ns, target)
        self.open = []
        self.abandoned = []
        self.full = False
        self.hurried = 0
        self.timers = []  # [ring, first_ns]: the ticks, then the expiry
        self.writer = Writer()
        self.reader = Reader()
        self.samples = []
        self.complete = 0
        self.interval_ns = interval_ns
        self.stream = Stream(
            7,
            self,
            self,
            interval_ns=interval_ns,
            timeout_ns=timeout_ns,
            idle_every=idle_every,
            timer=self.timer,
            now_ns=lambda: self.now,
        )

    def timer(self, ring):
        self.timers.append([ring, 0])
        mine = self.timers[-1]

        class FakeTimer:
            def set(self, first_ns, interval_ns=0):
                mine[1] = first_ns

            def close(self):
                pass

        return FakeTimer()

    def hurry(self):
        self.hurried += 1

    def fire(self, shot, target):
        shot.sent()
        self.fired.append((shot.scheduled_ns, target))
        self.open.append(shot)

    def abandon(self, shot):
        self.abandoned.append(shot.scheduled_ns)
        self.open.remove(shot)

    def answer(self, index=0, outcome=Outcome.OK, who="app"):
        if self.open:
            self.open.pop(index % len(self.open)).done(outcome, 200, who)

    def expire(self):
        ring, at_ns = self.timers[1]
        if at_ns and at_ns <= self.now:
            ring(self.now)

    def wait(self, ns):
        self.now += ns
        self.expire()
        self.stream.advance(self.now)

    def flush(self):
        """Deliver, and hold the stream to what it has promised."""
        data = self.writer.take([(7, self.stream.complete_ns(self.now))])
        ((samples, complete),) = self.reader.feed(data)
        assert all(sample.scheduled_ns >= self.complete for sample in samples)
        assert complete[7] >= self.complete
        self.samples += samples
        self.complete = complete[7]

    def finish(self):
        self.stream.aim(None, self.now)
        while self.open:
            self.answer()
        self.flush()
        assert self.complete >= self.now
        return sorted(sample.scheduled_ns for sample in self.samples)


steps = st.one_of(
    st.tuples(st.just("wait"), st.integers(0, 60 * MS)),
    st.tuples(st.just("aim"), st.sampled_from([HERE, THERE, None])),
    st.tuples(st.just("answer"), st.integers(0, 20)),
    st.tuples(st.just("full"), st.booleans()),
    st.tuples(st.just("pace"), st.booleans()),
    st.tuples(st.just("flush"), st.none()),
)


@given(
    st.lists(steps, max_size=60),
    st.integers(MS // 2, 30 * MS),
    st.integers(MS, 300 * MS),
    st.integers(1, 7),
)
def test_every_slot_of_an_aimed_stream_yields_exactly_one_sample(
    todo, interval_ns, timeout_ns, idle_every
):
    world = World(interval_ns, timeout_ns, idle_every)
    origin_ns, target, expected, since = world.stream._origin_ns, None, [], 0
    dense = False

    def slots(from_ns, to_ns):
        step_ns = interval_ns * (1 if dense else idle_every)
        first = max(-(-(from_ns - origin_ns) // step_ns), 0)
        return range(origin_ns + first * step_ns, to_ns + 1, step_ns)

    for what, value in todo:
        match what:
            case "aim":
                if target is None:
                    since = world.now
                elif value is None:
                    expected += slots(since, world.now)
                target = value
                world.stream.aim(value, world.now)
            case "pace":
                if target is not None:
                    expected += slots(since, world.now)
                since, dense = world.now + 1, value
                world.stream.pace(world.now, dense=value)
            case "full":
                world.full = value
            case "flush":
                world.flush()
            case _:
                getattr(world, what)(value)
    if target is not None:
        expected += slots(since, world.now)
    # Paused and aimed anew within an instant that is a slot: it is of both times, and sent once.
    assert world.finish() == sorted(set(expected))


def test_a_stream_that_idles_uses_a_part_of_its_slots_and_all_of_them_when_told():
    world = World(interval_ns=10 * MS, idle_every=5)
    world.stream.aim(HERE, world.now)
    first_ns = world.stream._due_ns

    def fired_after(ns):
        before = len(world.fired)
        world.wait(ns)
        return [(scheduled_ns - first_ns) // MS for scheduled_ns, _ in world.fired[before:]]

    assert fired_after(first_ns - world.now) == [0]
    assert fired_after(50 * MS) == [50]
    assert fired_after(12 * MS) == []
    world.stream.pace(world.now, dense=True)
    assert world.timers[0][1] == world.stream._due_ns == first_ns + 70 * MS
    assert fired_after(12 * MS) == [70]
    assert fired_after(10 * MS) == [80]
    world.stream.pace(world.now, dense=False)
    assert world.timers[0][1] == world.stream._due_ns == first_ns + 100 * MS
    assert fired_after(10 * MS) == []
    assert fired_after(10 * MS) == [100]
    # What was told to be complete stays so although more slots are used from now on.
    world.flush()
    assert world.complete <= world.now
    world.stream.pace(world.now, dense=True)
    world.wait(10 * MS)
    assert (world.finish()[-1] - first_ns) // MS == 110


def test_latency_counts_from_the_schedule_and_the_grid_never_shifts():
    world = World()
    world.stream.aim(HERE, world.now)
    for _ in range(10):
        world.wait(13 * MS)  # the loop is always a little late
        while world.open:
            world.answer()
    world.stream.aim(THERE, world.now)  # in full flight
    world.wait(20 * MS)
    world.stream.aim(None, world.now)
    world.wait(777_777)
    world.stream.aim(HERE, world.now)
    world.wait(25 * MS)
    scheduled = world.finish()
    origin_ns = world.stream._origin_ns
    assert all((ns - origin_ns) % world.interval_ns == 0 for ns in scheduled)
    assert all(sample.done_ns - sample.scheduled_ns >= 0 for sample in world.samples)
    assert {target for _, target in world.fired} == {HERE, THERE}
    late = world.samples[0]
    assert late.sent_ns == late.done_ns == 1_013 * MS
    assert late.scheduled_ns < 1_010 * MS


def test_what_is_late_is_dropped_and_what_is_only_a_little_late_is_sent():
    world = World(interval_ns=MS)
    world.stream.aim(HERE, world.now)
    world.wait(150 * MS)
    assert all(scheduled >= world.now - LATE_MAX_NS for scheduled, _ in world.fired)
    assert len(world.fired) in {50, 51}
    world.finish()
    dropped = [s for s in world.samples if s.outcome == Outcome.DROPPED]
    assert len(dropped) == 150 - len(world.fired)
    assert {s.sent_ns for s in dropped} == {1_150 * MS}
    slow = World(interval_ns=1_000 * MS, timeout_ns=5_000 * MS)
    slow.stream.aim(HERE, slow.now)
    slow.wait(slow.stream._due_ns - slow.now + 900 * MS)  # late, but within its own interval
    assert len(slow.fired) == 1


def test_a_pause_of_the_whole_process_is_told_in_pieces():
    world = World(interval_ns=MS)
    world.stream.aim(HERE, world.now)
    world.wait(3 * RUN_MAX * MS)
    assert not world.fired  # catching up
    for _ in range(3):
        world.wait(MS)
    assert world.fired
    assert len(world.finish()) == 3 * RUN_MAX + 3


def test_nothing_is_sent_that_could_not_be_told():
    world = World(interval_ns=MS)
    world.stream.aim(HERE, world.now)
    world.full = True
    world.wait(500 * MS)
    assert not world.fired
    world.flush()
    assert world.complete == world.stream._origin_ns  # nothing is promised of those slots
    world.full = False
    world.wait(MS)
    assert len(world.fired) in {50, 51}
    assert len(world.finish()) == 501


def test_a_dead_target_keeps_rate_times_timeout_in_flight_and_each_ends_at_its_deadline():
    world = World(interval_ns=MS, timeout_ns=200 * MS)
    world.stream.aim(HERE, world.now)
    for _ in range(1000):
        world.wait(MS)
        assert len(world.open) <= 202
    world.flush()
    assert len(world.fired) == 1000
    assert {s.outcome for s in world.samples} == {Outcome.TIMEOUT}
    assert all(200 * MS <= s.done_ns - s.scheduled_ns < 202 * MS for s in world.samples)
    assert world.abandoned == [s.scheduled_ns for s in world.samples]


def test_too_many_in_flight_are_dropped_at_once():
    world = World(interval_ns=MS, timeout_ns=10 * MS)
    world.stream.aim(HERE, world.now)
    world.timers[1][0] = lambda now: None  # deadlines that never strike
    for _ in range(500):
        world.wait(MS)
    assert len(world.open) == world.stream._in_flight_max
    assert len(world.finish()) == 500


def test_an_answer_after_the_deadline_is_a_timeout_and_an_unsent_shot_is_not_the_targets_fault():
    world = World(timeout_ns=50 * MS)
    world.stream.aim(HERE, world.now)
    world.wait(10 * MS)
    world.now += 55 * MS  # the answer is there before the timer rings
    world.answer()
    world.flush()
    assert world.samples[0].outcome == Outcome.TIMEOUT
    assert world.samples[0].who == ""
    world.fire = lambda shot, target: world.open.append(shot)  # never gets to send
    world.wait(0)
    world.wait(60 * MS)
    world.finish()
    assert Outcome.DROPPED in {s.outcome for s in world.samples[1:]}


def test_a_second_end_of_a_shot_is_ignored():
    world = World()
    world.stream.aim(HERE, world.now)
    world.wait(10 * MS)
    shot = world.open[0]
    shot.done(Outcome.RESET)
    shot.done(Outcome.OK, 200, "app")
    world.open.clear()
    world.finish()
    assert [s.outcome for s in world.samples] == [Outcome.RESET]


def test_changes_are_told_at_once_and_sameness_is_not():
    world = World()
    world.stream.aim(HERE, world.now)
    for who, outcome, hurried in [
        ("a", Outcome.OK, 1),
        ("a", Outcome.OK, 1),
        ("b", Outcome.OK, 2),
        ("", Outcome.RESET, 3),
        ("", Outcome.RESET, 3),
    ]:
        world.wait(10 * MS)
        world.answer(outcome=outcome, who=who)
        assert world.hurried == hurried


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (errno.ECONNREFUSED, Outcome.REFUSED),
        (errno.ECONNRESET, Outcome.RESET),
        (errno.EPIPE, Outcome.RESET),
        (errno.EHOSTUNREACH, Outcome.UNREACHABLE),
        (errno.ENETUNREACH, Outcome.UNREACHABLE),
        (errno.EMFILE, Outcome.DROPPED),
        (errno.ENFILE, Outcome.DROPPED),
        (errno.ENOBUFS, Outcome.DROPPED),
        (errno.EADDRNOTAVAIL, Outcome.DROPPED),
        (None, Outcome.RESET),
    ],
)
def test_operating_system_errors_have_their_outcome(number, outcome):
    assert outcomes.of_error(OSError(number, "")) == outcome


@pytest.mark.parametrize(
    "config",
    [
        HttpProbe.Config(rate="3/m", timeout="1.5s", path="/x?y=1", host="a.example"),
        HttpxProbe.Config(
            scheme="https",
            http2=True,
            verify=__file__,
            headers={"x-a": "b"},
            auth=HttpxProbe.Auth(username="u", password="p"),
        ),
    ],
    ids=["http", "httpx"],
)
def test_a_config_survives_the_way_to_the_prober(config: ProbeConfig):
    assert type(config).model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("probe", "part"),
    [
        (HttpProbe, {"path": "x"}),
        (HttpProbe, {"path": "/ HTTP/1.1\r\nX: y"}),
        (HttpProbe, {"host": "a\r\nX: y"}),
        (HttpProbe, {"connection": "old"}),
        (HttpProbe, {"method": "POST"}),
        (HttpxProbe, {"http2": True}),
        (HttpxProbe, {"headers": {"x": "a\nb"}}),
        (HttpxProbe, {"headers": {"x y": "a"}}),
        (HttpxProbe, {"verify": "/no/such/file"}),
    ],
)
def test_what_would_break_the_request_is_refused(probe, part):
    with pytest.raises(ValueError, match=next(iter(part))):
        probe.Config.model_validate({"type": "http" if probe is HttpProbe else "httpx"} | part)
