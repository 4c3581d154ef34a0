"""The proxy's door, from the outside: whether the app answers through it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.system.clock import SECOND_NS, Clock, sleep

DOOR_LIMIT_S = 30.0  # until the proxy has found the app for the first time
KNOCK_PAUSE_S = 0.02
KNOCK_LIMIT_S = 1.0


async def answers(
    entry: Address,
    host: str,
    clock: Clock,
    *,
    in_trouble: Callable[[], str],
    last_word: Callable[[], str],
) -> None:
    """Return when a request for this host is answered well there, or there is trouble elsewhere.

    Raises MachineError if it is not within 30 s.
    """
    limit_ns = clock.now_ns() + round(DOOR_LIMIT_S * SECOND_NS)
    while problem := await _knock(entry, host):
        if in_trouble():
            return
        if clock.now_ns() > limit_ns:
            raise MachineError(
                f"the app does not answer through the proxy at {entry} within {DOOR_LIMIT_S:g} s: "
                f"{problem}; the proxy said last: {last_word() or 'nothing'}"
            )
        await sleep(clock, KNOCK_PAUSE_S)


async def _knock(door: Address, host: str) -> str:
    """Ask once through the proxy: what is wrong with the answer, "" if nothing."""
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(KNOCK_LIMIT_S):
            reader, writer = await asyncio.open_connection(*door)
            try:
                writer.write(request.encode())
                words = (await reader.readline()).split()
            finally:
                writer.close()
    except TimeoutError:
        return f"no answer in {KNOCK_LIMIT_S:g} s"
    except (OSError, ValueError) as error:
        return str(error)
    good = len(words) > 1 and words[0].startswith(b"HTTP/") and words[1] < b"400"
    return "" if good else f"it says {b' '.join(words).decode(errors='replace')[:60] or 'nothing'}"
