"""One cell in what runs already: the app's containers stop and others take their place.

The containers that were there stay there, stopped, under their own names, with all that they have.
A guard says which they are: it is a container that never runs. Before it is removed they are
started: by this run at its end, or by the next one if this was killed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from chaosd.errors import MachineError
from chaosd.history.deeds import OtherDeed
from chaosd.history.values import Address, Instance
from chaosd.plugins.bases import OldIp
from chaosd.plugins.proxy import RunsAlready
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec, Holder
from chaosd.runtimes.compose import addresses, as_it_was, project
from chaosd.runtimes.compose.addresses import Addresses, Place, ProjectNetwork
from chaosd.runtimes.compose.project import Inspected, Project, ip_of, name_of
from chaosd.runtimes.compose.recreation import Recreation
from chaosd.runtimes.docker import images, missing_name, objects
from chaosd.runtimes.docker.endpoint import MissingError, translated
from chaosd.runtimes.docker.engine_stage import EngineStage, OtherAddressError
from chaosd.runtimes.docker.members import Blueprint, Member
from chaosd.runtimes.docker.presence import Presence
from chaosd.runtimes.docker.proxy_log import ProxyLog
from chaosd.runtimes.roster import Entry, Signal
from chaosd.system import processes

if TYPE_CHECKING:
    from chaosd.runtimes.compose import ComposeConfig

AS_FOUND = "as-found.json"  # in the cell's directory
STARTS_MAX = 3  # of one container, until it has the address that it was to have


class ComposeStage(EngineStage):
    """What runs, as far as a run is about it."""

    def __init__(
        self,
        presence: Presence,
        cell: CellSpec,
        recorder: Recorder,
        failed: Callable[[Exception], None],
        *,
        config: ComposeConfig,
        found: Project,
    ) -> None:
        super().__init__(presence, cell, recorder, failed)
        self.identity_header = config.identity_header
        self.dns_queries: int | None = None
        self._config, self._found = config, found
        self._to_adopt = list(found.app)
        self._names: dict[str, str] = {}  # of containers, by identities
        self._of: dict[str, Inspected] = {}  # whose place an instance has, by identities
        self._proxy: Member | None = None
        self._addresses: Addresses | None = None
        self._log: ProxyLog | None = None

    # --- setting up and taking down ---

    async def set_up(self) -> None:
        cell, found, engine = self._cell, self._found, self._engine
        labels = await self._meet()
        if self._home is not None:
            raise MachineError("chaosd runs in a container itself (start it on the machine)")
        ids = [str(each["Id"]) for each in found.app]
        if others := await engine.do(objects.guarded) & set(ids):
            names = [name_of(each) for each in found.app if each["Id"] in others]
            raise MachineError(f"another run of chaosd has {', '.join(names)} (one at a time)")
        network = ProjectNetwork(found)
        self._made = True
        self._settle_in(network, labels)
        self._store_as_found()
        details = {"containers": [name_of(each) for each in found.app], "network": found.network}
        async with self._recorder.deed(OtherDeed(verb="take-over", details=details)):
            guard = Blueprint(
                name=self._own_name("guard"),
                image=images.app_tag(),
                labels={objects.RESTORES: " ".join(ids)},
            )
            await self._team.create(guard, lambda *_: None)
        self.missing = await missing_name.find_out(self._team, self._own_name(""), self._upstream)
        await self._meet_proxy()
        for _ in found.app:
            await self.ready(await self.start(self.next_identity()))
        lately = deque((each.address.host for each in self.app), cell.app.remember_ips)
        place = Place(engine, network, found, lately)
        self._addresses = await addresses.found_out(
            place, self._team, lambda number: self._own_name(f"keeper-{number}")
        )
        await self._until_it_answers(replace(cell.knock, identified=False))
        self._record_engine()
        self._standing = True

    def _store_as_found(self) -> None:
        """What there was, before anything is done to it: for people. Nothing is made of it."""
        was = [as_it_was.without_values(each) for each in (*self._found.app, self._found.proxy)]
        text = json.dumps(was, indent=1, ensure_ascii=False)
        try:
            (self._cell.directory / AS_FOUND).write_text(text, encoding="utf-8")
        except OSError as error:
            raise MachineError(f"{self._cell.directory}: {error.strerror}") from None

    async def _meet_proxy(self) -> None:
        proxy, config, engine = self._found.proxy, self._config, self._engine
        self.entry, self.way_in = project.way_in(
            proxy, self._found.network, config.port, engine.host
        )
        log = self._log = ProxyLog(self._cell, self._recorder)
        name, pid = name_of(proxy), int(proxy["State"]["Pid"])
        self._proxy = self._team.adopt(proxy["Id"], name, log.heard, pid)
        self._team.follow(self._proxy)
        if isinstance(self._cell.proxy, RunsAlready) and engine.is_here:
            self.api = project.api_of(proxy, self._found.network, self._cell.proxy.api_there)

    def _forget(self) -> None:
        if self._log is not None:
            self._log.close()

    async def _remove_all(self) -> None:
        await super()._remove_all()
        for was in self._found.app:
            is_now = await self._engine.now(partial(_inspected, was["Id"]))
            if is_now is None:
                raise MachineError(f"container {name_of(was)} is gone, and chaosd has not done it")
            if differing := as_it_was.differences(was, is_now):
                what = ", ".join(differing[:3])
                raise MachineError(f"container {name_of(was)} is not as it was: {what} differ")

    # --- moving instances ---

    async def _create(self, entry: Entry[Member]) -> Instance:
        if self._to_adopt:
            return self._adopt(entry, self._to_adopt.pop(0))
        for _ in range(STARTS_MAX - 1):
            try:
                return await self._recreate(entry)
            except OtherAddressError:
                continue  # somebody else has joined or left the network meanwhile
        return await self._recreate(entry)

    def _adopt(self, entry: Entry[Member], container: Inspected) -> Instance:
        name, pid = name_of(container), int(container["State"]["Pid"])
        self._names[entry.name], self._of[entry.name] = name, container
        entry.body = self._team.adopt(container["Id"], name, lambda *_: None, pid)
        ip = ip_of(container, self._found.network)
        instance = self.place(entry, ip, project.identity_of(container))
        self.publish(entry)
        return instance

    async def _recreate(self, entry: Entry[Member]) -> Instance:
        ways = self._ways
        for gone in self._names.keys() - self._entries.keys() - self._published.keys():
            del self._names[gone], self._of[gone]
        if entry.at is not None:
            await self._vacancy().take(entry.at)
            await ways.make_way(entry.at)
        ip = entry.at or await ways.fresh()
        name = self._names[entry.name] = f"chaosd-{entry.name.replace('.', '-')}"
        original = self._of[entry.name] = self._least_served(entry)
        wanted = Recreation(
            original=original,
            name=name,
            identity=entry.name,
            ip=None if isinstance(ways, addresses.Held) else ip,
        )
        instance = self.place(entry, ip)
        member = entry.body = await self._team.create(wanted, lambda *_: None)
        try:
            await self._start(member, ip)
        except BaseException:
            self._team.soon(self._team.discard(member.id))
            raise
        return instance

    def _least_served(self, entry: Entry[Member]) -> Inspected:
        """Whose place is free, or else will be next: that of who has served longest."""
        others = [self._of[name]["Id"] for name in self._entries if name != entry.name]
        by_age = sorted(self._found.app, key=lambda each: _first(others, each["Id"]))
        return min(by_age, key=lambda each: others.count(each["Id"]))

    def _signal(self, signal: Signal) -> str:
        """TERM is what the app's own image or config asks to be stopped by."""
        return (
            signal if signal == "KILL" else self._found.app[0]["Config"].get("StopSignal", signal)
        )

    async def _remove(self, entry: Entry[Member], member: Member) -> None:
        if not member.is_ours:  # it stays, stopped
            await self._team.end(member, "KILL", 0.0)
        await super()._remove(entry, member)

    async def hold(self, manner: OldIp) -> Holder:
        ways = self._ways
        if manner == "vacant" and not ways.leaves_vacant:
            what = f"network {self._found.network} gives the next container an address that is left"
            raise MachineError(f"old_ip: {what} vacant (give the network a subnet of its own)")
        await ways.tidy()
        holder = await super().hold(manner)
        await ways.prepare(self.app[0].address.host)
        return holder

    # --- what it is made of ---

    @property
    def direct(self) -> Address | None:
        """The instance that will be moved next."""
        return self.app[0].address if self.app else None

    def proxy_process(self) -> dict[str, int]:
        pid = self._proxy.pid if self._proxy is not None else 0
        return processes.usage(pid) if pid else {}

    def _name_of(self, identity: str) -> str:
        return self._names.get(identity, "")

    def _own_name(self, what: str) -> str:
        return f"chaosd-{self._cell.run_id}-{self._cell.name}" + (f"-{what}" if what else "")

    @property
    def _proxy_member(self) -> Member | None:
        return self._proxy

    @property
    def _upstream(self) -> Sequence[str]:
        return tuple(self._found.proxy["HostConfig"].get("Dns") or ())

    @property
    def _ways(self) -> Addresses:
        _ = self._network  # it refuses once the cell is closed
        assert self._addresses is not None  # noqa: S101 - set up
        return self._addresses


def _first(ids: list[str], wanted: str) -> int:
    """Where it stands first; at the end if nowhere."""
    return ids.index(wanted) if wanted in ids else len(ids)


def _inspected(container: str, api: Any) -> Inspected | None:
    try:
        found: Inspected = translated(lambda: api.inspect_container(container))
    except MissingError:
        return None
    return found
