"""The app's processes, forked from one that has it loaded: a tenth of the CPU of a start.

Where that can't be done they are started as every other program.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from chaosd.errors import MachineError
from chaosd.runtimes.local import forker
from chaosd.system import processes
from chaosd.system.clock import Clock
from chaosd.system.processes import Child, Process
from chaosd.system.shipped import shipped

READY_LIMIT_S = 10.0
FORK_LIMIT_S = 2.0  # the event loop waits for it, as it does for every start of a program
ANSWER_BYTES_MAX = 256


def server_command() -> list[str]:
    """What starts the app by itself, without its options."""
    # Without site-packages and the user's settings it starts in half the time.
    return [sys.executable, "-I", "-S", str(shipped("http-server/server.py"))]


class Forked:
    """A process that was forked for us: as much of a `subprocess.Popen` as a Child needs."""

    def __init__(self, pid: int, stdin: int | None, stdout: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = None if stdin is None else os.fdopen(stdin, "wb", 0)
        self.stdout = os.fdopen(stdout, "rb", 0)

    def poll(self) -> int | None:
        if self.returncode is None:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Zygote:
    """Forks the app for all cells of a run, from when the first one stands until the last goes."""

    def __init__(self) -> None:
        self._users = 0
        self._starting = asyncio.Lock()
        self._child: Child | None = None
        self._orders: socket.socket | None = None  # None: it can't fork

    async def join(self, labels: dict[str, str], clock: Clock) -> None:
        """A cell begins to stand. `leave` is due afterwards, even if this is cancelled."""
        self._users += 1
        async with self._starting:
            if self._child is None:
                await self._start(labels, clock)

    async def leave(self) -> None:
        """A cell is gone."""
        self._users -= 1
        if self._users:
            return
        child, self._child = self._child, None
        self._give_up()
        if child is not None and not child.gone:
            await child.wait(processes.KILL_S)

    def start(self, command: Sequence[str], environment: dict[str, str], stdin: int) -> Process:
        """Start the app with this command line (that of `server_command` and its options).

        Its environment is that of the zygote. Raises OSError.
        """
        if self._orders is not None:
            try:
                return self._fork(self._orders, command[len(server_command()) - 1 :], stdin)
            except OSError:
                self._give_up()
        return processes.started(command, environment, stdin)

    async def _start(self, labels: dict[str, str], clock: Clock) -> None:
        orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        orders.settimeout(FORK_LIMIT_S)
        *python, server = server_command()
        command = [*python, str(Path(forker.__file__)), server]
        with theirs:
            self._child = Child(
                "zygote",
                command,
                environment=os.environ | labels,
                clock=clock,
                stdin=theirs.fileno(),
            )
        self._child.expected = True
        self._orders = orders
        try:
            await self._child.says("ready", READY_LIMIT_S)
        except MachineError:
            self._give_up()

    def _give_up(self) -> None:
        """Let it end, and whatever it has forked that nobody waits for any more."""
        orders, self._orders = self._orders, None
        if orders is None:
            return
        with orders:
            orders.shutdown(socket.SHUT_RDWR)  # a fork that answers from now on learns so, and ends
            orders.setblocking(False)
            with suppress(OSError):
                while (said := orders.recv(ANSWER_BYTES_MAX).decode()).isdecimal():
                    # Nobody but us may bury it, so the number is still its own.
                    os.killpg(int(said), SIGKILL)
                    os.waitpid(int(said), 0)

    @staticmethod
    def _fork(orders: socket.socket, argv: Sequence[str], stdin: int) -> Forked:
        """Have a process forked. Raises OSError; then there is none."""
        ours, theirs = [], []
        if stdin == subprocess.PIPE:
            their_in, our_in = os.pipe2(os.O_CLOEXEC)
            ours.append(our_in)
        else:
            their_in = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        theirs.append(their_in)
        try:
            our_out, their_out = os.pipe2(os.O_CLOEXEC)
            ours.append(our_out)
            theirs.append(their_out)
            pid = _order(orders, argv, theirs)
        except BaseException:
            _close(ours)
            raise
        finally:
            _close(theirs)
        return Forked(pid, ours[0] if len(ours) > 1 else None, our_out)


def _order(orders: socket.socket, argv: Sequence[str], stdio: Sequence[int]) -> int:
    """The number of the new process. Raises OSError."""
    socket.send_fds(orders, [json.dumps(argv).encode()], list(stdio))
    said = orders.recv(ANSWER_BYTES_MAX).decode()
    if not said.isdecimal():
        raise OSError(said or "the zygote is gone")
    return int(said)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
