"""A cycle's life as a state machine: what is heard goes in, what is to be done comes out.

No clock, no task and no file belongs in here. What is heard carries its instant, in nanoseconds of
the run's clock. A cycle has one or more disturbances: number 0 is its fault, the others come with
it. Each is entered once at most and left once if it was entered, the last one first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chaosd.history.causes import Cause, CauseKind
from chaosd.system.clock import SECOND_NS

MAIN = 0  # the number of the cycle's own fault
UNDO_NS_MIN = SECOND_NS  # each has so much time, however long those before it took


class State(StrEnum):
    """How far a cycle is."""

    PLANNED = "planned"
    INJECTING = "injecting"  # until the fault stands
    DISTURBED = "disturbed"  # the fault stands, and something lasts that ends before the cycle does
    OBSERVING = "observing"  # all is done that was to be done; the samples say when it is over
    UNDOING = "undoing"  # whatever still stands
    ENDED = "ended"


class Phase(StrEnum):
    """How far one disturbance is."""

    WAITING = "waiting"
    ENTERING = "entering"
    STANDING = "standing"
    LEAVING = "leaving"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """When a disturbance comes, after T0 (before it if negative), and how long it lasts.

    Without a window it lasts until the observation is over.
    """

    at_ns: int = 0
    window_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long each step may take, in nanoseconds."""

    enter_ns: int
    observe_ns: int  # from when all is done until the samples say that it is over
    undo_ns: int  # all that stands
    undo_at_stop_ns: int  # the same, where everything is taken down right afterwards


# --- what is heard -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The cycle's time has come; `steady`: the app answers steadily, and if not, `seen` is why."""

    at_ns: int
    steady: bool
    seen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """A disturbance has said that it begins now; that of `MAIN` is T0."""

    at_ns: int
    which: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stands:
    """All that a disturbance does on its way in is done."""

    at_ns: int
    which: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A disturbance could not be entered."""

    at_ns: int
    which: int
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Woke:
    """The instant of the last `WakeAt` has come."""

    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """The samples say that the observation was over at `over_ns`."""

    at_ns: int
    over_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """A disturbance has been undone."""

    at_ns: int
    which: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUndone:
    """A disturbance can't be undone."""

    at_ns: int
    which: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The run ends; `failing`: because something went wrong."""

    at_ns: int
    failing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoilt:
    """The cycle is no sample any more, but it goes on."""

    at_ns: int
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """Something that the cycle needs has failed: it can't go on."""

    at_ns: int
    cause: Cause


Heard = (
    Due | Began | Stands | Refused | Woke | Over | Undone | NotUndone | Stopped | Spoilt | Broke
)  # fmt: skip


# --- what is to be done --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Enter:
    """Let this disturbance begin; answer with Began and Stands, or with Refused."""

    which: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Undo this disturbance, however far it has come; answer with Undone or NotUndone."""

    which: int
    limit_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Say `Woke` at this instant, and at no other; None: never."""

    at_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The window of a disturbance is over and it has been undone: write it down."""

    which: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllDone:
    """All that was to be done before the observation can be over is done: write it down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailRun:
    """The run can't go on; `which` can't be undone, if it is one of them."""

    cause: Cause
    which: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The cycle has ended. `over_ns` is when the observation was over; None: it was cut off."""

    over_ns: int | None
    cause: Cause | None


ToDo = Enter | Leave | WakeAt | Restored | AllDone | FailRun | End


class _Progress:
    """One disturbance, and how far it is."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.phase = Phase.WAITING
        self.entered_ns = 0
        self.began_ns: int | None = None

    @property
    def is_done(self) -> bool:
        """Whether the observation need not wait for it any more."""
        stands = self.phase is Phase.STANDING and self.span.window_ns is None
        return stands or self.phase is Phase.GONE

    def ends_ns(self) -> int | None:
        """When its window is over, once it stands."""
        if self.phase is not Phase.STANDING or self.span.window_ns is None:
            return None
        return (self.entered_ns if self.began_ns is None else self.began_ns) + self.span.window_ns


class CycleMachine:
    """What a cycle does next, from what it has heard so far."""

    def __init__(self, spans: Sequence[Span], limits: Limits) -> None:
        self.state = State.PLANNED
        self.cause: Cause | None = None  # the first thing that makes it no sample
        self.ending = False  # the run ends: what is undone now is taken down right afterwards
        self.now_ns = 0
        self._parts = [_Progress(span) for span in spans]
        self._limits = limits
        self._entered: list[int] = []  # in their order
        self._lead_ns = max(0, *(-span.at_ns for span in spans))
        self._due_ns: int | None = None
        self._observe_by_ns = self._undo_by_ns = 0
        self._over_ns: int | None = None
        self._wake_ns: int | None = None
        self._to_do: list[ToDo] = []

    def hear(self, heard: Heard) -> list[ToDo]:
        """Take this in, and say what is to be done now, in this order."""
        if self.state is State.ENDED:
            return []
        self.now_ns = max(self.now_ns, heard.at_ns)
        self._to_do = []
        match heard:
            case Due(steady=steady, seen=seen):
                self._due(seen, steady=steady)
            case Began(at_ns=at_ns, which=which):
                self._began(self._parts[which], at_ns)
            case Stands(which=which):
                self._stands(which)
            case Refused(which=which, cause=cause):
                if self._parts[which].phase is Phase.ENTERING:
                    self._abort(cause)
            case Over(over_ns=over_ns):
                if self._parts[MAIN].began_ns is not None and self._over_ns is None:
                    self._over_ns = over_ns
            case Undone(which=which):
                self._undone(which)
            case NotUndone(which=which, why=why):
                self._not_undone(which, why)
            case Stopped(failing=failing):
                self._stop(failing=failing)
            case Spoilt(cause=cause):
                self.cause = self.cause or cause
            case Broke(cause=cause):
                self._abort(cause)
            case Woke():
                self._wake_ns = None
        self._go_on()
        return self._to_do

    # --- what each thing that is heard means ---

    def _due(self, seen: str, *, steady: bool) -> None:
        if self.state is not State.PLANNED:
            return
        if not steady:
            self._abort(Cause(kind=CauseKind.NOT_STEADY, detail=seen))
            return
        self.state, self._due_ns = State.INJECTING, self.now_ns

    def _began(self, part: _Progress, at_ns: int) -> None:
        if part.phase is Phase.ENTERING and part.began_ns is None:
            part.began_ns = max(at_ns, part.entered_ns)

    def _stands(self, which: int) -> None:
        part = self._parts[which]
        if part.phase is not Phase.ENTERING:
            return
        part.phase = Phase.STANDING
        if which == MAIN and part.began_ns is None:
            self._abort(Cause(kind=CauseKind.NO_BEGINNING))

    def _undone(self, which: int) -> None:
        part = self._parts[which]
        if part.phase is Phase.LEAVING:
            part.phase = Phase.GONE
            if self.state is not State.UNDOING:
                self._to_do.append(Restored(which=which))

    def _not_undone(self, which: int, why: str) -> None:
        part = self._parts[which]
        if part.phase is not Phase.LEAVING:
            return
        part.phase = Phase.GONE
        cause = Cause(kind=CauseKind.NOT_UNDONE, detail=why)
        if not self.ending:  # else all is taken down now anyway
            self._to_do.append(FailRun(cause=cause, which=which))
        self._abort(cause)

    def _stop(self, *, failing: bool) -> None:
        if self.state is not State.UNDOING:  # else it is as good as over
            self.ending = True
            self._abort(Cause(kind=CauseKind.RUN_FAILED if failing else CauseKind.STOPPED))

    def _abort(self, cause: Cause) -> None:
        self.cause = self.cause or cause
        self._undo()

    def _undo(self) -> None:
        if self.state is not State.UNDOING:
            self.state = State.UNDOING
            limits = self._limits
            limit_ns = limits.undo_at_stop_ns if self.ending else limits.undo_ns
            self._undo_by_ns = self.now_ns + limit_ns

    # --- what follows from how far all is ---

    def _go_on(self) -> None:
        if self.state in (State.INJECTING, State.DISTURBED, State.OBSERVING):
            self._look_at_time()
        if self.state in (State.INJECTING, State.DISTURBED) and self._has_t0_and_stands():
            self._settle()
        if self.state is State.OBSERVING and self._over_ns is not None:
            self._undo()
        self._wake()
        if self.state is State.UNDOING:
            self._undo_next()

    def _look_at_time(self) -> None:
        for which, part in enumerate(self._parts):
            starts_ns = self._starts_ns(which)
            if part.phase is Phase.WAITING and starts_ns is not None and starts_ns <= self.now_ns:
                part.phase, part.entered_ns = Phase.ENTERING, self.now_ns
                self._entered.append(which)
                self._to_do.append(Enter(which=which))
            elif part.phase is Phase.ENTERING and self._enter_by_ns(part) <= self.now_ns:
                seconds = self._limits.enter_ns / SECOND_NS
                self._abort(Cause(kind=CauseKind.TOO_LONG, seconds=seconds))
                return
            ends_ns = part.ends_ns()
            if ends_ns is not None and ends_ns <= self.now_ns:
                part.phase = Phase.LEAVING
                self._to_do.append(Leave(which=which, limit_ns=self._limits.undo_ns))
        if self.state is State.OBSERVING and self._observe_by_ns <= self.now_ns:
            cause = Cause(kind=CauseKind.NO_SAMPLES)
            if self._over_ns is None:
                self._to_do.append(FailRun(cause=cause))
                self._abort(cause)

    def _has_t0_and_stands(self) -> bool:
        return self._parts[MAIN].phase not in (Phase.WAITING, Phase.ENTERING)

    def _settle(self) -> None:
        if not all(part.is_done for part in self._parts):
            self.state = State.DISTURBED
            return
        self.state = State.OBSERVING
        self._observe_by_ns = self.now_ns + self._limits.observe_ns
        self._to_do.append(AllDone())

    def _undo_next(self) -> None:
        """Leave the last one that stands; once none does, the cycle has ended."""
        phases = [part.phase for part in self._parts]
        if Phase.LEAVING in phases:
            return
        for which in reversed(self._entered):
            if phases[which] is not Phase.GONE:
                self._parts[which].phase = Phase.LEAVING
                limit_ns = max(UNDO_NS_MIN, self._undo_by_ns - self.now_ns)
                self._to_do.append(Leave(which=which, limit_ns=limit_ns))
                return
        self.state = State.ENDED
        self._to_do.append(End(over_ns=self._over_ns, cause=self.cause))

    def _starts_ns(self, which: int) -> int | None:
        """When a disturbance is to be entered; None while that is not known."""
        at_ns, t0_ns = self._parts[which].span.at_ns, self._parts[MAIN].began_ns
        if which == MAIN or at_ns < 0:
            return None if self._due_ns is None else self._due_ns + self._lead_ns + at_ns
        return None if t0_ns is None else t0_ns + at_ns

    def _enter_by_ns(self, part: _Progress) -> int:
        return part.entered_ns + self._limits.enter_ns

    def _wake(self) -> None:
        """The next instant at which something is due, if it is another than before."""
        wake_ns = min(self._instants(), default=None)
        if wake_ns != self._wake_ns:
            self._wake_ns = wake_ns
            self._to_do.append(WakeAt(at_ns=wake_ns))

    def _instants(self) -> Iterable[int]:
        if self.state in (State.PLANNED, State.UNDOING, State.ENDED):
            return
        if self.state is State.OBSERVING:
            yield self._observe_by_ns
        for which, part in enumerate(self._parts):
            if part.phase is Phase.WAITING and (starts_ns := self._starts_ns(which)) is not None:
                yield starts_ns
            if part.phase is Phase.ENTERING:
                yield self._enter_by_ns(part)
            if (ends_ns := part.ends_ns()) is not None:
                yield ends_ns
