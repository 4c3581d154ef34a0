"""A look at the proxy now and then, and a close one while a cycle lasts: where its servers are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from chaosd.history.events import ResolversCounted, ServerChange, ServerChanged, Teller
from chaosd.plugins.proxy import Proxy, ReadsServers, ServerState
from chaosd.plugins.recording import Recorder
from chaosd.system.clock import sleep

LOOK_S = 0.05  # between the end of one look and the next
LOOK_LOGGED_S = 0.5  # where the log says things when they happen


class ServerPoller:
    """What a proxy's API says of its servers and resolvers, against what it said before.

    A proxy that can't be asked is not asked.
    """

    def __init__(self, proxy: Proxy, looked: Callable[[int, int], None] | None = None) -> None:
        """`looked` is told when each look began and ended, whether or not it was answered."""
        self._proxy, self._looked = proxy, looked
        self.log_tells = False  # the proxy's log has told of a server
        self._looked_ns: int | None = None
        self._servers: dict[str, ServerState] = {}
        self.counters: Mapping[str, Mapping[str, int]] = {}  # of the resolvers

    async def look(self, api: str, recorder: Recorder) -> bool:
        """Ask once, and tell what is different from the last time; whether it answered."""
        if not isinstance(self._proxy, ReadsServers):
            return False
        clock = recorder.clock
        asked_ns = clock.now_ns()
        try:
            said = await self._proxy.read_servers(api)
        except OSError:  # a proxy that is gone is noticed elsewhere, one that is slow asked again
            return False
        finally:
            if self._looked is not None:
                self._looked(asked_ns, clock.now_ns())
        answered_ns = clock.now_ns()
        before_ns, self._looked_ns = self._looked_ns, asked_ns
        # It has changed at some time between this look and the one before.
        at_ns = ((asked_ns if before_ns is None else before_ns) + answered_ns) // 2
        for server in said.servers:
            self._compare(server, recorder, at_ns, error_ns=answered_ns - at_ns)
        self.counters = said.counters
        return True

    @asynccontextmanager
    async def closely(self, api: str | None, recorder: Recorder) -> AsyncIterator[None]:
        """Look again and again, and store in the end what the resolvers have counted meanwhile.

        Nothing is stored where there is no API, or while it does not answer.
        """
        if api is None or not isinstance(self._proxy, ReadsServers):
            yield
            return
        first = self.counters if await self.look(api, recorder) else None
        looking = asyncio.get_running_loop().create_task(self._go_on(api, recorder))
        try:
            yield
            await self.look(api, recorder)
        finally:
            looking.cancel()
            await asyncio.wait([looking])  # its cancellation must not be taken for this task's
            if not looking.cancelled():
                looking.result()
            if first is not None:
                recorder.record(ResolversCounted(counters=self._since(first)))

    async def _go_on(self, api: str, recorder: Recorder) -> None:
        while True:
            await sleep(recorder.clock, LOOK_LOGGED_S if self.log_tells else LOOK_S)
            await self.look(api, recorder)

    def _compare(
        self, server: ServerState, recorder: Recorder, at_ns: int, *, error_ns: int
    ) -> None:
        old = self._servers.get(server.server)
        self._servers[server.server] = server
        if old is None:
            return

        def tell(change: ServerChange, **addresses: str | None) -> None:
            what = ServerChanged(
                told_by=Teller.API, change=change, server=server.server, **addresses
            )
            recorder.record(what, at_ns=at_ns, error_ns=error_ns)

        if server.address is not None and server.address != old.address:
            tell(ServerChange.ADDRESS, old=old.address, new=server.address)
        if server.health != old.health:
            tell(ServerChange(server.health))

    def _since(self, first: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
        """By how much the counters are more than those."""
        return {
            name: {
                key: counters[key] - first.get(name, {}).get(key, 0)
                for key in counters
                if counters[key] != first.get(name, {}).get(key, 0)
            }
            for name, counters in self.counters.items()
        }
