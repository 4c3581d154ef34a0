"""The proxy of a cell as a child process: rendered, checked, started, listened to."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM

from chaosd.dns.actions import Transport
from chaosd.errors import ConfigError, MachineError
from chaosd.history.values import Address
from chaosd.plugins.proxy import Checks, Launch, ReadsLog, Reloads, launchable
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CellSpec
from chaosd.runtimes import readiness
from chaosd.runtimes.local.entry_watch import EntryWatch
from chaosd.runtimes.local.loopback import is_free
from chaosd.runtimes.senders import OfProcess
from chaosd.runtimes.surroundings import Surroundings
from chaosd.runtimes.syslog import LogReceiver
from chaosd.system import processes, scratch
from chaosd.system.processes import Child
from chaosd.system.tasks import uncancelled

ENTRY_PORT = 8080
TERM_S, RESTART_LIMIT_S = 5.0, 20.0
# A UNIX socket's path has 107 bytes, and a proxy may bind it with `.<pid>.tmp` behind it first.
SOCKET_PATH_BYTES_MAX = 107 - len(".4194304.tmp")


class ProxyChild:
    """One proxy with its entry, its log, and its Runtime API."""

    def __init__(self, cell: CellSpec, recorder: Recorder, spawn: Callable[..., Child]) -> None:
        self.entry = Address("", 0)  # where probes knock
        self.api = ""
        self.child: Child | None = None
        self._leaving: Child | None = None  # the one that it has taken over from
        self._entry_watch = EntryWatch(cell.run_id, ())
        self._cell = cell
        self._recorder = recorder
        self._spawn = spawn
        self._log: LogReceiver | None = None
        self._shortcut: Path | None = None
        self._scratch: Path | None = None  # where the program may write until it is closed
        self._launched = Launch(directory=Path(), files={}, argv=[])  # how it was started
        self._ended: Callable[[Child], None] = lambda _: None

    async def start(self, where: Surroundings, ended: Callable[[Child], None]) -> None:
        """Start it with its entry at that IP, unless its own config names another place.

        Raises ConfigError if it refuses its config, MachineError if it can't be started.
        """
        launch = self._launched = self._launch(where)
        launch.write()
        proxy = self._cell.proxy
        if isinstance(proxy, Checks):
            complaint = await asyncio.to_thread(proxy.check, launch)
            if complaint is not None:
                said = complaint.splitlines()
                raise ConfigError(*(f"the proxy refuses its config: {each}" for each in said))
        self._ended = ended
        self.child = self._started(launch)

    def _started(self, launch: Launch) -> Child:
        name = Path(launchable(self._cell.proxy).config_name).stem
        return self._spawn(
            Path(launch.argv[0]).name,
            launch.argv,
            dict(launch.env),
            ended=self._ended,
            output=self._cell.directory / f"{name}.log",
        )

    async def reload(self) -> None:
        """Let another process take over. Raises MachineError if this proxy can't do that."""
        proxy, launch, old = self._cell.proxy, self._launched, self._running()
        if not isinstance(proxy, Reloads):
            raise MachineError("this proxy can't be reloaded by chaosd (let it be restarted)")
        await self._keep_state(launch)
        old.expected = True
        self._leaving = old
        self._entry_watch.renewed()
        self.child = self._started(proxy.successor(launch, old.pid))

    async def restart(self) -> None:
        """End it and start another, although this is cancelled. Raises MachineError."""
        old = self._running()
        await self._keep_state(self._launched)
        await uncancelled(self._again(old), RESTART_LIMIT_S)

    async def _again(self, old: Child) -> None:
        await old.end(SIGTERM, TERM_S)
        self._entry_watch.renewed()
        self.child = self._started(self._launched)

    def _running(self) -> Child:
        if self.child is None or self.child.gone:
            raise MachineError("the proxy is gone")
        return self.child

    async def _keep_state(self, launch: Launch) -> None:
        proxy = self._cell.proxy
        if launch.state is None or not isinstance(proxy, Reloads):
            return
        try:
            state = await proxy.read_state(self.api)
            await asyncio.to_thread(Path(launch.state).write_bytes, state)
        except OSError as error:
            raise MachineError(f"the proxy's state can't be kept: {error}") from error

    def _launch(self, where: Surroundings) -> Launch:
        cell, proxy = self._cell, self._cell.proxy
        self.api = str(self._directory() / "api.sock")
        log = Address(where.dns.host, 0)
        if isinstance(proxy, ReadsLog):
            believes = self.sends("udp")
            self._log = LogReceiver(log, proxy.log_reader(), self._recorder, believes=believes)
            log = self._log.address
        directory = self._directory()
        self._scratch = directory / "scratch"
        self._scratch.mkdir(exist_ok=True)
        wiring = cell.wiring(
            listen=self._listen(where.entry),
            dns=where.dns,
            log=log,
            api=Path(self.api),
            directory=directory,
            scratch=self._scratch,
            app_at=where.app,
            beside=None if where.beside is None else where.beside.address.host,
            more_dns=where.more_dns,
        )
        return launchable(proxy).launch(wiring)

    async def answers(self, in_trouble: Callable[[], str]) -> None:
        """Return when the app has answered through the entry, or there is trouble elsewhere.

        Raises MachineError if it does not within the limit.
        """
        await readiness.answers(
            self.entry,
            self._cell.knock,
            self._recorder.clock,
            in_trouble=in_trouble,
            last_word=lambda: self.child.last_line if self.child is not None else "",
        )

    def is_shared(self) -> bool:
        """Whether somebody else listens at its entry, too."""
        pid = self.pid()
        return pid is not None and self._entry_watch.is_shared(pid)

    def process(self) -> dict[str, int]:
        """Its memory and descriptors, without what is unknown."""
        if self.child is None or self.child.gone:
            return {}
        return processes.usage(self.child.pid)

    def pid(self) -> int | None:
        """None as long as it is not started, and when it has ended."""
        return None if self.child is None or self.child.gone else self.child.pid

    def sends(self, transport: Transport) -> OfProcess:
        """Who tells what it has sent from what others have."""

        def leaving() -> int | None:
            old = self._leaving
            return None if old is None or old.gone else old.pid

        return OfProcess(self.pid, self._recorder.clock, transport, leaving=leaving)

    def close(self) -> None:
        """Remove what is not the process itself. May be called twice."""
        if self._log is not None:
            self._log.close()
        if self.api:
            Path(self.api).unlink(missing_ok=True)
        if self._shortcut is not None:
            self._shortcut.unlink(missing_ok=True)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _listen(self, entry: str) -> Address:
        wanted = launchable(self._cell.proxy).listen
        listen = wanted or Address(entry, ENTRY_PORT)
        anywhere = listen.host in ("0.0.0.0", "*")  # noqa: S104 - the user's own wish
        if not is_free("0.0.0.0" if anywhere else listen.host, listen.port):  # noqa: S104
            raise MachineError(
                f"the proxy's entry {listen} is taken by another program "
                f"(stop it, or set proxy.listen to another address)"
            )
        self.entry = Address("127.0.0.1", listen.port) if anywhere else listen
        also = [Address("0.0.0.0", listen.port)] if anywhere else []  # noqa: S104
        self._entry_watch = EntryWatch(self._cell.run_id, [self.entry, *also])
        return listen

    def _directory(self) -> Path:
        """The cell's directory by a path that fits a UNIX socket, and that every config takes."""
        own = self._cell.directory.resolve()
        if _fits(own):
            return own
        if self._shortcut is None:
            self._shortcut = scratch.shortcut(own)
        if not _fits(self._shortcut):
            raise MachineError(
                f"{self._shortcut} is too long for a UNIX socket (set TMPDIR to a short path)"
            )
        return self._shortcut


def _fits(directory: Path) -> bool:
    socket = directory / "api.sock"
    return scratch.is_plain(socket) and len(os.fsencode(socket)) <= SOCKET_PATH_BYTES_MAX
