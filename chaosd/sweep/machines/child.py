"""A process of a worker: looks at a round, or makes it. `python -m …child WHAT DIRECTORY`.

The task is the first line of standard input, the result is JSON on standard output. It is a process
of its own because a run wants the main thread, its signals, and all of its namespace; and because
it must end with the worker: when standard input closes, it undoes what is under way, and ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path
from threading import Thread
from typing import Any

from chaosd import plan
from chaosd.engine import session
from chaosd.errors import ChaosdError, MachineError
from chaosd.history.cycles import Cycle
from chaosd.live.console import Console
from chaosd.sweep import rounds
from chaosd.sweep.machines.task import Task, problem

LOOK, MAKE = "look", "make"
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h
_REQUEST = struct.Struct("16sh22x")  # struct ifreq


class _Silent(Console):
    """Nobody looks at it: the run directory has it all."""

    def say(self, text: str) -> None:
        pass

    def cycle(self, cycle: Cycle) -> None:
        pass


def main() -> int:
    what, directory = sys.argv[1:]
    result = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed
    task = Task.of(json.loads(sys.stdin.readline()))
    Thread(target=_end_with_worker, daemon=True).start()
    try:
        if task.isolated:
            _loopback_up()
        found = _do(what, task, Path(directory))
    except ChaosdError as error:
        found = problem(error)
    with result:
        json.dump(found, result)
    return 0


def _end_with_worker() -> None:
    sys.stdin.read()
    signal.raise_signal(signal.SIGTERM)


def _loopback_up() -> None:
    """In a new network namespace it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = _REQUEST.pack(b"lo", 0)
        _, flags = _REQUEST.unpack(fcntl.ioctl(any_socket, _GET_FLAGS, request))
        fcntl.ioctl(any_socket, _SET_FLAGS, _REQUEST.pack(b"lo", flags | _UP))


def _do(what: str, task: Task, directory: Path) -> dict[str, Any]:
    built = rounds.planned(task.data, task.path)
    rehearsals = plan.rehearse(built)
    _refuse_others(task, rehearsals)
    if what == LOOK:
        return {"stopped": False}
    os.umask(0o077)  # what is private is so here, too
    with session.private(built, task.path):
        return {"stopped": rounds.make(built, rehearsals, directory, _Silent())}


def _refuse_others(task: Task, rehearsals: list[plan.Rehearsal]) -> None:
    """Raises MachineError where this machine would measure something else."""
    for rehearsal in rehearsals:
        wanted = task.programs[rehearsal.arm.name]
        if rehearsal.binary_sha256 != wanted.sha256:
            version = rehearsal.proxy_version or wanted.version
            raise MachineError(
                f"{rehearsal.arm.config.proxy.type} {version} is another build than where the "
                "sweep was begun (install the same one)"
            )


if __name__ == "__main__":
    sys.exit(main())
