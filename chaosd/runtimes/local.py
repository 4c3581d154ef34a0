"""The topology on this machine's loopback: real processes and real packets, no privileges, no Docker.

In the /24 of a cell .1 is the proxy's door, .2 the DNS server and the log receiver, and the app's
instances live from .10 on. There is no `vacant` old IP: on Linux every address of 127.0.0.0/8 is
there, so that a host that is gone can't be played.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

from chaosd import processes
from chaosd.clock import SECOND_NS, Clock, RealClock, sleep
from chaosd.dns import DnsServer, Query
from chaosd.errors import ConfigError, MachineError
from chaosd.events import Address, Instance
from chaosd.loopback import Loopback, is_free
from chaosd.plugins import (
    AppSpec,
    CanReplace,
    CellSpec,
    Holder,
    OldIp,
    Prober,
    Recorder,
    RuntimeConfig,
    Wiring,
)
from chaosd.processes import Child

DOOR, SERVICES = 1, 2  # the last byte of their addresses
DOOR_PORT = 8080
DOOR_LIMIT_S = 30.0  # until the proxy has found the app for the first time
KNOCK_PAUSE_S = 0.02
KNOCK_LIMIT_S = 1.0
ASK_PAUSE_S = 0.005  # between two looks whether a program of the user's listens by now
ARM_LIMIT_S = 10.0
TAKE_LIMIT_S = 3.0
LOG_BUFFER_BYTES = 4 << 20
# A UNIX socket's path has 107 bytes, and HAProxy first binds it with `.<pid>.tmp` behind it.
SOCKET_PATH_BYTES_MAX = 107 - len(".4194304.tmp")
OWN_IMAGE = "http-server"


class LocalRuntime:
    """Where HAProxy, the DNS server and the app are processes of this machine."""

    class Config(RuntimeConfig):
        type: Literal["local"] = "local"

    uses_local_binary: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config

    def unavailable(self) -> str | None:
        if sys.platform != "linux":
            return "it needs Linux: only there every address of 127.0.0.0/8 exists"
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return "it needs Linux 5.3 or later (process handles)"
        return None

    def abilities(self) -> Sequence[type]:
        return (CanReplace,)

    def old_ip(self) -> Sequence[OldIp]:
        return ("refuse", "imposter", "blackhole", "tarpit")

    def loop_factory(self) -> Callable[[], Any]:
        import uvloop

        return uvloop.new_event_loop

    def clock(self) -> Clock:
        return RealClock()

    def prober(self) -> Prober:
        from chaosd.probes.host import ProbeHost

        return ProbeHost(labels=processes.labels("probes"))

    async def sweep(self) -> list[str]:
        return await asyncio.to_thread(processes.sweep)

    async def set_up(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> LocalStage:
        stage = LocalStage(cell, recorder, failed)
        try:
            await stage.set_up()
        except BaseException:
            await stage.close()
            raise
        return stage


class Incarnation:
    """One instance of the app with its process."""

    def __init__(self, instance: Instance, listens: asyncio.Future[str]) -> None:
        self.instance = instance
        self.listens = listens  # the address that it says; "" if it died before
        self.child: Child


class LocalStage:
    """One cell: an app, a proxy, and the name between them."""

    way_in = "loopback"

    def __init__(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> None:
        self.app: tuple[Instance, ...] = ()
        self._cell = cell
        self._recorder = recorder
        self._clock = recorder.clock
        self._failed = failed
        self._standing = False
        self._closed = False
        self._loopback: Loopback | None = None
        self._dns = DnsServer(
            self._clock,
            self._on_query,
            missing=cell.dns.missing,
            ttl_s=cell.dns.ttl_s,
            delay_s=cell.dns.delay_s,
        )
        self._answered: dict[str, tuple[str, tuple[str, ...]]] = {}  # by query type
        self._log: asyncio.DatagramTransport | None = None
        self._shortcut: Path | None = None
        self._count = 0
        self._incarnations: dict[str, Incarnation] = {}  # by identity, the oldest first
        self._published: dict[str, str] = {}  # identity to IP
        self._children: set[Child] = set()
        self._proxy: Child | None = None
        self._labels = processes.labels(cell.run_id)
