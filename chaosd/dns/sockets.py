"""How DNS messages come and go: a UDP socket that is read by hand, and TCP connections.

What an action has made of an answer's delivery is done here: another sender, parts, an end.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from chaosd.dns.actions import Sending, Transport
from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.system import stamps
from chaosd.system.clock import Clock

TCP_CONNECTIONS_MAX = 64
TCP_IDLE_S = 10.0
DATAGRAMS_AT_ONCE = 64  # then others have their turn
LINGER_NOT = struct.pack("ii", 1, 0)  # a close is a reset


class Came(NamedTuple):
    """How a message came."""

    transport: Transport
    sender: Address = Address("", 0)
    at_ns: int | None = None  # when, if that was not now
    dropped: int = 0  # messages so far that came to a full buffer
    nameserver: int = 0  # which one of the server's it came to


Receive = Callable[[bytes, Came, Callable[[Sending], None]], None]


def bind(host: str, ports: Sequence[int]) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port, the first of these that is free."""
    problem = ""
    for port in ports:
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # it may be closed for a while
        try:
            udp.bind((host, port))
            tcp.bind((host, udp.getsockname()[1]))
        except OSError as error:
            udp.close()
            tcp.close()
            problem = error.strerror or str(error)
        else:
            return udp, tcp
    raise MachineError(f"the DNS server can't listen on {host}:{ports[0]}: {problem}")


def _neighbour(host: str) -> str:
    """Another loopback address; elsewhere the kernel chooses, and it may be the same one."""
    if host.startswith("127."):
        return str(ipaddress.ip_address(host) + 1)
    return "0.0.0.0"  # noqa: S104 - only to send from


class UdpDoor:
    """A bound socket, read by hand: an event loop's own transport tells no kernel's stamps."""

    def __init__(
        self, receive: Receive, bound: socket.socket, clock: Clock, nameserver: int = 0
    ) -> None:
        self._receive, self._socket, self._nameserver = receive, bound, nameserver
        bound.setblocking(False)
        stamps.ask_for(bound)
        self._stamps = stamps.Stamps(clock)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(bound, self._read)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(DATAGRAMS_AT_ONCE):
            if self._socket.fileno() < 0:
                return
            try:
                data, about, _, sender = self._socket.recvmsg(0xFFFF, stamps.ABOUT_BYTES)
            except OSError:  # there are no more
                return
            at_ns, _ = self._stamps.instant(about)
            dropped = stamps.dropped(about)
            came = Came("udp", Address(*sender[:2]), at_ns, dropped, self._nameserver)
            self._receive(data, came, partial(self._send, sender))

    def _send(self, to: tuple[str, int], sending: Sending) -> None:
        with suppress(OSError):  # as if it were lost on its way
            if sending.way == "usual":
                self._socket.sendto(sending.wire, to)
                return
            with socket.socket(type=socket.SOCK_DGRAM) as stranger:
                host, _ = self._socket.getsockname()
                stranger.bind((_neighbour(host) if sending.way == "other-address" else host, 0))
                stranger.sendto(sending.wire, to)


class TcpDoor(asyncio.Protocol):
    """Messages with their length before them; several may be sent without waiting for answers."""

    def __init__(
        self,
        receive: Receive,
        connections: dict[asyncio.Transport, int],
        nameserver: int = 0,
    ) -> None:
        """`connections` has those of one server and whose they are, the oldest first."""
        self._receive, self._connections, self._nameserver = receive, connections, nameserver
        self._buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        peer = transport.get_extra_info("peername") or ("", 0)
        self._came = Came("tcp", Address(*peer[:2]), nameserver=self._nameserver)
        connections = self._connections
        while len(connections) >= TCP_CONNECTIONS_MAX:
            oldest = next(iter(connections))
            del connections[oldest]
            oldest.abort()
        connections[transport] = self._nameserver
        self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.pop(self._transport, None)
        self._idle.cancel()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(TCP_IDLE_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._idle.cancel()
        self._watch()
        self._buffer += data
        while len(self._buffer) >= 2:  # noqa: PLR2004
            end = 2 + int.from_bytes(self._buffer[:2])
            if len(self._buffer) < end:
                return
            message, self._buffer = self._buffer[2:end], self._buffer[end:]
            self._receive(message, self._came, self._send)

    def pause_writing(self) -> None:
        # Who doesn't take its answers is not asked for more, and is idle before long.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def _send(self, sending: Sending) -> None:
        if self._transport.is_closing():
            return
        if sending.way == "reset":
            stream = self._transport.get_extra_info("socket")
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            self._transport.abort()
        elif sending.way == "close":
            self._transport.close()
        else:
            framed = len(sending.wire).to_bytes(2) + sending.wire
            self._write(framed if sending.framed else sending.wire, sending)

    def _write(self, left: bytes, sending: Sending) -> None:
        """A part now, and the rest after a pause, if it is not all at once."""
        size = sending.chunk or len(left)
        if self._transport.is_closing():
            return
        self._transport.write(left[:size])
        if left := left[size:]:
            loop = asyncio.get_running_loop()
            loop.call_later(sending.pause_s, self._write, left, sending)


class Listener:
    """Where one nameserver listens, over UDP and TCP; it may be shut for a while."""

    def __init__(
        self,
        receive: Receive,
        connections: dict[asyncio.Transport, int],
        clock: Clock,
        nameserver: int,
    ) -> None:
        self._receive, self._connections, self._clock = receive, connections, clock
        self._nameserver = nameserver
        self._at = Address("", 0)
        self._udp: UdpDoor | None = None
        self._tcp: asyncio.Task[asyncio.Server] | None = None
        self._listening: socket.socket | None = None  # what `_tcp` begins to serve

    def listen(self, host: str, ports: Sequence[int]) -> Address:
        """Listen there, on the first of these ports that is free. Raises MachineError."""
        udp, tcp = bind(host, ports)
        self._at = Address(host, udp.getsockname()[1])
        loop = asyncio.get_running_loop()
        self._listening = tcp
        self._udp = UdpDoor(self._receive, udp, self._clock, self._nameserver)
        listens = loop.create_server(
            lambda: TcpDoor(self._receive, self._connections, self._nameserver),
            sock=tcp,
            backlog=TCP_CONNECTIONS_MAX,
        )
        self._tcp = loop.create_task(listens)
        return self._at

    async def listens(self) -> None:
        """Return once it listens over TCP, too."""
        if self._tcp is not None:
            await self._tcp

    def listen_again(self) -> None:
        """Listen where it did before, if it does not. Raises MachineError."""
        if self._udp is None:
            self.listen(self._at.host, [self._at.port])

    def shut(self) -> None:
        """Close both ports: who asks is told by the kernel that nobody is there.

        Connections end, too, as they do with the program that they were to.
        """
        udp, self._udp = self._udp, None
        tcp, self._tcp = self._tcp, None
        for connection, nameserver in list(self._connections.items()):
            if nameserver == self._nameserver:
                connection.abort()
        if udp is not None:
            udp.close()
        if tcp is not None and tcp.done() and not tcp.cancelled():
            tcp.result().close()
        elif tcp is not None and self._listening is not None:
            tcp.cancel()
            self._listening.close()

    async def close(self) -> None:
        """Close both ports for good."""
        tcp = self._tcp
        self.shut()
        if tcp is not None and tcp.done() and not tcp.cancelled():
            await tcp.result().wait_closed()
