"""Work that must be finished although it is stopped, and work side by side in a fixed order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, current_thread, main_thread
from typing import Any, TypeVar

from chaosd.system.stops import STOPS

T = TypeVar("T")


async def uncancelled(work: Coroutine[Any, Any, T], limit_s: float) -> T:
    """Finish this work even if the caller is cancelled meanwhile, then pass the cancellation on.

    The work runs as a task of its own with its own deadline (TimeoutError after it).
    """
    task = asyncio.get_running_loop().create_task(asyncio.wait_for(work, limit_s))
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
        except Exception:  # noqa: BLE001 - it is the task's, and raised again below
            break
    if cancelled:
        task.exception()  # retrieved: the cancellation outranks it
        raise asyncio.CancelledError
    return task.result()


async def let_go(writer: asyncio.StreamWriter) -> None:
    """Drop a connection: nothing is left to be written, and nobody waits for its end.

    That it had broken is asked for: an error that nobody has asked for asyncio prints at some time.
    """
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


@contextmanager
def uninterrupted() -> Iterator[Event]:
    """Put a Ctrl-C, or another signal to end, off until this is done.

    Meanwhile the event says whether one came. It could come between any two steps, also while
    somebody else makes what we asked for.
    """
    pressed, came = Event(), list[int]()
    heard = {number: signal.getsignal(number) for number in STOPS}
    before = {number: each for number, each in heard.items() if callable(each)}
    if current_thread() is not main_thread() or not before:
        yield pressed  # nobody is interrupted here
        return

    def put_off(number: int, _frame: object) -> None:
        came.append(number)
        pressed.set()

    for number in before:
        signal.signal(number, put_off)
    try:
        yield pressed
    finally:
        for number, each in before.items():
            signal.signal(number, each)
        if came:
            heed_now = before[signal.Signals(came[0])]
            heed_now(came[0], None)


async def together(works: Sequence[Coroutine[Any, Any, None]], end_limit_s: float) -> None:
    """Run these side by side until all are done or one fails.

    They are cancelled in a fixed order (a TaskGroup's is a set's), so that one seed gives one
    history. `end_limit_s` bounds the wait for those that still undo what they did.
    """
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work) for work in works]
    for task in tasks:  # one failure is raised; the loop must not complain of the others
        task.add_done_callback(_seen)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await uncancelled(_all_done(tasks), end_limit_s)
        # Also where this was cancelled: what could not be undone must not go untold.
        for task in tasks:
            if not task.cancelled():
                task.result()


def _seen(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


async def _all_done(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
