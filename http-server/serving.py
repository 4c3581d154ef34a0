"""What the app answers, and the loop that does: one thread, and a limit on everything held.

Standard library only. server.py beside this file takes the address and starts it.
"""

from __future__ import annotations

# It is imported anew wherever the app is a program of its own, so it imports only what starts fast.
import array
import errno
import functools
import select
import socket
import struct
import time
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONNECTIONS_MAX = 8192  # more than a proxy with thousands of stuck requests opens
HEAD_BYTES_MAX = 16384  # what a request line and its fields may take together
READ_BYTES = 16384
BACKLOG = 4096
HEADS_KEPT = 64  # of requests that were judged: a proxy's look alike
DRAIN_S = 5.0  # after a signal to end
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # not in the socket module

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


# Every answer there is: its kind, and its status line.
STATUS = {
    "page": "200 OK",
    "healthy": "200 OK",
    "unwell": "503 Service Unavailable",
    "malformed": "400 Bad Request",
    "unknown": "404 Not Found",
    "refused": "405 Method Not Allowed",
    "too large": "431 Request Header Fields Too Large",
}


@functools.lru_cache(maxsize=HEADS_KEPT)
def judge(head: bytes, pages: str = "/") -> tuple[str, bool, bool]:
    """What a request's head is answered: (kind, whether a body goes with it, whether to close).

    `pages` is the path that has the page; "any": all have it.
    """
    line, _, rest = head.partition(b"\r\n")
    method, _, tail = line.partition(b" ")
    target, _, version = tail.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not target:
        return "malformed", True, True
    close = version == b"HTTP/1.0"
    for field in rest.lower().split(b"\r\n"):
        name, _, value = field.partition(b":")
        if name == b"connection" and b"close" in value:
            close = True
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0"):
            # Nothing here takes a body, and it would be read as the next request.
            return "refused", True, True
    if method not in (b"GET", b"HEAD", b"OPTIONS"):
        return "refused", True, close
    path = target.partition(b"?")[0]
    kind = "page" if path == b"/" else "healthy" if path == b"/healthz" else "unknown"
    if pages == "any":
        kind = "page"
    return kind, method != b"HEAD", close


def answers(mode: str, identity: str, says: str = "") -> Callable[[str, str, bool, bool], bytes]:
    """Whole answers as they go over the wire, each made once."""

    @functools.lru_cache(maxsize=256)
    def answer(address: str, kind: str, body: bool, close: bool) -> bytes:  # noqa: FBT001
        content, media = f"{STATUS[kind][4:]}\n", "text/plain"
        if kind == "page":
            name = identity.replace("&", "&amp;").replace("<", "&lt;")
            content, media = PAGE.format(identity=name, address=address, **LOOKS[mode]), "text/html"
            content += f"{says}\n" if says else ""
        fields = [
            f"HTTP/1.1 {STATUS[kind]}",
            f"Content-Type: {media}; charset=utf-8",
            f"Content-Length: {len(content.encode())}",
            "Cache-Control: no-store",
            f"X-Chaosd-Instance: {identity}",
            f"X-Chaosd-Address: {address}",
            *(["Allow: GET, HEAD, OPTIONS"] if kind == "refused" else []),
            *(["Connection: close"] if close else []),
        ]
        head = "\r\n".join([*fields, "", ""])
        return (head + content if body else head).encode()

    return answer


class Connection:
    """One client: what it has sent of its next request, and what it has yet to take."""

    __slots__ = ("address", "closing", "inbox", "outbox", "served", "socket", "wire", "writing")

    def __init__(self, client: socket.socket, address: str, wire: Any) -> None:
        self.socket = client
        self.address = address  # at which it was met
        self.inbox = b""
        self.outbox = b""
        self.served = False  # it has asked at least once
        self.closing = False  # close once the outbox is empty
        self.wire = wire  # what comes before HTTP; None: nothing does
        self.writing = False  # waited for until it takes more of the outbox


class Server:
    """The loop: one thread, and a limit on everything that is held."""

    def __init__(
        self,
        listeners: list[socket.socket],
        reply: Callable[..., bytes] | None,
        stop: int,
        *,
        pages: str = "/",
        script: dict[bytes, bytes] | None = None,
        wires: Callable[[], Any] | None = None,
    ) -> None:
        self.listeners = {listener.fileno(): listener for listener in listeners}
        host, port = listeners[0].getsockname()[:2]
        is_one = len(listeners) == 1 and host not in ("0.0.0.0", "::")  # noqa: S104
        self.address = f"{host}:{port}" if is_one else ""  # of every connection, if it is known
        self.reply = reply  # makes an answer; None: read and never answer
        self.well_reply = reply  # the same when it does not hang
        self.stop = stop
        self.pages = pages
        self.script = script or {}  # what is not HTTP, and what it is answered
        self.wires = wires or (lambda: None)  # makes what comes before HTTP on a connection
        self.connections: dict[int, Connection] = {}  # the one heard of longest ago comes first
        self.epoll = select.epoll()
        for descriptor in [*self.listeners, stop]:
            self.epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Serve until the descriptor `stop` is readable; then finish what is in flight."""
        deadline_s = float("inf")
        while (left_s := deadline_s - time.monotonic()) > 0:
            if not self.listeners and not self.connections:
                return
            for descriptor, events in self.epoll.poll(None if self.listeners else left_s):
                connection = self.connections.get(descriptor)
                if connection is not None:
                    if events & select.EPOLLERR:  # it was reset
                        self.drop(connection)
                    else:
                        self.attend(connection)
                elif descriptor in self.listeners:
                    # One a turn: the open ones are not kept waiting.
                    self.accept(self.listeners[descriptor])
                elif descriptor == self.stop and self.listeners and is_readable(self.stop):
                    deadline_s = time.monotonic() + DRAIN_S
                    self.drain()

    # A signal's handler calls these three, between any two steps of the loop.

    def hang(self) -> None:
        """Answer nothing from now on; what is asked meanwhile is never answered."""
        self.well_reply, self.reply = self.reply or self.well_reply, None

    def deafen(self) -> None:
        """Let every packet to it vanish."""
        for each in self.sockets():
            deafen(each)

    def recover(self) -> None:
        """Answer and hear again."""
        self.reply = self.reply or self.well_reply
        for each in self.sockets():
            try:
                each.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            except OSError:
                pass  # it was not deaf

    def sockets(self) -> list[socket.socket]:
        connected = [connection.socket for connection in list(self.connections.values())]
        return [*self.listeners.values(), *connected]

    def drain(self) -> None:
        """Stop listening, and close the connections that have been served and only wait."""
        self.epoll.unregister(self.stop)
        # Closing a listener resets the connections that it has not handed out yet.
        for listener in self.listeners.values():
            for _ in range(BACKLOG):
                if not self.accept(listener):
                    break
            listener.close()
        self.listeners = {}
        for connection in list(self.connections.values()):
            idle = connection.served and not connection.inbox and not connection.outbox
            if idle or self.reply is None:
                self.drop(connection)

    def accept(self, listener: socket.socket) -> bool:
        """Let one in; False if there is none, or no room."""
        try:
            client, _ = listener.accept()
            client.setblocking(False)
            address = self.address or "{}:{}".format(*client.getsockname())
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self.connections:
                return True  # the client has gone again already
            self.drop(next(iter(self.connections.values())))
            return True
        if len(self.connections) >= CONNECTIONS_MAX:
            self.drop(next(iter(self.connections.values())))
        connection = self.connections[client.fileno()] = Connection(client, address, self.wires())
        self.epoll.register(client.fileno(), select.EPOLLIN)
        self.attend(connection)  # what it asks for is often there already
        return True

    def drop(self, connection: Connection) -> None:
        del self.connections[connection.socket.fileno()]
        connection.socket.close()

    def attend(self, connection: Connection) -> None:
        descriptor = connection.socket.fileno()
        self.connections[descriptor] = self.connections.pop(descriptor)
        back = b""
        try:
            if connection.outbox:
                # It is not read from before it has taken its answers, so that nothing piles up.
                self.send(connection)
                return
            data = came = connection.socket.recv(READ_BYTES)
            if connection.wire is not None and came:
                if connection.wire.is_costly(came) and has_left(connection.socket):
                    self.drop(connection)
                    return
                data, back = connection.wire.received(came)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if not came:
            self.drop(connection)
        elif self.reply is not None:
            connection.outbox = back
            self.read(connection, connection.inbox + data, self.reply)

    def read(self, connection: Connection, data: bytes, reply: Callable[..., bytes]) -> None:
        answers = []
        while not connection.closing:
            if self.script and (played := self.play(data)) is not None:
                said, rest = played
                answers.append(said)
                if rest == data:
                    break
                data = rest
                continue
            head, end, rest = data.partition(b"\r\n\r\n")
            if not end and len(data) <= HEAD_BYTES_MAX:
                break
            kind, body, close = judge(head, self.pages) if end else ("too large", True, True)
            connection.closing = close or not self.listeners
            answers.append(reply(connection.address, kind, body, connection.closing))
            data = rest
        connection.inbox = data
        if any(answers):
            connection.served = True
            said = b"".join(answers)
            connection.outbox += said if connection.wire is None else connection.wire.sent(said)
        if connection.outbox:
            self.send(connection)

    def play(self, data: bytes) -> tuple[bytes, bytes] | None:
        """What the script answers, and what is left of the data; None if it is not its."""
        for request, said in self.script.items():
            if data.startswith(request):
                return said, data[len(request) :]
            if data and request.startswith(data):
                return b"", data  # the rest of it is still to come
        return None

    def send(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.outbox)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.drop(connection)
            return
        connection.outbox = connection.outbox[sent:]
        if connection.closing and not connection.outbox:
            self.drop(connection)
        elif connection.writing != bool(connection.outbox):
            connection.writing = bool(connection.outbox)
            events = select.EPOLLOUT if connection.writing else select.EPOLLIN
            self.epoll.modify(connection.socket.fileno(), events)


def has_left(client: socket.socket) -> bool:
    """Whether it sends nothing more. A crowd that has given up is not worked off one by one."""
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def deafen(holder: socket.socket) -> None:
    """Drop every packet that arrives at this socket, before TCP sees it; needs no privileges.

    Keeping the accept queue full would nearly do, but lets in who comes while it is being filled.
    """
    program = array.array("B", struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0, "keep nothing"
    filter_at, _ = program.buffer_info()
    holder.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, filter_at))


def is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])
