"""A look at the proxy now and then, and a close one while a cycle lasts: where its servers are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from chaosd.plugins.proxy import Proxy
from chaosd.plugins.recording import Recorder
from chaosd.system.clock import sleep

LOOK_S = 0.05  # between the end of one look and the next
NO_ADDRESS = 0x20  # of the admin state: in maintenance because the name was not resolved
RUNNING = 2  # of the operational state


class Watch:
    """What a proxy's Runtime API says of its servers and resolvers, against what it said before."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._looked_ns: int | None = None
        self._servers: dict[str, tuple[str | None, str]] = {}  # its address and its state
        self.counters: dict[str, dict[str, int]] = {}  # of the resolvers

    async def look(self, api: str, recorder: Recorder) -> bool:
        """Ask once, and tell what is different from the last time; whether it answered."""
        clock = recorder.clock
        asked_ns = clock.now_ns()
        try:
            said = await self._proxy.read_api(api)
        except OSError:  # a proxy that is gone is noticed elsewhere, one that is slow asked again
            return False
        answered_ns = clock.now_ns()
        before_ns, self._looked_ns = self._looked_ns, asked_ns
        # It has changed at some time between this look and the one before.
        at_ns = ((asked_ns if before_ns is None else before_ns) + answered_ns) // 2
        for server in said["servers"]:
            self._compare(server, recorder, at_ns, error_ns=answered_ns - at_ns)
        self.counters = said["resolvers"]
        return True

    @asynccontextmanager
    async def closely(self, api: str | None, recorder: Recorder) -> AsyncIterator[None]:
        """Look again and again, and store in the end what the resolvers have counted meanwhile.

        Nothing is stored where there is no Runtime API, or while it does not answer.
        """
        if api is None:
            yield
            return
        first = self.counters if await self.look(api, recorder) else None
        looking = asyncio.get_running_loop().create_task(self._go_on(api, recorder))
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            if first is not None:
                recorder.reading("proxy.api", "counted", counters=self._since(first))

    async def _go_on(self, api: str, recorder: Recorder) -> None:
        while True:
            await sleep(recorder.clock, LOOK_S)
            await self.look(api, recorder)

    def _compare(
        self, server: dict[str, Any], recorder: Recorder, at_ns: int, *, error_ns: int
    ) -> None:
        name = f"{server['backend']}/{server['server']}"
        address, state = server["addr"], _state(server)
        old = self._servers.get(name)
        self._servers[name] = address, state
        if old is None:
            return

        def tell(what: str, **data: Any) -> None:
            recorder.reading("proxy.api", what, at_ns=at_ns, error_ns=error_ns, server=name, **data)

        if address is not None and address != old[0]:
            tell("address_changed", old=old[0], new=address)
        if state != old[1]:
            tell(state)

    def _since(self, first: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        """By how much the counters are more than those."""
        return {
            name: {
                key: counters[key] - first.get(name, {}).get(key, 0)
                for key in counters
                if counters[key] != first.get(name, {}).get(key, 0)
            }
            for name, counters in self.counters.items()
        }


def _state(server: dict[str, Any]) -> str:
    if (server["admin_state"] or 0) & NO_ADDRESS:
        return "maint"
    return "up" if server["op_state"] == RUNNING else "down"
