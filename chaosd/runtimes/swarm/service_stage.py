"""One cell in a swarm whose app is a service: the swarm replaces its tasks, and the roster follows.

Where a task runs and which address it gets is the swarm's choice. So the manager is asked again and
again which tasks there are: a new one is an instance from when it has an address, and its container
is listened to from when it is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from chaosd.errors import MachineError
from chaosd.history.events import NamePublished
from chaosd.history.values import Instance
from chaosd.runtimes.docker.endpoint import EngineAwayError
from chaosd.runtimes.docker.members import Member
from chaosd.runtimes.roster import Entry, Signal
from chaosd.runtimes.swarm import service, witness
from chaosd.runtimes.swarm.service import Order, ServiceSpec, Task
from chaosd.runtimes.swarm.stage import SwarmStage
from chaosd.system.clock import SECOND_NS, sleep

if TYPE_CHECKING:
    from chaosd.runtimes.swarm import SwarmConfig

LOOK_PAUSE_S = 0.03
SETTLE_PAUSE_S = 0.05
MOVE_LIMIT_S = 60.0  # a swarm gives a node up after some 15 s


class ServiceStage(SwarmStage):
    """The app as a service, with `endpoint_mode: dnsrr` or `vip`."""

    virtual_ip: str | None = None
    _service: str | None = None
    _updates = 0  # at our order
    _is_told = False  # that the name has the virtual address
    _drained: str | None = None  # the node that runs no task at our order
    _looking: asyncio.Task[None] | None = None

    def __init__(self, config: SwarmConfig, *arguments: Any, **more: Any) -> None:
        super().__init__(config, *arguments, **more)
        self._endpoint = config.endpoint
        self._last_error = ""
        self._tasks: dict[str, Entry[Member]] = {}  # by the task's id
        # Entries that were asked for, until there is a task for them.
        self._awaited: deque[tuple[Entry[Member], asyncio.Future[Instance]]] = deque()

    # --- setting up and taking down ---

    async def _set_up_app(self) -> None:
        cell, net = self._cell, self._network
        entry: Entry[Member] = self._new_entry("app")
        made = self._blueprint(entry, "")
        made.name = f"{net.name}-app"
        made.image = service.local_tag(made.image) if made.own_image else made.image
        made.environment = {
            **made.environment,
            "CHAOSD_IDENTITY": f"{cell.run_id}.{cell.name}.{{{{.Task.ID}}}}",
        }
        if made.own_image:
            for host in self._hosts:
                await host.engine.do(partial(_tag, made.image))
        wanted = {self._nodes[host.name].id for host in self._app_hosts}
        all_nodes = await self._managers.do(lambda api: [n["ID"] for n in api.nodes()])
        spec = ServiceSpec(
            blueprint=made,
            network=net.name,
            labels=self._labels,
            replicas=cell.app.replicas,
            constraints=[f"node.id!={each}" for each in all_nodes if each not in wanted],
            endpoint=self._endpoint,
        )
        arrivals = [self._expect(self.next_identity()) for _ in range(cell.app.replicas)]
        self._service = await self._managers.do(lambda api: service.create(api, spec))
        made_one, name = self._service, net.name
        self.virtual_ip = await self._managers.do(
            lambda api: service.virtual_ip(api, made_one, name)
        )
        self._looking = asyncio.get_running_loop().create_task(self._look())
        for arrival in arrivals:
            await self.ready(await self._arrived(arrival))
        if self._endpoint == "vip":
            await self._refuse_if_nothing_answers()

    async def _refuse_if_nothing_answers(self) -> None:
        """Raises MachineError where the proxy's node can't balance to the service's address."""
        host, ip, port = self._hosts[0], self.virtual_ip, self._cell.app.port
        name = f"{self._network.name}-knock"
        if ip is None or not await witness.knock(host, name, ip, port, self._upstream):
            raise MachineError(
                f"the service's virtual address {ip} does not answer on {host.name}: its kernel "
                "has no IPVS (modprobe ip_vs, or runtime.endpoint: dnsrr)"
            )

    def _take_over_name(self) -> None:
        if self._endpoint != "vip":
            super()._take_over_name()
            return
        ips, at_ns, error_ns = self._known
        if self._is_told or self.virtual_ip not in ips:
            return
        self._is_told = True  # it is so from now on, whatever becomes of the tasks
        self._recorder.record(NamePublished(ips=ips), at_ns=at_ns, error_ns=error_ns)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        await super().close()

    async def _remove_all(self) -> None:
        run, cell, ask = self._cell.run_id, self._cell.name, self._managers.do
        if self._drained is not None:
            await self._activate()
        for each in await ask(lambda api: service.of_run(api, run, cell)):
            await ask(partial(_remove, each, self._clock))
        await super()._remove_all()

    # --- the ability CanReschedule ---

    async def reschedule(
        self, identity: str, by: Literal["update", "drain"], order: Order
    ) -> Instance:
        self._refuse_if_closed()
        ask, made = self._managers.do, self._service
        assert made is not None  # noqa: S101 - set up
        arrival = self._expect(identity)
        if by == "update":
            self._updates += 1
            await ask(partial(_update, made, order, self._updates))
        else:
            node = self._node_of(self.app[0])
            self._drained = node
            await ask(lambda api: service.drain(api, node, made, self._labels))
        return await self._arrived(arrival)

    async def settle(self) -> None:
        """Undo a drain, and return when as many instances as there were are up."""
        if self._drained is not None:
            await self._activate()
        limit_ns = self._clock.now_ns() + round(MOVE_LIMIT_S * SECOND_NS)
        self._awaited.clear()
        while not self._is_settled():
            if self._clock.now_ns() > limit_ns:
                raise MachineError(f"the service has no task that serves in {MOVE_LIMIT_S:g} s")
            await sleep(self._clock, SETTLE_PAUSE_S)

    def _is_settled(self) -> bool:
        up = [e for e in self._tasks.values() if e.listens.done() and e.listens.result()]
        return len(up) == len(self._tasks) == self._cell.app.replicas

    async def _activate(self) -> None:
        node, labels = self._drained, self._labels
        assert node is not None  # noqa: S101 - drained
        await self._managers.do(lambda api: service.activate(api, node, labels))
        self._drained = None

    def _node_of(self, instance: Instance) -> str:
        entry = self._find(instance)
        team = entry.body.team if entry is not None and entry.body is not None else None
        found = [host.name for host in self._hosts if host.members is team]
        if not found:
            raise MachineError(f"app {instance.identity} is on no node")
        return self._nodes[found[0]].id

    # --- following the tasks ---

    def _new_entry(self, name: str) -> Entry[Member]:
        return Entry(name, None, asyncio.get_running_loop().create_future())

    def _expect(self, identity: str) -> asyncio.Future[Instance]:
        arrival: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._awaited.append((self._new_entry(identity), arrival))
        return arrival

    async def _arrived(self, arrival: asyncio.Future[Instance]) -> Instance:
        try:
            async with asyncio.timeout(MOVE_LIMIT_S):
                return await arrival
        except TimeoutError:
            why = self._last_error or "it gives no reason"
            raise MachineError(
                f"the swarm starts no task of the app within {MOVE_LIMIT_S:g} s: {why}"
            ) from None

    async def _look(self) -> None:
        made, name = self._service, self._network.name
        assert made is not None  # noqa: S101 - made before
        while not self._closed:
            try:
                found = await self._managers.do(lambda api: service.tasks(api, made, name))
                for task in found:
                    await self._take(task)
                for id in self._tasks.keys() - {task.id for task in found}:  # noqa: A001
                    self._drop(id)
            except EngineAwayError:
                continue  # it is waited for there
            except MachineError as error:
                self.died(str(error))
                return
            await sleep(self._clock, LOOK_PAUSE_S)

    async def _take(self, task: Task) -> None:
        entry = self._tasks.get(task.id)
        if task.has_ended:
            if entry is not None:
                self._drop(task.id)
            elif task.state in ("failed", "rejected"):
                self._last_error = task.error
            return
        if entry is None:
            if task.ip is None or not task.node or not task.is_wanted:
                return
            entry = self._appear(task, task.ip)
        if entry.body is None and task.container is not None:
            await self._listen_to(entry, task)

    def _appear(self, task: Task, ip: str) -> Entry[Member]:
        """A task has its address: it is who was asked for, or one that nobody asked for."""
        arrival = None
        if self._awaited:
            entry, arrival = self._awaited.popleft()
        else:
            entry = self._new_entry(self.next_identity())
        called = f"{self._cell.run_id}.{self._cell.name}.{task.id}"
        self._tasks[task.id] = self._entries[entry.name] = entry
        node = next((n.name for n in self._nodes.values() if n.id == task.node), None)
        instance = self.place(entry, ip, called, node)
        self._count()
        self._take_over_name()  # the proxy's node may have heard of it before we have
        if arrival is not None and not arrival.done():
            arrival.set_result(instance)
        return entry

    async def _listen_to(self, entry: Entry[Member], task: Task) -> None:
        host = next((h for h in self._hosts if self._nodes[h.name].id == task.node), None)
        if host is None or task.container is None:
            return
        name, heard = self._name_of(entry.name), partial(self._on_app_line, host, entry)
        entry.body = member = host.team.take_in(task.container, name, heard)
        has, pid = await host.engine.do(lambda api: self._network.found(api, member.id))
        host.team.seen(member, pid)
        if has is not None and entry.instance is not None and has != entry.instance.address.host:
            raise MachineError(f"{name} has {has}, not {entry.instance.address.host}")

    def _drop(self, task: str) -> None:
        """It serves no more: by our order, or by the swarm's."""
        entry = self._tasks.pop(task)
        self._entries.pop(entry.name, None)
        self._count()
        self.gone(entry)
        if entry.body is not None:
            entry.body.team.soon(entry.body.team.leave(entry.body.id))

    # --- what pinned instances can ---

    async def _create(self, entry: Entry[Member]) -> Instance:
        if entry.is_beside:
            return await super()._create(entry)
        raise MachineError("the instances of a service are started by the swarm alone")

    async def _kill(self, entry: Entry[Member], signal: Signal, grace_s: float) -> None:
        raise MachineError("the instances of a service are ended by the swarm alone")


def _tag(wanted: str, api: Any) -> None:
    """Give our own image the name under which no registry is asked for it."""
    own = wanted.removeprefix(f"{service.NO_REGISTRY}/")
    name, _, tag = wanted.rpartition(":")
    api.tag(own, name, tag)


def _update(made: str, order: Order, number: int, api: Any) -> None:
    service.force_update(api, made, order, number)


def _remove(each: str, clock: Any, api: Any) -> None:
    service.remove(api, clock, each)
