"""The proxy's entry, from the outside: whether the app answers through it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.probe import Knock, proxy_line
from chaosd.system import tasks
from chaosd.system.clock import SECOND_NS, Clock, sleep

ENTRY_LIMIT_S = 30.0  # until the proxy has found the app for the first time
KNOCK_PAUSE_S = 0.02
KNOCK_LIMIT_S = 1.0
FIELDS_MAX = 100  # of an answer
IDENTITY = b"x-chaosd-instance"


async def answers(
    entry: Address,
    knock: Knock,
    clock: Clock,
    *,
    in_trouble: Callable[[], str],
    last_word: Callable[[], str],
) -> None:
    """Return when a request as the probe's is answered well there, or there is trouble elsewhere.

    Raises MachineError if it is not within 30 s.
    """
    limit_ns = clock.now_ns() + round(ENTRY_LIMIT_S * SECOND_NS)
    while problem := await _knock(entry, knock):
        if in_trouble():
            return
        if clock.now_ns() > limit_ns:
            raise MachineError(
                f"the app does not answer through the proxy at {entry} within {ENTRY_LIMIT_S:g} s: "
                f"{problem}; the proxy said last: {last_word() or 'nothing'}"
            )
        await sleep(clock, KNOCK_PAUSE_S)


async def _knock(entry: Address, knock: Knock) -> str:
    """Ask once through the proxy: what is wrong with the answer, "" if nothing."""
    host = knock.host or str(entry)
    request = f"GET {knock.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    name = host.partition(":")[0] if knock.tls else None
    try:
        async with asyncio.timeout(KNOCK_LIMIT_S):
            reader, writer = await asyncio.open_connection(
                *entry, ssl=_tls() if knock.tls else None, server_hostname=name
            )
            try:
                writer.write((proxy_line(entry) if knock.proxy_line else b"") + request.encode())
                words = (await reader.readline()).split()
                fields = [field async for field in _fields(reader)]
            finally:
                await tasks.let_go(writer)
    except TimeoutError:
        return f"no answer in {KNOCK_LIMIT_S:g} s"
    except (OSError, ValueError) as error:
        return str(error)
    good = len(words) > 1 and words[0].startswith(b"HTTP/") and words[1] < b"400"
    said = b" ".join(words).decode(errors="replace")[:60] or "nothing"
    if good and knock.identified and IDENTITY not in fields:
        return f"it says {said}, and not who answered, so it is not the app"
    return "" if good else f"it says {said}"


async def _fields(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The names of the answer's header fields, in lower case."""
    for _ in range(FIELDS_MAX):
        line = await reader.readline()
        if not line.strip():
            return
        yield line.partition(b":")[0].lower()


def _tls() -> ssl.SSLContext:
    """Who answers is not checked: that is the probe's task."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
