from __future__ import annotations

import asyncio

import pytest

from chaosd.system.clock import SECOND_NS, RealClock, VirtualClock, VirtualLoop, sleep


def simulate(main):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def test_virtual_time_jumps_and_is_exact() -> None:
    async def main() -> list[int]:
        clock, seen = VirtualClock(), []
        for n in range(1, 1001):
            await clock.sleep_until(n * 600_000_000_007)
            seen.append(clock.now_ns())
        return seen

    assert simulate(main()) == [n * 600_000_000_007 for n in range(1, 1001)]


def test_sleepers_wake_in_the_order_of_their_instants() -> None:
    async def main() -> list[str]:
        clock, woken = VirtualClock(), []

        async def one(name: str, seconds: float) -> None:
            await sleep(clock, seconds)
            woken.append(name)

        await asyncio.gather(one("c", 3), one("a", 1), one("b", 2))
        return woken

    assert simulate(main()) == ["a", "b", "c"]


def test_a_simulation_that_waits_for_nothing_is_reported() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="stuck"):
        simulate(main())


def test_a_simulation_refuses_threads() -> None:
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="threads"):
        simulate(main())


def test_a_cancelled_sleep_leaves_no_timer_to_jump_to() -> None:
    async def main() -> int:
        clock = VirtualClock()
        task = asyncio.create_task(sleep(clock, 1000))
        await sleep(clock, 1)
        task.cancel()
        await sleep(clock, 1)
        return clock.now_ns()

    assert simulate(main()) == 2 * SECOND_NS


def test_virtual_recurring_work_keeps_its_cadence() -> None:
    async def main() -> list[int]:
        clock, at = VirtualClock(), []

        async def slow() -> None:
            at.append(clock.now_ns())
            await sleep(clock, 0.25)

        stop = clock.every(1.0, "slow", slow)
        await sleep(clock, 3.5)
        stop()
        await sleep(clock, 3)
        return at

    assert simulate(main()) == [1 * SECOND_NS, 2 * SECOND_NS, 3 * SECOND_NS]


def test_the_real_clock_never_returns_early_and_repeats_work() -> None:
    async def main() -> tuple[int, int]:
        clock, done = RealClock(), []

        async def work() -> None:
            done.append(clock.now_ns())

        stop = clock.every(0.02, "work", work)
        until_ns = clock.now_ns() + SECOND_NS // 5
        await clock.sleep_until(until_ns)
        late_ns = clock.now_ns() - until_ns
        stop()
        stop()
        clock.close()
        return late_ns, len(done)

    late_ns, count = asyncio.run(main())
    assert late_ns >= 0
    assert count >= 2
