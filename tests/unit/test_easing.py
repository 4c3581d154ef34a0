"""Fewer cycles are made while the machine is late by what chaosd does on it, and then all again."""

from __future__ import annotations

from chaosd.engine.easing import BUSY, Cpu, Easing
from chaosd.history.causes import Doubt, DoubtKind, LagKind

WAITED = Doubt(kind=DoubtKind.WORLD_LATE, lag=LagKind.PROXY_WAITED, seconds=0.4)
STOPPED = Doubt(kind=DoubtKind.WORLD_LATE, lag=LagKind.PROXY_STOPPED, seconds=2.0)
FULL = Doubt(kind=DoubtKind.WORLD_LATE, lag=LagKind.CONNTRACK_FULL, count=7)
LATE_PROBES = Doubt(kind=DoubtKind.PROBES_LATE, seconds=0.03)


class World:
    """So many cells on a machine of which chaosd uses such a part of what is used."""

    def __init__(self, cells: int = 1, ours: float = 0.9) -> None:
        self.ours, self.seconds = ours, 0.0
        self.easing = Easing(self.cpu, cells)

    def cpu(self) -> Cpu:
        self.seconds += 1
        return Cpu(self.ours * self.seconds, self.seconds)

    def end(self, count: int, *doubts: Doubt):
        """So many cycles end, of which the first ones have these doubts; what is said of it."""
        said = [self.easing.ended(d) for d in [*doubts, *[None] * (count - len(doubts))]]
        return [each for each in said if each is not None]

    def begun(self) -> list[int]:
        return [n for n in range(1, 17) if self.easing.begins(n)]


def test_every_second_cycle_then_every_fourth_and_all_again() -> None:
    world = World()
    assert len(world.begun()) == 16
    (said,) = world.end(20, *[WAITED] * 3)
    assert (said.late, said.judged, said.latest, said.eased) == (3, 20, WAITED, True)
    assert world.begun() == [2, 4, 6, 8, 10, 12, 14, 16]
    assert world.end(20, *[WAITED] * 3) == []  # said once
    assert world.begun() == [4, 8, 12, 16]
    for _ in range(5):
        world.end(20, *[LATE_PROBES] * 20)
    assert world.begun() == [8, 16]  # never none
    world.end(20, WAITED)
    assert world.begun() == [8, 16]  # not late, but not calm either
    for count in (4, 8, 16, 16):
        world.end(20)
        assert len(world.begun()) == count


def test_a_tenth_is_no_more_than_bad_luck() -> None:
    world = World()
    assert world.end(40, WAITED, WAITED) == []
    assert len(world.begun()) == 16


def test_one_hiccup_of_many_cells_is_none() -> None:
    world = World(cells=60)
    assert world.end(240, *[WAITED] * 20) == []
    assert len(world.begun()) == 16
    assert world.end(240, *[WAITED] * 30)
    assert len(world.begun()) == 8


def test_what_is_not_for_want_of_cpu_is_no_reason() -> None:
    world = World()
    assert world.end(20, *[STOPPED] * 10, *[FULL] * 10) == []
    assert len(world.begun()) == 16
    assert not {LagKind.PROXY_STOPPED, LagKind.DAEMON_STOPPED, LagKind.ENGINE_SILENT} & set(BUSY)


def test_where_others_use_most_of_the_cpu_fewer_cycles_would_not_help() -> None:
    world = World(ours=0.2)
    (said,) = world.end(20, *[WAITED] * 20)
    assert not said.eased
    assert round(said.ours_share, 3) == 0.2
    assert len(world.begun()) == 16
    # It is chaosd later on.
    world.ours = 0.9
    world.end(20, *[WAITED] * 20)
    assert len(world.begun()) == 8


def test_all_cells_of_a_block_make_its_cycle_or_none() -> None:
    world = World()
    assert world.easing.begins(7)
    world.end(20, *[WAITED] * 20)
    assert world.easing.begins(7)  # another cell asks
    assert not world.easing.begins(9)
