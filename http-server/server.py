#!/usr/bin/env python3
"""The app of the topology: a small web server that says who it is. Standard library only.

    server.py --listen 127.64.3.10:8080 --identity k3f9.c1.7 [--start-delay 0.5] [--mode MODE]

It prints `listening IP:PORT` once it accepts connections. Each answer carries its identity in
`X-Chaosd-Instance` and its own address in `X-Chaosd-Address`. `/` is a page to look at, `/healthz`
is for health checks. SIGTERM: it stops listening, finishes what is in flight and exits.

The other modes are what may be found at the address of an app that is gone:

    app        the app itself (the default)
    imposter   another application: answers 200 with another page, identity `imposter`
    refuse     holds the address without listening: connections are refused
    blackhole  packets vanish: connections get no answer at all
    tarpit     takes connections and reads, never answers

With `--armed` it prints `armed`, waits for a line `take IP PORT` on its standard input, takes that
address, and prints `holding IP:PORT`. It exits when its standard input ends.

Each option may be given as an environment variable instead: CHAOSD_LISTEN, CHAOSD_IDENTITY,
CHAOSD_START_DELAY, CHAOSD_MODE. Without any it listens on 0.0.0.0:8080 and is named after its host.
"""

# It is started anew in every cycle, so it imports only what starts fast (no argparse, no asyncio).
import array
import errno
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

MODES = ("app", "imposter", "refuse", "blackhole", "tarpit")

CONNECTIONS_MAX = 8192  # more than a proxy with thousands of stuck requests opens
HEAD_BYTES_MAX = 16384  # what a request line and its fields may take together
READ_BYTES = 16384
ACCEPTS_MAX = 256  # per turn, so that a flood of new connections can't starve the open ones
BACKLOG = 4096
DRAIN_S = 5.0  # after SIGTERM
TAKE_S = 1.0  # how long a dying process may still keep the address
SO_ATTACH_FILTER = 26  # not in the socket module

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2733; --paper: #f7f5f0; --mark: {light} }}
@media (prefers-color-scheme: dark) {{
:root {{ --ink: #e4e8ec; --paper: #14191f; --mark: {dark} }} }}
body {{ margin: 0; min-height: 100vh; display: grid; place-content: center; text-align: center;
font: 1.1rem/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper) }}
h1 {{ margin: 0; font-size: 3rem; color: var(--mark) }}
code {{ font-size: 1.1rem }}
</style>
<h1>{title}</h1>
<p>This is <code>{identity}</code><br>at <code>{address}</code></p>
</html>
"""
LOOKS = {
    "app": {"title": "Hello, world!", "light": "#0b6e4f", "dark": "#6fd6ae"},
    "imposter": {"title": "Somebody else lives here", "light": "#a3341f", "dark": "#ff9c85"},
}


class Connection:
    """One client: what it has sent of its next request, and what it has yet to take."""

    __slots__ = ("address", "closing", "inbox", "outbox", "served", "socket")

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.inbox = b""
        self.outbox = b""
        self.served = 0
        self.closing = False  # close once the outbox is empty
        self.address = "{}:{}".format(*client.getsockname()[:2])

    def idle(self) -> bool:
        return self.served > 0 and not self.inbox and not self.outbox


class Answers:
    """Whole answers, made once per address that clients have used (one, unless on 0.0.0.0)."""

    ADDRESSES_MAX = 64

    def __init__(self, mode: str, identity: str) -> None:
        self.mode = mode
        self.identity = identity
        self.made: dict[str, dict[tuple[int, bool, bool], bytes]] = {}

    def get(self, address: str, status: int, *, body: bool, close: bool) -> bytes:
        if address not in self.made:
            if len(self.made) >= self.ADDRESSES_MAX:
                self.made.clear()
            self.made[address] = {}
        made = self.made[address]
        key = (status, body, close)
        if key not in made:
            made[key] = self.make(address, status, body=body, close=close)
        return made[key]

    def make(self, address: str, status: int, *, body: bool, close: bool) -> bytes:
        content, kind = f"{REASONS[status]}\n", "text/plain; charset=utf-8"
        if status == OK_PAGE:
            name = self.identity.replace("&", "&amp;").replace("<", "&lt;")
            content = PAGE.format(identity=name, address=address, **LOOKS[self.mode])
            kind = "text/html; charset=utf-8"
        fields = [
            f"HTTP/1.1 {abs(status)} {REASONS[status]}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(content.encode())}",
            "Cache-Control: no-store",
            f"X-Chaosd-Instance: {self.identity}",
            f"X-Chaosd-Address: {address}",
        ]
        if status == NOT_ALLOWED:
            fields.append("Allow: GET, HEAD, OPTIONS")
        if close:
            fields.append("Connection: close")
        head = "\r\n".join([*fields, "", ""])
        return (head + content if body else head).encode()


OK_PAGE, OK_SHORT = 200, -200  # the page, and "OK" for health checks
BAD, NOT_FOUND, NOT_ALLOWED, TOO_LARGE = 400, 404, 405, 431
REASONS = {
    OK_PAGE: "OK",
    OK_SHORT: "OK",
    BAD: "Bad Request",
    NOT_FOUND: "Not Found",
    NOT_ALLOWED: "Method Not Allowed",
    TOO_LARGE: "Request Header Fields Too Large",
}


def judge(head: bytes) -> tuple[int, bool, bool]:
    """What a request's head asks for: (status, whether a body goes with it, whether to close)."""
    line, _, rest = head.partition(b"\r\n")
    method, _, tail = line.partition(b" ")
    target, _, version = tail.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not target:
        return BAD, True, True
    close = version == b"HTTP/1.0"
    for field in rest.lower().split(b"\r\n"):
        name, _, value = field.partition(b":")
        if name == b"connection":
            close = b"close" in value or (close and b"keep-alive" not in value)
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0"):
            # Nothing here takes a body, and what follows would be read as the next request.
            return NOT_ALLOWED, True, True
    if method not in (b"GET", b"HEAD", b"OPTIONS"):
        return NOT_ALLOWED, True, close
    path = target.partition(b"?")[0]
    status = OK_PAGE if path == b"/" else OK_SHORT if path == b"/healthz" else NOT_FOUND
    return status, method != b"HEAD", close


class Server:
    """The loop: one thread, edge by edge, with a limit on everything that is held."""

    def __init__(self, listener: socket.socket, answers: Answers | None, stop: int) -> None:
        self.listener: socket.socket | None = listener
        self.answers = answers  # None: read and never answer
        self.connections: dict[int, Connection] = {}  # the one heard of longest ago first
        self.connections_max = min(CONNECTIONS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64)
        self.epoll = select.epoll()
        self.epoll.register(listener.fileno(), select.EPOLLIN)
        self.stop = stop
        self.epoll.register(stop, select.EPOLLIN)

    def run(self) -> None:
        """Serve until the `stop` descriptor is readable; then finish, within a limit."""
        deadline = None
        while deadline is None or (self.connections and time.monotonic() < deadline):
            wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            for descriptor, events in self.epoll.poll(wait_s):
                if descriptor in self.connections:
                    self.attend(self.connections[descriptor], events)
                elif self.listener is not None and descriptor == self.listener.fileno():
                    self.accept(ACCEPTS_MAX)
                elif descriptor == self.stop and deadline is None:
                    deadline = time.monotonic() + DRAIN_S
                    self.drain()

    def drain(self) -> None:
        """Stop listening. What is under way stays; connections that only wait are closed."""
        self.epoll.unregister(self.stop)
        # Closing a listener resets the connections that it has not handed out yet.
        self.accept(BACKLOG)
        if self.listener is not None:
            self.listener.close()
            self.listener = None
        for connection in list(self.connections.values()):
            if self.answers is None or connection.idle():
                self.drop(connection)

    def accept(self, most: int) -> None:
        for _ in range(most):
            try:
                client, _ = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE) and self.connections:
                    self.drop(next(iter(self.connections.values())))
                    continue
                return  # the client has gone again already
            client.setblocking(False)
            while len(self.connections) >= self.connections_max:
                self.drop(next(iter(self.connections.values())))
            self.connections[client.fileno()] = Connection(client)
            self.epoll.register(client.fileno(), select.EPOLLIN)

    def drop(self, connection: Connection) -> None:
        del self.connections[connection.socket.fileno()]
        connection.socket.close()

    def attend(self, connection: Connection, events: int) -> None:
        descriptor = connection.socket.fileno()
        self.connections[descriptor] = self.connections.pop(descriptor)
        try:
            if connection.outbox:
                # It is not read from before it has taken its answers: nothing piles up.
                self.send(connection)
            elif events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                data = connection.socket.recv(READ_BYTES)
                if not data:
                    self.drop(connection)
                elif self.answers is not None:
                    self.read(connection, data)
        except BlockingIOError:
            return
        except OSError:
            self.drop(connection)

    def read(self, connection: Connection, data: bytes) -> None:
        data = connection.inbox + data
        answers = []
        while not connection.closing:
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end and len(data) <= HEAD_BYTES_MAX:
                break
            data = rest
            status, body, close = judge(head) if end else (TOO_LARGE, True, True)
            connection.closing = close or self.listener is None
            connection.served += 1
            answers.append(
                self.answers.get(connection.address, status, body=body, close=connection.closing)
            )
        connection.inbox = data
        if answers:
            connection.outbox = b"".join(answers)
            self.send(connection)

    def send(self, connection: Connection) -> None:
        descriptor = connection.socket.fileno()
        sent = connection.socket.send(connection.outbox)
        connection.outbox = connection.outbox[sent:]
        if connection.outbox:
            self.epoll.modify(descriptor, select.EPOLLOUT)
        elif connection.closing:
            self.drop(connection)
        else:
            self.epoll.modify(descriptor, select.EPOLLIN)
