from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from chaosd.engine.schedule import auto_jitter_s, instants, merged
from chaosd.plugins.bases import FaultConfig
from chaosd.system.clock import SECOND_NS

HOUR_NS = 3600 * SECOND_NS


class StillClock:
    """A clock that stands still: the schedule must not depend on when it is asked."""

    def now_ns(self) -> int:
        return 7 * SECOND_NS

    def unix_ns(self) -> int:
        return 946_684_800 * SECOND_NS + 1800 * SECOND_NS  # 2000-01-01T00:30:00Z


def times(count: int, seed: int = 1, timers=(1.0, 2.0), place: int = 0, **keys) -> list[int]:
    config = FaultConfig.model_validate({"type": "x", **keys})
    return list(islice(instants(config, StillClock(), Random(seed), [timers], place), count))


def test_a_grid_without_jitter_is_exact_and_does_not_drift() -> None:
    assert times(1000, every="2500ms", jitter=0) == [
        7 * SECOND_NS + n * 2_500_000_000 for n in range(1, 1001)
    ]


@pytest.mark.parametrize("cells", [2, 5, 20, 57])
def test_the_cells_of_a_run_have_their_failovers_one_after_the_other(cells) -> None:
    firsts = [times(2, every="10s", jitter=0, place=place) for place in range(cells)]
    assert all(second - first == 10 * SECOND_NS for first, second in firsts)
    # Spread over one period, whatever their number: no gap is much longer than others.
    at_ns = sorted(first for first, _ in firsts)
    gaps = [b - a for a, b in zip(at_ns, [*at_ns[1:], at_ns[0] + 10 * SECOND_NS], strict=True)]
    assert max(gaps) < 2 * 10 * SECOND_NS / cells
    assert min(at_ns) == 17 * SECOND_NS  # none is earlier than one period from the start
    assert max(at_ns) < 27 * SECOND_NS


def test_jitter_is_spread_anew_each_time_and_never_accumulates() -> None:
    got = times(2000, every="10s", jitter="4s")
    offsets = [at - 7 * SECOND_NS - n * 10 * SECOND_NS for n, at in enumerate(got, start=1)]
    assert min(offsets) >= 0
    assert max(offsets) <= 4 * SECOND_NS
    assert sum(offsets) / len(offsets) == pytest.approx(2 * SECOND_NS, rel=0.05)


def test_an_unset_jitter_covers_every_phase_of_the_proxys_timers() -> None:
    phases = [at % SECOND_NS for at in times(1000, every="5s")]
    counts = [sum(k <= 10 * phase // SECOND_NS < k + 1 for phase in phases) for k in range(10)]
    assert min(counts) > 60  # evenly spread over the period of `timeout resolve`


def test_auto_jitter_is_a_multiple_of_the_first_timer_that_covers_all() -> None:
    assert auto_jitter_s(60, (1.0, 2.0)) == 2.0
    assert auto_jitter_s(60, (0.75, 2.0)) == 2.25
    assert auto_jitter_s(1.5, (1.0, 2.0)) == 1.5
    assert auto_jitter_s(60, ()) == 0.0


def test_between_stays_between() -> None:
    got = [7 * SECOND_NS, *times(500, every={"min": "1s", "max": "3s"}, timers=())]
    gaps = [after - before for before, after in zip(got, got[1:], strict=False)]
    assert SECOND_NS <= min(gaps) < 1.1 * SECOND_NS
    assert 2.9 * SECOND_NS < max(gaps) <= 3 * SECOND_NS


@pytest.mark.parametrize("every", ["500ms", {"min": "0s", "max": "700ms"}], ids=["grid", "between"])
def test_none_comes_before_the_proxy_has_checked_once(every) -> None:
    """Right after its start one failed check is enough: it was called an anomaly."""
    first, second = times(2, every=every, timers=(1.0, 2.0))
    assert 0 <= first - 9 * SECOND_NS <= 2 * SECOND_NS
    assert second > first
    assert times(1, every="10s", jitter=0, timers=(1.0, 600.0))[0] == 37 * SECOND_NS
    assert times(1, every="10s", jitter=0, timers=(20.0, 2.0))[0] == 17 * SECOND_NS


def test_cron_is_utc() -> None:
    assert times(2, cron="0 * * * *") == [
        7 * SECOND_NS + HOUR_NS // 2,
        7 * SECOND_NS + HOUR_NS // 2 + HOUR_NS,
    ]


def test_one_seed_gives_one_schedule() -> None:
    assert times(50, seed=3, every="5s") == times(50, seed=3, every="5s")
    assert times(50, seed=3, every="5s") != times(50, seed=4, every="5s")


def test_faults_are_merged_in_the_order_of_their_times() -> None:
    assert list(islice(merged([iter([1, 5, 9]), iter([2, 3, 10])]), 6)) == [
        (1, 0), (2, 1), (3, 1), (5, 0), (9, 0), (10, 1),
    ]  # fmt: skip
