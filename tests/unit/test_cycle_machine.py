"""The cycle's machine: for any order of what is heard it keeps its promises."""

from __future__ import annotations

import budget
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosd.engine.cycle_machine import (
    MAIN,
    AllDone,
    Began,
    Broke,
    CycleMachine,
    Due,
    End,
    Enter,
    FailRun,
    Heard,
    Leave,
    Limits,
    NotUndone,
    Over,
    Refused,
    Restored,
    Span,
    Spoilt,
    Stands,
    State,
    Stopped,
    ToDo,
    Undone,
    WakeAt,
    Woke,
)
from chaosd.history.causes import Cause, CauseKind

LIMITS = Limits(enter_ns=100, observe_ns=1_000, undo_ns=50, undo_at_stop_ns=10)
MACHINE = Cause(kind=CauseKind.MACHINE, detail="broken")
BUG = Cause(kind=CauseKind.BUG)
SPOILT = Cause(kind=CauseKind.NOT_FRESH, detail="10.0.0.1")

spans = st.lists(
    st.builds(
        Span,
        at_ns=st.integers(-40, 200),
        window_ns=st.none() | st.integers(1, 300),
    ),
    max_size=3,
).flatmap(
    lambda others: st.builds(
        lambda window: [Span(window_ns=window), *others], st.none() | st.integers(1, 300)
    )
)
causes = st.sampled_from([MACHINE, BUG])


def heards(count: int) -> st.SearchStrategy:
    """Anything that may be heard, in any order; instants are filled in later."""
    which = st.integers(0, count - 1)
    return st.one_of(
        st.builds(Due, at_ns=st.just(0), steady=st.booleans()),
        st.builds(Began, at_ns=st.just(0), which=which),
        st.builds(Stands, at_ns=st.just(0), which=which),
        st.builds(Refused, at_ns=st.just(0), which=which, cause=causes),
        st.builds(Woke, at_ns=st.just(0)),
        st.builds(Over, at_ns=st.just(0), over_ns=st.just(0)),
        st.builds(Undone, at_ns=st.just(0), which=which),
        st.builds(NotUndone, at_ns=st.just(0), which=which, why=st.just("stuck")),
        st.builds(Stopped, at_ns=st.just(0), failing=st.booleans()),
        st.builds(Spoilt, at_ns=st.just(0), cause=st.just(SPOILT)),
        st.builds(Broke, at_ns=st.just(0), cause=causes),
    )


def dated(heard: Heard, at_ns: int) -> Heard:
    values = {name: getattr(heard, name) for name in heard.__slots__} | {"at_ns": at_ns}
    if isinstance(heard, Over):
        values["over_ns"] = at_ns
    return type(heard)(**values)


class Watched:
    """A machine, with its promises checked at every step."""

    def __init__(self, spans: list[Span]) -> None:
        self.machine = CycleMachine(spans, LIMITS)
        self.done: list[ToDo] = []
        self.heard: list[Heard] = []

    def hear(self, heard: Heard) -> list[ToDo]:
        before, before_ns = self.machine.state, self.machine.now_ns
        cause = self.machine.cause
        to_do = self.machine.hear(heard)
        assert before is not State.ENDED or (to_do == [] and self.machine.state is State.ENDED)
        assert self.machine.now_ns >= before_ns
        assert cause is None or self.machine.cause == cause, "the first cause is the cause"
        if before is State.UNDOING:
            assert self.machine.state in (State.UNDOING, State.ENDED)
            assert not any(isinstance(each, Enter | AllDone | Restored) for each in to_do)
        for each in to_do:
            self._check(each)
            self.done.append(each)
        self.heard.append(heard)
        return to_do

    def of(self, kind: type) -> list:
        return [each for each in self.done if isinstance(each, kind)]

    def _check(self, each: ToDo) -> None:
        assert not self.of(End), "something is to be done after the end"
        entered = [e.which for e in self.of(Enter)]
        left = [e.which for e in self.of(Leave)]
        if isinstance(each, Enter):
            assert each.which not in entered
        if isinstance(each, Leave):
            assert each.which in entered
            assert each.which not in left
            assert each.limit_ns > 0
        if isinstance(each, AllDone):
            assert not self.of(AllDone)
            assert any(isinstance(h, Began) and h.which == MAIN for h in self.heard)
        if isinstance(each, WakeAt) and each.at_ns is not None:
            assert each.at_ns > self.machine.now_ns, "it would be woken at once, again and again"
        if isinstance(each, End):
            assert sorted(left) == sorted(entered)
            assert each.cause == self.machine.cause

    def finish(self) -> None:
        """Answer what is asked, and hear a stop: it ends within so many steps."""
        if self.machine.state is State.PLANNED:
            self.hear(Stopped(at_ns=self.machine.now_ns, failing=False))
        self.hear(Stopped(at_ns=self.machine.now_ns, failing=False))
        for _ in range(2 * len(self.machine._parts) + 1):
            open_ = [e.which for e in self.of(Leave) if not self._answered(e.which)]
            if not open_:
                break
            self.hear(Undone(at_ns=self.machine.now_ns, which=open_[0]))
        assert self.machine.state is State.ENDED
        assert len(self.of(End)) == 1

    def _answered(self, which: int) -> bool:
        return self.machine._parts[which].phase.value == "gone"


@settings(max_examples=budget.of(100, 1000), deadline=None)
@given(st.data())
def test_whatever_is_heard_in_whatever_order(data) -> None:
    of = data.draw(spans)
    watched = Watched(of)
    steps = st.lists(st.tuples(heards(len(of)), st.integers(-5, 120)), max_size=40)
    at_ns = 0
    if data.draw(st.booleans()):  # so that the rest meets one that has begun
        for first in (Due(at_ns=0, steady=True), Began(at_ns=50, which=MAIN)):
            watched.hear(first)
            at_ns = first.at_ns
    for heard, passed_ns in data.draw(steps):
        at_ns = max(0, at_ns + passed_ns)  # a queue may be late: time may seem to go back
        watched.hear(dated(heard, at_ns))
    watched.finish()


class World:
    """A world that does what the machine says, each thing after some time of its own."""

    def __init__(self, of: list[Span], times: list[int], over_after_ns: int | None) -> None:
        self.watched = Watched(of)
        self.spans, self.times, self.over_after_ns = of, times, over_after_ns
        self.ahead: list[tuple[int, int, Heard]] = []
        self.wake_ns: int | None = None
        self.numbered = 0
        self.log: list[tuple[int, ToDo]] = []
        self.left_at_last: list[int] = []

    def later(self, at_ns: int, heard: Heard) -> None:
        self.numbered += 1
        self.ahead.append((at_ns, self.numbered, dated(heard, at_ns)))

    def time(self) -> int:
        self.times = [*self.times[1:], self.times[0]]
        return self.times[0]

    def run(self, stop_ns: int | None, *, failing: bool = False) -> Cause | None:
        self.later(0, Due(at_ns=0, steady=True))
        if stop_ns is not None:
            self.later(stop_ns, Stopped(at_ns=stop_ns, failing=failing))
        for _ in range(200):
            if self.watched.machine.state is State.ENDED:
                (end,) = self.watched.of(End)
                return end.cause
            if self.wake_ns is not None:
                ahead = [*self.ahead, (self.wake_ns, 0, Woke(at_ns=self.wake_ns))]
            else:
                ahead = self.ahead
            assert ahead, f"nothing will ever happen in {self.watched.machine.state}"
            at_ns, number, heard = min(ahead, key=lambda each: each[:2])
            if number:
                self.ahead.remove((at_ns, number, heard))
            else:
                self.wake_ns = None
            to_do = self.watched.hear(heard)
            if self.watched.machine.state is State.UNDOING:
                self.left_at_last += [e.which for e in to_do if isinstance(e, Leave)]
            for each in to_do:
                self.log.append((at_ns, each))
                self.do(at_ns, each)
        raise AssertionError("it never ends")

    def do(self, at_ns: int, each: ToDo) -> None:
        match each:
            case Enter(which=which):
                began_ns = at_ns + self.time() % 20
                self.later(began_ns, Began(at_ns=began_ns, which=which))
                self.later(began_ns + self.time(), Stands(at_ns=0, which=which))
            case Leave(which=which):
                self.later(at_ns + self.time() % 10, Undone(at_ns=0, which=which))
            case WakeAt(at_ns=wake_ns):
                self.wake_ns = wake_ns
            case AllDone() if self.over_after_ns is not None:
                over_ns = at_ns + self.over_after_ns
                self.later(over_ns, Over(at_ns=over_ns, over_ns=over_ns))


@settings(max_examples=budget.of(100, 1000), deadline=None)
@given(
    spans,
    st.lists(st.integers(0, 70), min_size=5, max_size=5),
    st.integers(1, 900),
    st.none() | st.integers(0, 1_500),
    st.booleans(),
)
def test_in_a_world_that_answers(of, times, over_after_ns, stop_ns, failing) -> None:
    """Each disturbance comes and goes at its time, the last one first, and a stop is a stop."""
    world = World(of, times, over_after_ns)
    cause = world.run(stop_ns, failing=failing)
    ended_ns = world.log[-1][0]
    stopped = stop_ns is not None and cause is not None
    if stopped:
        assert cause == Cause(kind=CauseKind.RUN_FAILED if failing else CauseKind.STOPPED)
        assert ended_ns <= stop_ns + 10 * (len(of) + 1)
    else:
        assert cause is None
        assert len(world.watched.of(Enter)) == len(of)
    check_times(world, of, whole=not stopped)


def check_times(world: World, of: list[Span], *, whole: bool) -> None:
    at = {(type(e), e.which): ns for ns, e in world.log if isinstance(e, Enter | Leave | Restored)}
    began = {h.which: h.at_ns for h in world.watched.heard if isinstance(h, Began)}
    stands = {h.which: h.at_ns for h in world.watched.heard if isinstance(h, Stands)}
    for which, span in enumerate(of):
        entered_ns = at.get((Enter, which))
        if entered_ns is None:
            continue
        if which != MAIN and span.at_ns >= 0:
            assert entered_ns == began[MAIN] + span.at_ns
        elif MAIN in began:
            assert entered_ns <= began[MAIN] + span.at_ns
        restored = (Restored, which) in at
        if restored:
            assert at[Leave, which] == max(stands[which], began[which] + span.window_ns)
        assert restored or not whole or span.window_ns is None
    entered = [e.which for e in world.watched.of(Enter)]
    assert world.left_at_last == [w for w in reversed(entered) if w in world.left_at_last]


def heard(watched: Watched, *those: Heard) -> list[ToDo]:
    return [each for one in those for each in watched.hear(one)]


def up_to(state: State) -> Watched:
    """A machine with a windowed fault, in this state."""
    watched = Watched([Span(window_ns=20)])
    steps: list[tuple[State, Heard]] = [
        (State.PLANNED, Due(at_ns=10, steady=True)),
        (State.INJECTING, Began(at_ns=12, which=MAIN)),
        (State.INJECTING, Stands(at_ns=15, which=MAIN)),
        (State.DISTURBED, Woke(at_ns=32)),
        (State.DISTURBED, Undone(at_ns=33, which=MAIN)),
        (State.OBSERVING, Over(at_ns=90, over_ns=88)),
    ]
    for _, step in steps:
        if watched.machine.state is state:
            return watched
        watched.hear(step)
    return watched


def test_the_plain_way() -> None:
    watched = up_to(State.ENDED)
    assert [each for each in watched.done if not isinstance(each, WakeAt)] == [
        Enter(which=MAIN),
        Leave(which=MAIN, limit_ns=50),
        Restored(which=MAIN),
        AllDone(),
        End(over_ns=88, cause=None),
    ]
    assert [each.at_ns for each in watched.of(WakeAt)] == [110, 32, 1_033, None]


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize(
    "state", [State.PLANNED, State.INJECTING, State.DISTURBED, State.OBSERVING]
)
def test_a_stop_in_each_state(state, failing) -> None:
    watched = up_to(state)
    watched.hear(Stopped(at_ns=40, failing=failing))
    assert watched.machine.ending
    if any(not watched._answered(e.which) for e in watched.of(Leave)):
        assert watched.of(Leave)[-1].limit_ns >= LIMITS.undo_at_stop_ns
        watched.hear(Undone(at_ns=41, which=MAIN))
    (end,) = watched.of(End)
    assert end.cause == Cause(kind=CauseKind.RUN_FAILED if failing else CauseKind.STOPPED)


def test_a_stop_while_a_complete_cycle_is_undone_leaves_it_complete() -> None:
    watched = Watched([Span()])
    heard(watched, Due(at_ns=0, steady=True), Began(at_ns=1, which=0), Stands(at_ns=5, which=0))
    heard(watched, Over(at_ns=50, over_ns=49), Stopped(at_ns=51, failing=False))
    assert watched.machine.state is State.UNDOING
    assert not watched.machine.ending
    assert watched.hear(Undone(at_ns=52, which=0)) == [End(over_ns=49, cause=None)]


def test_an_unsteady_app_is_not_disturbed() -> None:
    watched = Watched([Span(), Span(at_ns=-5)])
    end = End(over_ns=None, cause=Cause(kind=CauseKind.NOT_STEADY, detail="b/s DOWN, x"))
    assert watched.hear(Due(at_ns=0, steady=False, seen="b/s DOWN, x")) == [end]


@pytest.mark.parametrize("window_ns", [None, 20])
def test_what_cannot_be_undone_ends_the_run(window_ns) -> None:
    """At the end of the window as at the end of the cycle."""
    watched = Watched([Span(window_ns=window_ns)])
    heard(watched, Due(at_ns=0, steady=True), Began(at_ns=1, which=0), Stands(at_ns=5, which=0))
    heard(watched, Woke(at_ns=21) if window_ns else Over(at_ns=50, over_ns=49))
    cause = Cause(kind=CauseKind.NOT_UNDONE, detail="stuck")
    over_ns = None if window_ns else 49
    to_do = watched.hear(NotUndone(at_ns=60, which=0, why="stuck"))
    assert [each for each in to_do if not isinstance(each, WakeAt)] == [
        FailRun(cause=cause, which=0),
        End(over_ns=over_ns, cause=cause),
    ]


def test_what_cannot_be_undone_at_a_stop_does_not() -> None:
    watched = Watched([Span()])
    heard(watched, Due(at_ns=0, steady=True), Began(at_ns=1, which=0), Stands(at_ns=5, which=0))
    heard(watched, Stopped(at_ns=9, failing=False), NotUndone(at_ns=20, which=0, why="stuck"))
    assert not watched.of(FailRun)
    assert watched.of(End) == [End(over_ns=None, cause=Cause(kind=CauseKind.STOPPED))]


def test_a_fault_that_takes_too_long_or_never_begins_or_breaks() -> None:
    for said, kind in (
        ([Woke(at_ns=100)], CauseKind.TOO_LONG),
        ([Stands(at_ns=5, which=0)], CauseKind.NO_BEGINNING),
        ([Refused(at_ns=5, which=0, cause=MACHINE)], CauseKind.MACHINE),
        ([Spoilt(at_ns=3, cause=SPOILT), Broke(at_ns=5, cause=MACHINE)], CauseKind.NOT_FRESH),
    ):
        watched = Watched([Span()])
        heard(watched, Due(at_ns=0, steady=True), *said, Undone(at_ns=101, which=0))
        (end,) = watched.of(End)
        assert end.cause is not None
        assert end.cause.kind is kind


def test_what_is_heard_at_a_wrong_time_changes_nothing() -> None:
    watched = Watched([Span(window_ns=20), Span(at_ns=5)])
    heard(watched, Began(at_ns=0, which=MAIN), Over(at_ns=0, over_ns=0), Stands(at_ns=0, which=0))
    heard(watched, Due(at_ns=10, steady=True), Began(at_ns=11, which=1), Began(at_ns=12, which=0))
    heard(watched, Began(at_ns=14, which=MAIN), Undone(at_ns=14, which=0))
    assert watched.hear(Woke(at_ns=17)) == [Enter(which=1), WakeAt(at_ns=110)]
    heard(watched, Stands(at_ns=20, which=0), Over(at_ns=25, over_ns=24))
    assert watched.machine.state is State.DISTURBED  # a window lasts: it is not over before
    assert watched.hear(Woke(at_ns=32))[0] == Leave(which=0, limit_ns=50)  # from the first T0
    heard(watched, Stands(at_ns=33, which=0), Woke(at_ns=60))
    assert len(watched.of(Leave)) == 1


def test_how_long_undoing_may_take() -> None:
    """All of it together so long as the limit says, and each a second at least."""
    second = 1_000_000_000
    limits = Limits(enter_ns=100, observe_ns=99, undo_ns=180 * second, undo_at_stop_ns=10 * second)
    for end, limit_s in ((Over(at_ns=9, over_ns=8), 180), (Stopped(at_ns=9, failing=False), 10)):
        machine = CycleMachine([Span(), Span(at_ns=0), Span(at_ns=0)], limits)
        for step in (Due(at_ns=0, steady=True), Began(at_ns=0, which=MAIN)):
            machine.hear(step)
        for which in range(3):
            machine.hear(Stands(at_ns=5, which=which))
        given = [*machine.hear(end)]
        given += machine.hear(Undone(at_ns=9 + 4 * second, which=2))
        given += machine.hear(Undone(at_ns=9 + limit_s * second, which=1))
        left = [(e.which, e.limit_ns / second) for e in given if isinstance(e, Leave)]
        assert left == [(2, limit_s), (1, limit_s - 4), (0, 1)]


def test_a_prober_that_delivers_nothing_ends_the_run() -> None:
    watched = Watched([Span()])
    heard(watched, Due(at_ns=0, steady=True), Began(at_ns=1, which=0), Stands(at_ns=5, which=0))
    heard(watched, Woke(at_ns=1_005), Undone(at_ns=1_006, which=0))
    cause = Cause(kind=CauseKind.NO_SAMPLES)
    assert watched.of(FailRun) == [FailRun(cause=cause)]
    assert watched.of(End) == [End(over_ns=None, cause=cause)]
