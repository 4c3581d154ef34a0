"""What a proxy's algorithm gives for a cycle as it was, worked out beside the event loop.

That takes tens of milliseconds, and the loop answers DNS and does the deeds of other cells.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from chaosd.engine.cycle import CycleRun
from chaosd.engine.met import met
from chaosd.history.cycles import Prediction
from chaosd.plan.arms import Arm
from chaosd.plugins.proxy import Predicts
from chaosd.plugins.timeline import Clients, Timeline, Unreached
from chaosd.system import priority
from chaosd.system.clock import SECOND_NS, Clock, RealClock

SWITCH_S = 0.0005  # how long the loop waits for its turn while a thread computes; usually 5 ms

Answer = Prediction | Unreached | None


class Predictor:
    """One thread for all cells; where time is virtual nothing waits, and there is none."""

    def __init__(self, clock: Clock) -> None:
        self._pool: ThreadPoolExecutor | None = None
        if isinstance(clock, RealClock):
            self._pool = ThreadPoolExecutor(1, "predict", initializer=priority.share)
            sys.setswitchinterval(SWITCH_S)

    def submit(self, question: Callable[[], Answer]) -> Future[Answer]:
        if self._pool is not None:
            return self._pool.submit(question)
        answered: Future[Answer] = Future()
        try:
            answered.set_result(question())
        except Exception as error:  # noqa: BLE001  # as from a thread: who asked has to hear of it
            answered.set_exception(error)
        return answered

    def close(self) -> None:
        """What is still asked, by a cell whose undoing was given up, is answered at once."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()


def question(
    cycle: CycleRun, end_ns: int, arm: Arm, *, main: int, direct: int | None
) -> Callable[[], Answer]:
    """All that is known now; what comes in while it is worked out changes nothing."""
    proxy, settings = arm.proxy, arm.settings()
    if cycle.fold is None or not isinstance(proxy, Predicts):
        return lambda: None
    timeline = met(cycle, arm.config, main=main, direct=direct)
    if not isinstance(timeline, Timeline):
        return lambda: None
    clients = Clients(
        patience_s=settings.timeout_ns / SECOND_NS,
        slow_after_s=settings.slow_after_ns / SECOND_NS,
        until_s=(end_ns - cycle.fold.t0_ns) / SECOND_NS,
        rate=sum(probe.rate for probe in arm.config.probes),
    )
    return lambda: proxy.predict(timeline, clients)
