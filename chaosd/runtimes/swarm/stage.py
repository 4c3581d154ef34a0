"""One cell in a swarm: the proxy on one node, the app on others, and what each node's DNS knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv4Network
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from chaosd.errors import MachineError
from chaosd.history.events import NameKnown
from chaosd.history.values import Address
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec
from chaosd.runtimes.docker import network, objects
from chaosd.runtimes.docker.host import Host
from chaosd.runtimes.docker.members import Member
from chaosd.runtimes.docker.network import Network
from chaosd.runtimes.docker.presence import Presence
from chaosd.runtimes.docker.stage import DockerStage
from chaosd.runtimes.roster import Entry
from chaosd.runtimes.swarm import witness
from chaosd.runtimes.swarm.managers import Managers, is_undecided
from chaosd.runtimes.swarm.nodes import Swarm
from chaosd.system.clock import Clock

if TYPE_CHECKING:
    from chaosd.runtimes.swarm import SwarmConfig


class SwarmStage(DockerStage):
    """One cell's topology: containers at chosen addresses of an attachable overlay network."""

    def __init__(
        self,
        config: SwarmConfig,
        presences: Mapping[str, Presence],
        cell: CellSpec,
        recorder: Recorder,
        failed: Callable[[Exception], None],
        *,
        swarm: Swarm,
    ) -> None:
        publish = config.publish or swarm.proxy.address
        name = swarm.proxy.name
        super().__init__(
            config,
            presences[name],
            cell,
            recorder,
            failed,
            publish=publish,
            name=name,
            others={other: each for other, each in presences.items() if other != name},
        )
        by_name = {host.name: host for host in self._hosts}
        self._nodes = {node.name: node for node in swarm.nodes}
        self._managers = Managers((by_name[node.name] for node in swarm.managers), self._clock)
        self._app_hosts = [by_name[node.name] for node in swarm.app]
        self._placed = 0
        # What the proxy's node answers: since when, and how sure that is.
        self._known: tuple[tuple[str, ...], int, int] = (), 0, 0
        self._holds_on_proxys = config.old_ip_on == "proxy"

    async def _make_network(self, name: str, labels: dict[str, str]) -> Network:
        rng, pool = Random(self._cell.seed), IPv4Network(self._config.subnets)  # noqa: S311
        local = any(host.engine.is_here for host in self._hosts)
        return await self._managers.do(
            lambda api: network.create(api, name, pool, rng, labels, local=local, driver="overlay")
        )

    async def _remove_all(self) -> None:
        await super()._remove_all()
        if self._net is not None:
            forget = partial(_forget, self._net.name, self._clock)
            await asyncio.gather(*(host.engine.now(forget) for host in self._hosts))

    @property
    def _network_host(self) -> Host:
        return self._managers.host

    async def _nameservers(self) -> list[Address]:
        """Whom the proxy asks; from then on each node is asked for the name, too."""
        cell, net = self._cell, self._network
        await asyncio.gather(
            *(
                witness.start(
                    host, net.name, cell.dns.name, self._upstream, partial(self._on_known, host)
                )
                for host in self._hosts
            )
        )
        return await super()._nameservers()

    def _on_known(self, host: Host, ips: tuple[str, ...], at_ns: int, error_ns: int) -> None:
        """A node's DNS answers with these now. What the proxy can know is what its own one does."""
        if self._closed:
            return
        self._recorder.record(NameKnown(node=host.name, ips=ips), at_ns=at_ns, error_ns=error_ns)
        if host is self._hosts[0]:
            self._known = ips, at_ns, error_ns
            self._take_over_name()

    def _take_over_name(self) -> None:
        """Store of our instances what the proxy's node answers now."""
        ips, at_ns, error_ns = self._known
        for entry in list(self._entries.values()):
            if entry.instance is not None and entry.instance.address.host in ips:
                self.publish(entry, at_ns, error_ns)
        for name, ip in list(self._published.items()):
            if ip not in ips:
                self.withdraw(name, at_ns, error_ns)

    def _on_network(
        self, action: str, member: Member, entry: Entry[Member] | None, at_ns: int, error_ns: int
    ) -> None:
        """That it has joined on its node is not yet known on the proxy's."""

    # --- which node has what ---

    def _next_host(self, entry: Entry[Member]) -> Host:
        """The app's nodes in turn."""
        if entry.is_beside:
            return self._app_hosts[0]
        self._placed += 1
        return self._app_hosts[(self._placed - 1) % len(self._app_hosts)]

    def _placeholder_host(self) -> Host:
        if self._holds_on_proxys or not self.app:
            return self._hosts[0]
        entry = self._find(self.app[0])  # it is the next one to go
        team = entry.body.team if entry is not None and entry.body is not None else None
        return next((host for host in self._hosts if host.members is team), self._hosts[0])

    def _readiness(self) -> Literal["said", "asked", "unknown"]:
        # The overlay's addresses are reached from its containers alone.
        return "unknown" if (found := super()._readiness()) == "asked" else found


def _forget(name: str, clock: Clock, api: Any) -> None:
    try:
        objects.forget_network(api, clock, name)
    except MachineError as error:
        if not is_undecided(error):  # a manager that is cut off hears of it when it is back
            raise
