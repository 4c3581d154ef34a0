"""What a real HAProxy meets in a cycle: instances of an app, nameservers, and HAProxy itself.

All of it is on a /24 of loopback that nobody else uses, and in one process but for HAProxy.
"""

from __future__ import annotations

import array
import asyncio
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

from chaosd.dns.server import DnsServer, Missing, Query
from chaosd.system.clock import RealClock

PORT, CHECK_PORT = 8080, 8081
DNS_PORT = 5300
SO_ATTACH_FILTER = 26  # not in the socket module
PR_SET_PDEATHSIG = 1
START_S_MAX = 10.0  # for HAProxy to open its entry
BACKLOG = 256


def end_with_parent(parent: int) -> None:
    """In the child that becomes HAProxy: it is killed when the bench dies."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class _Request(asyncio.Protocol):
    """A connection to an instance: one answer, then it is closed."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head and self._transport is not None:
            self._transport.write(self._instance.answer())
            self._transport.close()


class Instance:
    """One instance of the app; where it does not listen, its address refuses."""

    def __init__(self, identity: str, ip: str, ports: Sequence[int] = (PORT,)) -> None:
        self.identity = identity
        self.ip = ip
        self.healthy = True
        self._ports = ports
        self._listeners: list[tuple[socket.socket, asyncio.Server | None]] = []

    def answer(self) -> bytes:
        """What it says to any request."""
        status = "200 OK" if self.healthy else "503 Not yet"
        body = self.identity.encode()
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + body

    async def listen(self) -> None:
        """Take connections from now on."""
        loop = asyncio.get_running_loop()
        for port in self._ports:
            listener = _bound(self.ip, port)
            server = await loop.create_server(
                partial(_Request, self), sock=listener, backlog=BACKLOG
            )
            self._listeners.append((listener, server))

    def vanish(self) -> None:
        """From now on packets to it are dropped before TCP sees them, as of a node that is lost."""
        program = array.array("B", struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
        at, _ = program.buffer_info()
        for listener, _server in self._listeners:
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, at))

    def stop(self) -> None:
        """Refuse from now on. May be called twice."""
        listeners, self._listeners = self._listeners, []
        for listener, server in listeners:
            if server is not None:
                server.close()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # uvloop closes it a little later
            listener.close()


def _bound(ip: str, port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ip, port))
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class Nameservers:
    """One or more nameservers that answer alike, until told otherwise."""

    def __init__(self, hosts: Sequence[str], *, additional: bool, service_port: int) -> None:
        self.queries: list[tuple[int, Query]] = []  # by which nameserver
        clock = RealClock()
        self.servers = [
            DnsServer(
                clock,
                partial(self._observe, place),
                additional=additional,
                service_port=service_port,
            )
            for place in range(len(hosts))
        ]
        self._hosts = hosts

    def _observe(self, place: int, query: Query) -> None:
        self.queries.append((place, query))

    async def start(self) -> None:
        for server, host in zip(self.servers, self._hosts, strict=True):
            await server.start(host, DNS_PORT)

    async def close(self) -> None:
        for server in self.servers:
            await server.close()

    def publish(self, name: str, ips: Sequence[str]) -> None:
        for server in self.servers:
            server.publish(name, ips)

    def withdraw(self, name: str, missing: Missing) -> None:
        for server in self.servers:
            server.missing = missing
            server.withdraw(name)


class Proxy:
    """A real HAProxy with this config, in a directory of its own."""

    def __init__(self, binary: Path, directory: Path, config: str) -> None:
        self.api = str(directory / "api")
        self._binary = binary
        self._config = directory / "haproxy.cfg"
        self._config.write_text(config)
        self._log = directory / "haproxy.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until its API answers. Raises RuntimeError with what it said."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(str(self._binary), "-db", "-f", str(self._config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(end_with_parent, os.getpid()),
            )
        until_s = time.monotonic() + START_S_MAX
        while self._process.returncode is None and time.monotonic() < until_s:
            with suppress(OSError):
                _, writer = await asyncio.open_unix_connection(self.api)
                writer.transport.abort()
                return
            await asyncio.sleep(0.02)
        raise RuntimeError(self.said() or "HAProxy opened no API")

    def said(self) -> str:
        """What it has written to its log."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def stop(self) -> None:
        """Kill it and wait for its end. May be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
