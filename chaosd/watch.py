"""A close look at the proxy while a cycle lasts: where its servers are, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from chaosd.clock import sleep
from chaosd.plugins import Proxy, Recorder

LOOK_S = 0.05  # between the end of one look and the next
NO_ADDRESS = 0x20  # of the admin state: in maintenance because the name was not resolved
RUNNING = 2  # of the operational state


@asynccontextmanager
async def watched(proxy: Proxy, api: str | None, recorder: Recorder) -> AsyncIterator[None]:
    """Store what changes of the proxy's servers, and what its resolvers have counted in the end.

    Nothing is stored where there is no Runtime API, or while it does not answer.
    """
    if api is None:
        yield
        return
    watch = _Watch(proxy, api, recorder)
    await watch.look()
    looking = asyncio.get_running_loop().create_task(watch.run())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        watch.count()


class _Watch:
    def __init__(self, proxy: Proxy, api: str, recorder: Recorder) -> None:
        self._proxy = proxy
        self._api = api
        self._recorder = recorder
        self._looked_ns = 0
        self._servers: dict[str, tuple[str | None, str]] = {}  # its address and its state
        self._first: dict[str, dict[str, int]] = {}
        self._last: dict[str, dict[str, int]] = {}

    async def run(self) -> None:
        while True:
            await sleep(self._recorder.clock, LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Ask once, and tell what is different from the last time."""
        clock = self._recorder.clock
        asked_ns = clock.now_ns()
        try:
            said = await self._proxy.read_api(self._api)
        except OSError:  # a proxy that is gone is noticed elsewhere
            return
        answered_ns = clock.now_ns()
        before_ns, self._looked_ns = self._looked_ns, asked_ns
        # It has changed at some time between this look and the one before.
        at_ns = (before_ns + answered_ns) // 2
        for server in said["servers"]:
            self._compare(server, at_ns, error_ns=answered_ns - at_ns)
        self._last = said["resolvers"]
        self._first = self._first or self._last

    def _compare(self, server: dict[str, Any], at_ns: int, *, error_ns: int) -> None:
        name = f"{server['backend']}/{server['server']}"
        address, state = server["addr"], _state(server)
        old = self._servers.get(name)
        self._servers[name] = address, state
        if old is None:
            return

        def tell(what: str, **data: Any) -> None:
            self._recorder.reading(
                "proxy.api", what, at_ns=at_ns, error_ns=error_ns, server=name, **data
            )

        if address is not None and address != old[0]:
            tell("address_changed", old=old[0], new=address)
        if state != old[1]:
            tell(state)

    def count(self) -> None:
        """What the resolvers have counted since the first look."""
        deltas = {
            name: {
                key: counters[key] - self._first.get(name, {}).get(key, 0)
                for key in counters
                if counters[key] != self._first.get(name, {}).get(key, 0)
            }
            for name, counters in self._last.items()
        }
        if self._first:
            self._recorder.reading("proxy.api", "counted", counters=deltas)


def _state(server: dict[str, Any]) -> str:
    if (server["admin_state"] or 0) & NO_ADDRESS:
        return "maint"
    return "up" if server["op_state"] == RUNNING else "down"
