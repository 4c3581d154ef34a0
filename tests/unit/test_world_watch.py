"""What is seen of a process ten times a second."""

from __future__ import annotations

import time

import pytest

from chaosd.engine import world_watch
from chaosd.engine.world_watch import ProcessWatch, WorldWatch
from chaosd.history.causes import LagKind
from chaosd.plugins.runtime import OwnProcess, ProcessRole
from chaosd.system.clock import RealClock
from chaosd.system.machine import Scheduled

MS = 1_000_000


class Gauge:
    """A process that runs for so long before each look, and is stopped at some of them."""

    def __init__(self, ran_ms, stopped, throttled_ms=None) -> None:
        self._left = list(zip(ran_ms, stopped, throttled_ms or [0] * len(stopped), strict=True))
        self._ran_ms, self._throttled_ms, self._stopped = 0, 5000, False

    def read(self) -> Scheduled:
        ran_ms, self._stopped, throttled_ms = self._left.pop(0)
        self._ran_ms += ran_ms
        self._throttled_ms += throttled_ms
        return Scheduled(self._ran_ms * MS, 0, 1, self._throttled_ms * MS)

    def is_stopped(self, *, has_run: bool) -> bool:
        return self._stopped


@pytest.mark.parametrize("ran_ms", [0, 5], ids=["for good", "as cpulimit does"])
def test_a_stop_goes_on_as_long_as_each_look_finds_it(monkeypatch, ran_ms) -> None:
    """HAProxy that is let go on for a fifth of the time had cycles that were good."""
    stopped = [False, True, True, True, False, False]
    gauge = Gauge([0] + [ran_ms] * (len(stopped) - 1), stopped)
    assert seen(gauge, monkeypatch, len(stopped)) == [(LagKind.PROXY_STOPPED, 50 * MS, 0.3)]


def test_a_process_that_may_use_no_more_cpu_waits_for_one(monkeypatch) -> None:
    """Throttled for 79 % of the time by its control group, HAProxy had cycles that were good."""
    throttled_ms = [0, 80, 85, 49, 80, 10]
    gauge = Gauge([0] + [5] * 5, [False] * 6, throttled_ms)
    assert seen(gauge, monkeypatch, len(throttled_ms)) == [
        (LagKind.PROXY_WAITED, 50 * MS, 0.2),
        (LagKind.PROXY_WAITED, 350 * MS, 0.1),
    ]


def test_a_process_that_is_looked_at_when_it_is_found_has_not_waited(monkeypatch) -> None:
    """Each proxy-restart was poor: of no time at all, nothing is half."""
    monkeypatch.setattr(world_watch, "ProcessGauge", lambda _: Gauge([0] * 3, [False] * 3))
    watch = ProcessWatch(OwnProcess(ProcessRole.PROXY, "", 7), 100 * MS, starting=False)
    assert [*watch.sample(100 * MS), *watch.sample(200 * MS)] == []


def test_of_an_apps_start_what_its_control_group_was_kept_from_before_is_no_part(
    monkeypatch,
) -> None:
    gauge = Gauge([0, 5], [False] * 2, [0, 70])
    monkeypatch.setattr(world_watch, "ProcessGauge", lambda _: gauge)
    watch = ProcessWatch(OwnProcess(ProcessRole.APP, "a", 7), 0, starting=True)
    lag = watch.listens(100 * MS)
    assert (lag.kind, lag.seconds) == (LagKind.APP_START_WAITED, 0.07)


def seen(gauge: Gauge, monkeypatch, looks: int) -> list[tuple[LagKind, int, float]]:
    """What is seen of this proxy, ten times a second."""
    monkeypatch.setattr(world_watch, "ProcessGauge", lambda _: gauge)
    watch = ProcessWatch(OwnProcess(ProcessRole.PROXY, "", 7), 0, starting=False)
    lags = [lag for n in range(1, looks) for lag in watch.sample(100 * n * MS)]
    return [(lag.kind, lag.from_ns, lag.seconds) for lag in lags]


def test_while_another_thread_of_its_computes_chaosd_is_busy_and_not_stopped(monkeypatch) -> None:
    """The loop's thread waits for it, and neither runs nor wants a CPU."""
    watch, spent_ns = WorldWatch(RealClock()), iter([0, 40 * MS, 40 * MS])
    monkeypatch.setattr(time, "process_time_ns", lambda: next(spent_ns))
    for due_ms, woke_ms in ((50, 50), (100, 140), (190, 230)):
        watch._daemon_lag(due_ms * MS, woke_ms * MS)
    assert [lag.kind for lag in watch._lags] == [LagKind.DAEMON_BUSY, LagKind.DAEMON_STOPPED]
