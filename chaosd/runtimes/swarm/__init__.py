"""The topology across hosts: Docker's Swarm mode, an overlay network, and its own DNS.

The proxy runs on one node and the app on others. All that is done on one engine is the docker
runtime's; here is what several of them need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from chaosd.errors import MachineError
from chaosd.plugins.bases import KeyPath
from chaosd.plugins.proxy import Launches, Proxy
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import (
    CanFaultDns,
    CanHoldAddress,
    CanMove,
    CanReschedule,
    CanRestartProxy,
    CellSpec,
    Pace,
)
from chaosd.runtimes.docker import TopologyConfig, TopologyRuntime
from chaosd.runtimes.realtime import RealTime, standing

if TYPE_CHECKING:
    from chaosd.runtimes.docker.endpoint import Endpoint
    from chaosd.runtimes.docker.presence import Presence
    from chaosd.runtimes.swarm.nodes import Node, Swarm


TASKS = "tasks."  # of a name: all tasks of that service, whatever its endpoint mode


class SwarmConfig(TopologyConfig):
    """Nodes of one swarm, each by a connection to its engine."""

    type: Literal["swarm"] = "swarm"
    nodes: tuple[str, ...] = Field(
        (),
        description="the engines: names of Docker contexts, or URLs (unix://, tcp://, ssh://); a "
        "manager must be among them",
    )
    move: Literal["pinned", "service"] = Field(
        "pinned",
        description="what an instance of the app is: a container at an address that chaosd chooses "
        "(pinned), or a task of a service, which the swarm replaces where and at which address it "
        "likes (service)",
    )
    endpoint: Literal["dnsrr", "vip"] = Field(
        "dnsrr",
        description="what the name of a service answers: the addresses of its tasks, or one of its "
        "own, behind which Swarm balances (vip): then nothing moves that a proxy could see",
    )
    proxy_on: str | None = Field(
        None,
        description="the proxy's node: its name in `nodes`, or a constraint such as "
        "node.labels.tier==edge; not set: the first",
    )
    app_on: tuple[str, ...] = Field(
        (), description="the app's nodes, in turn: names or constraints; not set: all others"
    )
    old_ip_on: Literal["app", "proxy"] = Field(
        "app",
        description="where an old IP is held: on the node that its instance was on, or on the "
        "proxy's",
    )
    publish: str | None = Field(
        None,
        description="where the proxy's node publishes its entry and Runtime API; not set: the "
        "address by which the swarm knows that node",
    )

    @field_validator("publish")
    @classmethod
    def _one_address(cls, text: str | None) -> str | None:
        try:
            ip_address(text or "127.0.0.1")
        except ValueError:
            raise ValueError("not an IP address (such as 10.0.0.11)") from None
        return text


class SwarmRuntime(TopologyRuntime):
    """Where HAProxy and the app are containers on different nodes of a swarm."""

    Config = SwarmConfig
    # Engine 20.10 on two cores, with two nodes: the manager gives each address away.
    pace: ClassVar[Pace] = Pace(0.6, 0.6, 0.9, 0.8)

    def __init__(self, config: SwarmConfig) -> None:
        super().__init__(config)
        self.config = config
        self._presences: dict[str, Presence] = {}

    @cached_property
    def endpoints(self) -> dict[str, Endpoint]:
        """Each node's engine, by the name that the config has. Raises MachineError."""
        from chaosd.runtimes.docker.endpoint import named

        return {name: named(name) for name in self.config.nodes}

    @cached_property
    def swarm(self) -> Swarm:
        """Who is who, asked once. Raises MachineError."""
        from chaosd.runtimes.swarm.nodes import survey

        return survey(self.endpoints, self.config.proxy_on, self.config.app_on)

    @cached_property
    def endpoint(self) -> Endpoint:
        """The engine of the proxy's node."""
        return self.swarm.proxy.endpoint

    def unavailable(self) -> str | None:
        """None also where no node is named: there is nothing to look at then."""
        if not self.config.nodes:
            return None
        try:
            _ = self.swarm
        except MachineError as error:
            return str(error)
        return None

    def expected(self) -> bool:
        return bool(self.config.nodes)

    def lacks(self, proxy: Proxy, app_image: str) -> str | None:
        from chaosd.runtimes.docker import images
        from chaosd.runtimes.docker.presence import watched
        from chaosd.runtimes.docker.stage import OWN_IMAGE

        try:
            swarm = self.swarm
        except MachineError as error:
            return str(error)

        def missing(node: Node) -> list[str]:
            wanted = {images.app_tag()}  # what asks and what holds an address is our own image
            if node is swarm.proxy and isinstance(proxy, Launches):
                wanted.add(proxy.image)
            if node in swarm.app and app_image != OWN_IMAGE:
                wanted.add(app_image)
            with node.endpoint.client() as api:
                return images.missing(api, sorted(wanted))

        for node in swarm.nodes:
            if found := watched(node.endpoint, partial(missing, node)):
                return (
                    f"node {node.name} has no image {', '.join(found)} (`chaosd images` makes "
                    "them on one engine; docker save and docker load take them to others)"
                )
        return None

    def abilities(self) -> Sequence[type]:
        pinned = (CanMove, CanHoldAddress)
        moves = pinned if self.config.move == "pinned" else (CanReschedule,)
        told = () if self.config.dns == "engine" else (CanFaultDns,)
        return (*moves, CanRestartProxy, *told)

    def problems(self, cell: CellSpec) -> list[tuple[KeyPath, str]]:
        found = super().problems(cell)
        if self.config.move == "service" and cell.app.replicas > 1:
            what = "an update of the service replaces all of its tasks, one after the other"
            found.append((("app", "replicas"), f"{what} (leave it at 1, or set runtime.move)"))
        if (why := self.not_virtual(cell.dns.name)) is not None:
            found.append(why)
        return found

    def not_virtual(self, name: str) -> tuple[KeyPath, str] | None:
        """Why this name can't have a virtual address, if it should."""
        if self.config.endpoint != "vip":
            return None
        if self.config.move == "pinned":
            what = "only a service has one (set runtime.move: service)"
            return ("runtime", "endpoint"), what
        if name.startswith(TASKS):
            own = name.removeprefix(TASKS)
            return ("dns", "name"), f"{TASKS} names have the tasks' addresses ({own})"
        return None

    def asks_directly(self) -> bool:
        return False  # the overlay's addresses are reached from its containers alone

    async def sweep(self) -> list[str]:
        from chaosd.runtimes.docker import objects
        from chaosd.runtimes.swarm import service

        swept = await RealTime.sweep(self)
        if not self.config.nodes:
            return swept
        manager = self.swarm.manager
        works = [
            (manager, service.sweep),  # before its service, a container would only be replaced
            *((node, objects.sweep) for node in self.swarm.nodes),
            (manager, objects.sweep_overlays),
            *((node, objects.forget_overlays) for node in self.swarm.nodes),
        ]
        for node, work in works:
            found = await self._swept(self._presence_of(node), work)
            swept += [f"{what} on {node.name}" for what in found]
        return swept

    def _presence_of(self, node: Node) -> Presence:
        """What is known of whether a node's engine answers: one for all cells of a run."""
        from chaosd.runtimes.docker.presence import Presence

        if node.name not in self._presences:
            wait_s = self.config.engine_wait.s
            self._presences[node.name] = Presence(node.endpoint, self.clock(), wait_s=wait_s)
        return self._presences[node.name]

    async def set_up(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> Any:
        from chaosd.runtimes.swarm.service_stage import ServiceStage
        from chaosd.runtimes.swarm.stage import SwarmStage

        swarm = self.swarm
        presences = {node.name: self._presence_of(node) for node in swarm.nodes}
        kind = SwarmStage if self.config.move == "pinned" else ServiceStage
        return await standing(kind(self.config, presences, cell, recorder, failed, swarm=swarm))
