"""The proxy of a cell in its container: its files put there, its ports published, its log read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from random import SystemRandom
from subprocess import CompletedProcess
from threading import Event
from typing import Any

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.proxy import Launch, Launches, Reloads, launchable
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec
from chaosd.runtimes.docker import objects
from chaosd.runtimes.docker.endpoint import Endpoint, MissingError
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.members import FILES, Blueprint, Member, Members
from chaosd.runtimes.docker.presence import watched
from chaosd.runtimes.docker.proxy_log import ProxyLog
from chaosd.runtimes.surroundings import Surroundings
from chaosd.system import processes, scratch
from chaosd.system.clock import SECOND_NS, pause, sleep
from chaosd.system.tasks import uninterrupted

ENTRY_PORT, API_PORT = 8080, 9999
MEMORY_MB, PIDS = 512, 128
# Ports are chosen here, below those that systems give away by themselves, and not by the engine: it
# would choose others when the container is started again.
PORT_FIRST, PORT_LAST = 20_000, 32_000
PORT_ATTEMPTS_MAX = 20
ONCE_LIMIT_S = 30.0
TERM_S = RELOAD_S = 5.0
ONCE_PAUSE_S = 0.02
# In the container, in memory. No image has it: a directory that is there would keep its own mode.
SCRATCH = PurePosixPath("/run/chaosd")
# In the container, where the directory is with the socket of its API.
API_AT, API_NAME = PurePosixPath("/run/chaosd-api"), "api.sock"
NOT_SHARED = "bind source path does not exist"  # the engine's words: it does not see our files


class DockerProxy:
    """One proxy with its entry, its log, and its API."""

    def __init__(
        self, cell: CellSpec, recorder: Recorder, engine: Engine, members: Members
    ) -> None:
        self.entry = Address("", 0)
        self.api = ""
        self.member: Member | None = None
        self._place: Path | None = None  # ours alone, with the socket of its API
        self._cell = cell
        self._engine = engine
        self._members = members
        self._proxy: Launches = launchable(cell.proxy)
        self._log = ProxyLog(cell, recorder)
        self._state: PurePath | None = None  # where it reads what the one before knew

    async def start(
        self, where: Surroundings, *, publish: str, inside: bool, upstream: Sequence[str]
    ) -> None:
        """Make and start it. Raises MachineError."""
        wanted = self._proxy.listen
        port = wanted.port if wanted else ENTRY_PORT
        if not inside and self._engine.shares_files:
            self._place = _private()
        try:
            await self._make(where, port, publish, upstream)
        except MachineError as error:
            if self._place is None or NOT_SHARED not in str(error):
                raise
            self._forget_place()
            await self._make(where, port, publish, upstream)
        if inside:
            self.entry, self.api = Address(where.entry, port), f"{where.entry}:{API_PORT}"
        await self.look()

    async def _make(
        self, where: Surroundings, port: int, publish: str, upstream: Sequence[str]
    ) -> None:
        cell, launch = self._cell, self._launch(port, where)
        self._state = launch.state
        program, *arguments = launch.argv
        blueprint = Blueprint(
            name=f"chaosd-{cell.run_id}-{cell.name}-proxy",
            image=self._proxy.image,
            ip=where.entry,
            entrypoint=[program],
            command=arguments,
            environment=launch.env,
            files=launch.files,
            memory_mb=MEMORY_MB,
            pids=PIDS,
            dns=upstream,
            scratch=str(SCRATCH),
            binds={str(API_AT): self._place} if self._place is not None else {},
            user=_user(),
        )
        await self._start(blueprint, port, self._proxy.listen, publish)

    def _launch(self, port: int, where: Surroundings) -> Launch:
        """Say how it is started, and keep its configuration in the run directory."""
        anywhere = "0.0.0.0"  # noqa: S104 - of its own network
        wiring = self._cell.wiring(
            listen=Address(anywhere, port),
            dns=where.dns,
            log=None,
            api=API_AT / API_NAME if self._place is not None else Address(anywhere, API_PORT),
            directory=PurePosixPath(FILES),
            scratch=SCRATCH,
            app_at=where.app,
            beside=None if where.beside is None else where.beside.address.host,
            more_dns=where.more_dns,
            # HAProxy without a master takes no notice of SIGTERM as a container's first process.
            under_master=self._cell.renews_proxy,
        )
        launch, name = self._proxy.launch(wiring), self._proxy.config_name
        (self._cell.directory.resolve() / name).write_bytes(launch.files[name])
        return launch

    async def _start(
        self, blueprint: Blueprint, port: int, wanted: Address | None, publish: str
    ) -> None:
        """Start it on ports of the host that are free."""
        rng = SystemRandom()
        host = self._engine.host if publish == "127.0.0.1" or not self._engine.is_here else publish
        for _ in range(PORT_ATTEMPTS_MAX):
            entry, api = rng.sample(range(PORT_FIRST, PORT_LAST), 2)
            published: Address = wanted or Address(publish, entry)
            blueprint.ports = {port: (published.host, published.port)}
            if self._place is None:
                blueprint.ports |= {API_PORT: (publish, api)}
            self.member = await self._members.create(blueprint, self._log.heard)
            try:
                await self._members.start(self.member)
            except MachineError as error:
                taken = any(word in str(error) for word in ("already allocated", "already in use"))
                if wanted is not None and taken and str(wanted.port) in str(error):
                    raise MachineError(
                        f"the proxy's entry {wanted} is taken by another program "
                        "(stop it, or set proxy.listen to another address)"
                    ) from None
                if not taken:
                    raise
                await self._members.discard(self.member.id)
            else:
                self.entry = wanted or Address(host, entry)
                if self.entry.host == "0.0.0.0":  # noqa: S104 - the user's own wish
                    self.entry = Address(host, self.entry.port)
                self.api = str(self._place / API_NAME) if self._place else f"{host}:{api}"
                return
        raise MachineError(f"no free port between {PORT_FIRST} and {PORT_LAST} on {publish}")

    async def reload(self) -> None:
        """Let its first process start another, which takes over. Raises MachineError."""
        member, proxy = self._running(), self._cell.proxy
        if not self._cell.renews_proxy or not isinstance(proxy, Reloads):
            raise MachineError("this proxy can't be reloaded by chaosd (let it be restarted)")
        await self._keep_state(member)
        old, clock = member.pid, self._engine.clock
        await self._members.signal(member, f"SIG{proxy.reload_signal}")
        limit_ns = clock.now_ns() + round(RELOAD_S * SECOND_NS)
        while old and member.pid == old and clock.now_ns() < limit_ns:
            await sleep(clock, ONCE_PAUSE_S)
            await self.look()
        if old and member.pid == old:  # then nothing was disturbed
            what = f"no other process of the proxy was seen within {RELOAD_S:g} s"
            raise MachineError(f"the proxy was told to reload, but {what}")

    def _running(self) -> Member:
        if self.member is None:
            raise MachineError("the proxy is gone")
        return self.member

    async def _keep_state(self, member: Member) -> None:
        proxy, path = self._cell.proxy, self._state
        if path is None or not isinstance(proxy, Reloads):
            return
        try:
            archive = objects.tar({path.name: await proxy.read_state(self.api)})
        except OSError as error:
            raise MachineError(f"the proxy's state can't be kept: {error}") from error
        await self._engine.do(lambda api: api.put_archive(member.id, str(path.parent), archive))

    async def restart(self) -> None:
        """End its process, and start the container again: it keeps its address and its ports."""
        member = self._running()
        await self._keep_state(member)
        await self._members.end(member, "TERM", TERM_S)
        await self._members.start(member)
        member.expected = False
        await self.look()

    async def look(self) -> None:
        """Find its process, if it is one of this machine: the last that a first one has started."""
        if self.member is None or not self._engine.is_here:
            return
        pid = int((await self._members.state(self.member)).get("Pid") or 0)
        if pid and self._cell.renews_proxy:
            pid = processes.latest_child(pid) or pid
        self._members.seen(self.member, pid)

    def process(self) -> dict[str, int]:
        """Its memory and descriptors, without what is unknown."""
        pid = self.member.pid if self.member is not None else 0
        return processes.usage(pid) if pid else {}

    def close(self) -> None:
        self._log.close()
        self._forget_place()

    def _forget_place(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            shutil.rmtree(place.parent, ignore_errors=True)


def _user() -> str:
    """Who the proxy is: nobody, or where chaosd is no root itself, who runs chaosd.

    It makes the socket of its API, and both of them must be able to use it.
    """
    return f"{os.geteuid()}:{os.getegid()}" if os.geteuid() else objects.NOBODY


def _private() -> Path:
    """A directory that nobody can look into but us and the proxy.

    The one around it stays ours, so that it is swept as what we have made.
    """
    place = scratch.made() / "api"
    place.mkdir(mode=0o700)
    if not os.geteuid():
        os.chown(place, *map(int, objects.NOBODY.split(":")))
    return place


def run_once(
    endpoint: Endpoint,
    image: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    files: Mapping[str, bytes],
) -> CompletedProcess[str]:
    """Run the proxy's program in a container of its own, without a network, and remove that.

    It is removed if Ctrl-C is pressed, too, also while the engine is still making it.
    """
    api = watched(endpoint, endpoint.client)
    clock = _clock()

    def work(unwanted: Event) -> CompletedProcess[str]:
        program, *rest = arguments
        container = api.create_container(
            image,
            entrypoint=[program],
            command=rest,
            environment=dict(environment),
            user=objects.NOBODY,
            labels=objects.labels("check", "check", None),
            volumes=[FILES],
            host_config=objects.host_config(
                api,
                memory_mb=MEMORY_MB,
                pids=PIDS,
                network_mode="none",
                tmpfs={str(SCRATCH): objects.SCRATCH_OPTIONS},
            ),
        )["Id"]
        try:
            if files:
                api.put_archive(container, FILES, objects.tar(files))
            api.start(container)
            code = _wait(api, clock, container, unwanted)
            out = api.logs(container, stdout=True, stderr=False).decode(errors="replace")
            err = api.logs(container, stdout=False, stderr=True).decode(errors="replace")
        finally:
            objects.remove(api, clock, container)
        return CompletedProcess(list(arguments), code, out, err)

    try:
        with api, uninterrupted() as unwanted:
            return watched(endpoint, lambda: work(unwanted))
    except MissingError as error:
        raise MachineError(
            f"{error} (make images, or set proxy.image to one that is there)"
        ) from None


def _wait(api: Any, clock: Any, container: str, unwanted: Event) -> int:
    limit_ns = clock.now_ns() + round(ONCE_LIMIT_S * SECOND_NS)
    while clock.now_ns() < limit_ns and not unwanted.is_set():
        state = api.inspect_container(container)["State"]
        if not state["Running"] and state["Status"] != "created":
            return int(state["ExitCode"])
        pause(ONCE_PAUSE_S)
    raise MachineError(f"the proxy's program has not ended within {ONCE_LIMIT_S:g} s")


def _clock() -> Any:
    from chaosd.system.clock import RealClock

    return RealClock()
