"""When a cell asks densely: from before a fault until all that has come in says it is over."""

from __future__ import annotations

from chaosd.engine.pacing import Pacing
from chaosd.engine.recorder import CellRecorder
from chaosd.history.events import AnyEvent, StreamPaced
from chaosd.history.values import Outcome, Sample, StreamSpec

MS, SECOND = 1_000_000, 1_000_000_000
MAIN, OTHER, DIRECT = 1, 2, 3


class Cell:
    """A Pacing, and what it does: stored first, then told to the prober."""

    def __init__(self, idle_every: int = 10) -> None:
        self.did: list[tuple[str, int, bool]] = []
        specs = [
            StreamSpec(MAIN, "c1", "http", "proxy", 10 * MS, idle_every),
            StreamSpec(OTHER, "c1", "other", "proxy", 10 * MS),
            StreamSpec(DIRECT, "c1", "direct", "direct", 10 * MS, idle_every),
        ]
        self.pacing = Pacing(specs, self, CellRecorder(self, "c1", self.emit), SECOND)  # type: ignore[arg-type]

    def now_ns(self) -> int:
        return 0

    def emit(self, event: AnyEvent) -> None:
        assert isinstance(event.what, StreamPaced)
        self.did.append(("stored", event.what.stream, event.what.dense))

    def pace(self, stream: int, *, dense: bool) -> None:
        self.did.append(("told", stream, dense))

    def hear(self, at_ms: int, took_ms: int = 1, *, good: bool = True, new: bool = False) -> None:
        at_ns, outcome = at_ms * MS, Outcome.OK if good else Outcome.TIMEOUT
        sample = Sample(MAIN, at_ns, at_ns, at_ns + took_ms * MS, outcome, 200, "a")
        self.pacing.heard(sample, good=good, new=new)

    def changes(self) -> list[tuple[str, int, bool]]:
        did, self.did = self.did, []
        return did


def both(stream: int, *, dense: bool) -> list[tuple[str, int, bool]]:
    return [("stored", stream, dense), ("told", stream, dense)]


def test_only_what_idles_is_told_and_once() -> None:
    cell = Cell()
    cell.pacing.around_fault(dense=True)
    cell.pacing.around_fault(dense=True)
    assert cell.changes() == both(MAIN, dense=True)
    cell.pacing.until_answered(dense=True)
    cell.pacing.until_answered(dense=False)
    assert cell.changes() == [*both(DIRECT, dense=True), *both(DIRECT, dense=False)]
    cell.pacing.around_fault(dense=False)
    assert cell.changes() == both(MAIN, dense=False)
    never = Cell(idle_every=1)
    never.pacing.around_fault(dense=True)
    never.pacing.until_answered(dense=True)
    assert never.changes() == []


def test_it_is_dense_until_the_new_instance_has_served_for_as_long_as_stable_is() -> None:
    cell = Cell()
    cell.pacing.around_fault(dense=True)
    cell.changes()
    cell.hear(0)  # of the old one: it begins nothing
    cell.hear(10, good=False)
    cell.hear(2000, new=True)
    for at_ms in range(2010, 3000, 10):
        cell.hear(at_ms)
    assert cell.changes() == []
    cell.hear(3010)
    assert cell.changes() == both(MAIN, dense=False)
    # One that was asked in the outage fails late: that is known, and changes nothing.
    cell.hear(20, 2000, good=False)
    assert cell.changes() == []


def test_a_late_failure_that_was_asked_after_the_recovery_makes_it_dense_again() -> None:
    cell = Cell()
    cell.pacing.around_fault(dense=True)
    cell.hear(2000, new=True)
    cell.hear(3010)
    cell.changes()
    cell.hear(2500, 2000, good=False)
    assert cell.changes() == both(MAIN, dense=True)
    cell.hear(4600, new=True)
    cell.hear(5000)
    assert cell.changes() == []
    cell.hear(5610)
    assert cell.changes() == both(MAIN, dense=False)
