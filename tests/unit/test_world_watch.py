"""What is seen of a process ten times a second."""

from __future__ import annotations

import pytest

from chaosd.engine import world_watch
from chaosd.engine.world_watch import ProcessWatch
from chaosd.history.causes import LagKind
from chaosd.plugins.runtime import OwnProcess, ProcessRole
from chaosd.system.machine import Scheduled

MS = 1_000_000


class Gauge:
    """A process that runs for so long before each look, and is stopped at some of them."""

    def __init__(self, ran_ms, stopped) -> None:
        self._left = list(zip(ran_ms, stopped, strict=True))
        self._ran_ms, self._stopped = 0, False

    def read(self) -> Scheduled:
        ran_ms, self._stopped = self._left.pop(0)
        self._ran_ms += ran_ms
        return Scheduled(self._ran_ms * MS, 0, 1)

    def is_stopped(self, *, has_run: bool) -> bool:
        return self._stopped


@pytest.mark.parametrize("ran_ms", [0, 5], ids=["for good", "as cpulimit does"])
def test_a_stop_goes_on_as_long_as_each_look_finds_it(monkeypatch, ran_ms) -> None:
    """HAProxy that is let go on for a fifth of the time had cycles that were good."""
    stopped = [False, True, True, True, False, False]
    gauge = Gauge([0] + [ran_ms] * (len(stopped) - 1), stopped)
    monkeypatch.setattr(world_watch, "ProcessGauge", lambda _: gauge)
    watch = ProcessWatch(OwnProcess(ProcessRole.PROXY, "", 7), 0, starting=False)
    lags = [lag for n in range(1, len(stopped)) for lag in watch.sample(100 * n * MS)]
    assert [(lag.kind, lag.from_ns, lag.seconds) for lag in lags] == [
        (LagKind.PROXY_STOPPED, 50 * MS, 0.3)
    ]
