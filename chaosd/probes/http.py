"""Plain HTTP/1.1 at any rate: the fast path.

A socket per attempt, connected and written to in the same breath (on loopback the handshake is over
when `connect` returns), httptools to read the answer, and one epoll for all sockets, which the loop
watches. Measured against an asyncio protocol per probe on uvloop this costs a fifth less, and the
instant of the SYN is known. A probe creates no reference cycle that outlives it.

A new connection is watched until its answer is whole, and no longer: that the other side has closed
it wakes nobody up, and is seen at the next shot, once that is sent.

Answers of one app look alike: one that equals an earlier one byte for byte has its verdict, and is
not parsed again.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
from ipaddress import ip_address
from typing import Any, ClassVar, Literal, NamedTuple

import httptools
from pydantic import Field

from chaosd.history.values import Address, Outcome
from chaosd.plugins.bases import ProbeConfig
from chaosd.plugins.probe import Knock, Shot, proxy_line
from chaosd.probes import outcomes

ANSWER_MAX = 1 << 20  # bytes; what sends more is not the app that we ask
IDLE_MAX = 256  # connections
KNOWN_MAX = 16  # answers whose verdict is remembered
_CHUNK = 16_384
_EVENTS_MAX = 256  # at a time, so that the timers get their turn
_CLOSING = select.EPOLLRDHUP
_READ = select.EPOLLIN | _CLOSING
_WRITE = select.EPOLLOUT
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_UNDER_WAY = (0, errno.EINPROGRESS)
# The request carries the last packet of the handshake, which saves both sides one. Then packets are
# acknowledged at once again, or an app that writes its answer in pieces would wait 40 ms for that.
_ACK_LATER = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
_ACK_AT_ONCE = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
_SIZED = (b"content-length", b"transfer-encoding")


class _Verdict(NamedTuple):
    """What an attempt comes to."""

    outcome: Outcome
    status: int = 0
    who: str = ""
    reusable: bool = False  # by its answer, the connection may be used again


class _Answer:
    """An answer of which a part has come, and what the parser says of it."""

    __slots__ = ("_begun", "_identity", "_reusable", "_sized", "_status", "_who", "parser", "size")

    def __init__(self, identity: bytes) -> None:
        self.parser: Any = httptools.HttpResponseParser(self)  # it holds this, too
        self.size = 0
        self._identity = identity
        self._who = b""
        self._status = 0  # 0: it is not whole yet
        self._begun = self._sized = self._reusable = False

    # What the parser calls. Only the first answer counts; if more follows, nothing more is asked.

    def on_message_begin(self) -> None:
        self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == self._identity and not self._status:
            self._who = value
        elif name in _SIZED:
            self._sized = True

    def on_headers_complete(self) -> None:
        self._begun = True

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:  # noqa: PLR2004  # the answer itself is still to come
            self._begun = self._sized = False
        elif not self._status:
            self._status = status
            self._reusable = self.parser.should_keep_alive()

    def verdict(self, *, ended: bool = False) -> _Verdict | None:
        """None if it is not whole; some are by the end of their connection, which nothing tells."""
        status = self._status
        if not status and ended and self._begun and not self._sized:
            status = self.parser.get_status_code()
        if not status:
            return None
        outcome = Outcome.HTTP_ERROR if status >= 400 else Outcome.OK  # noqa: PLR2004
        return _Verdict(outcome, status, self._who.decode("latin-1"), self._reusable)


class _Connection:
    """A socket, whose attempt it is, and the answer if it does not come in one piece."""

    __slots__ = ("answer", "events", "fd", "request", "shot", "sock", "target")

    def __init__(
        self, sock: socket.SocketType, target: Address, request: bytes, shot: Shot
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.target = target
        self.request = request  # the next one to be sent
        self.events = 0  # what the epoll watches it for
        self.shot: Shot | None = shot  # None: idle
        self.answer: _Answer | None = None

    def forget_answer(self) -> None:
        if self.answer is not None:
            self.answer.parser = None  # it holds the answer, which holds it
            self.answer = None


class HttpProbe:
    """GET over HTTP/1.1, a new connection each time or a kept one."""

    identifies: ClassVar[bool] = True

    class Config(ProbeConfig):
        type: Literal["http"] = "http"
        path: str = Field(
            "/", pattern=r"^/[!-~]*$", max_length=2000, description="what is asked for"
        )
        host: str | None = Field(
            None,
            pattern=r"^[!-~]+$",
            max_length=255,
            description="the Host header; the target's address if not set",
        )
        connection: Literal["new", "keep-alive"] = Field(
            "new", description="a new connection for each probe, or kept ones"
        )
        proxy_protocol: bool = Field(
            False,
            description="begin each connection with a PROXY line (version 1), as the load "
            "balancer before a bind with `accept-proxy` does",
        )

        def knock(self) -> Knock:
            return Knock(host=self.host, path=self.path, proxy_line=self.proxy_protocol)

    def __init__(self, config: Config, identity_header: str) -> None:
        self._config = config
        self._keep_alive = config.connection == "keep-alive"
        self._identity = identity_header.lower().encode()
        self._target: Address | None = None
        self._family = socket.AF_INET
        self._request = self._first_request = b""
        self._epoll = select.epoll()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: dict[int, _Connection] = {}
        self._asking: dict[Shot, _Connection] = {}
        # Kept for reuse, or until the other side has closed: who closes first holds the port.
        self._idle: dict[int, _Connection] = {}
        self._unwatched: list[_Connection] = []  # those that were answered since the last shot
        self._once = 0 if self._keep_alive else select.EPOLLONESHOT
        self._known: dict[bytes, _Verdict] = {}  # of answers that came whole in one piece

    def fire(self, shot: Shot, target: Address) -> None:
        if target != self._target:
            self._turn_to(target)
        connection = self._kept() if self._keep_alive else None
        try:
            if connection is None:
                connection = self._connect(shot, target)
            else:
                connection.shot = shot
                shot.sent()
        except OSError as error:
            shot.done(outcomes.of_error(error))
        else:
            self._asking[shot] = connection
            self._send(connection)
        if self._unwatched:
            self._look_at_unwatched()

    def abandon(self, shot: Shot) -> None:
        connection = self._asking.pop(shot, None)
        if connection is not None:
            self._close(connection)

    async def close(self) -> None:
        for connection in list(self._open.values()):
            self._close(connection)
        self._asking.clear()
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _turn_to(self, target: Address) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self._ready)
        version = ip_address(target.host).version  # a name would have more than one address
        self._family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004
        self._request = (
            f"GET {self._config.path} HTTP/1.1\r\n"
            f"Host: {self._config.host or target}\r\n"
            "User-Agent: chaosd\r\nAccept: */*\r\n"
            f"Connection: {'keep-alive' if self._keep_alive else 'close'}\r\n\r\n"
        ).encode()
        preface = proxy_line(target) if self._config.proxy_protocol else b""
        self._first_request = preface + self._request
        self._target = target
        for connection in list(self._idle.values()):
            self._close(connection)

    def _kept(self) -> _Connection | None:
        """Take the youngest idle connection that the other side has not closed."""
        while self._idle:
            _, connection = self._idle.popitem()
            try:
                connection.sock.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return connection
            except OSError:
                pass
            self._close(connection)  # closed, or it says what nobody asked for
        return None

    def _look_at_unwatched(self) -> None:
        """Close those that the other side has closed; the epoll tells when it closes the others."""
        for connection in self._unwatched:
            try:
                connection.sock.recv(1)
            except BlockingIOError:
                self._watch(connection, _READ)
                self._rest(connection)
            except OSError:
                self._close(connection)
            else:
                self._close(connection)
        self._unwatched.clear()

    def _connect(self, shot: Shot, target: Address) -> _Connection:
        """Begin to connect. Raises OSError if not even that can be done."""
        sock = socket.SocketType(self._family, _STREAM)
        if not self._keep_alive:
            sock.setsockopt(*_ACK_LATER)
        shot.sent()
        error = sock.connect_ex(target)
        if error not in _UNDER_WAY:
            sock.close()
            raise OSError(error, os.strerror(error))
        connection = _Connection(sock, target, self._first_request, shot)
        self._open[connection.fd] = connection
        return connection

    def _send(self, connection: _Connection) -> None:
        try:
            connection.sock.send(connection.request)
        except BlockingIOError:
            self._watch(connection, _WRITE)
        except OSError as error:
            self._end(connection, _Verdict(outcomes.of_error(error)))
        else:
            if not self._keep_alive:
                connection.sock.setsockopt(*_ACK_AT_ONCE)
            self._watch(connection, _READ)

    def _watch(self, connection: _Connection, events: int) -> None:
        if not connection.events:
            self._epoll.register(connection.fd, events | self._once)
        elif self._once or connection.events != events:
            self._epoll.modify(connection.fd, events | self._once)
        connection.events = events

    def _ready(self) -> None:
        for fd, events in self._epoll.poll(0, _EVENTS_MAX):
            connection = self._open.get(fd)
            if connection is None:
                continue  # closed a moment ago to make room
            if connection.shot is None:
                self._close(connection)
            elif connection.events == _WRITE:
                self._send(connection)
            else:
                self._receive(connection, events & _CLOSING)

    def _receive(self, connection: _Connection, closing: int) -> None:
        try:
            data = connection.sock.recv(_CHUNK)
        except BlockingIOError:
            self._watch(connection, _READ)
            return
        except OSError as error:
            self._end(connection, _Verdict(outcomes.of_error(error)))
            return
        verdict = self._known.get(data)
        if verdict is not None and connection.answer is None:
            self._end(connection, verdict, closing)
        elif data:
            self._feed(connection, data, closing)
        else:
            self._end_closed(connection)

    def _feed(self, connection: _Connection, data: bytes, closing: int) -> None:
        """Give the parser what is no answer that came before, or only a part of one."""
        answer = connection.answer = connection.answer or _Answer(self._identity)
        answer.size += len(data)
        more = False
        try:
            answer.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            more = True  # or it is no answer
        verdict = answer.verdict()
        if verdict is not None:
            if answer.size == len(data) and not more:
                self._remember(data, verdict)
            self._end(connection, verdict, closing or more)
        elif more or answer.size > ANSWER_MAX:
            self._end(connection, _Verdict(Outcome.GARBLED))
        else:
            self._watch(connection, _READ)  # the rest of the answer is to come

    def _remember(self, data: bytes, verdict: _Verdict) -> None:
        self._known[data] = verdict
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]

    def _end_closed(self, connection: _Connection) -> None:
        answer = connection.answer
        verdict = answer.verdict(ended=True) if answer is not None else None
        if verdict is None:
            self._end(connection, _Verdict(Outcome.RESET))
        else:
            self._end(connection, verdict)

    def _end(self, connection: _Connection, verdict: _Verdict, closing: int = _CLOSING) -> None:
        """`closing`: the connection is over."""
        outcome, status, who, reusable = verdict
        shot, connection.shot = connection.shot, None
        assert shot is not None  # noqa: S101  # idle connections are closed, never ended
        del self._asking[shot]
        shot.done(outcome, status, who)
        if connection.answer is not None:
            connection.forget_answer()
        if closing:
            self._close(connection)
        elif not self._keep_alive:
            self._unwatched.append(connection)
        elif reusable and connection.target == self._target:
            connection.request = self._request
            self._rest(connection)
        else:
            self._close(connection)

    def _rest(self, connection: _Connection) -> None:
        """Keep it until it is used again, or until the other side closes it."""
        self._idle[connection.fd] = connection
        if len(self._idle) > IDLE_MAX:
            self._close(next(iter(self._idle.values())))

    def _close(self, connection: _Connection) -> None:
        del self._open[connection.fd]
        self._idle.pop(connection.fd, None)
        if connection.answer is not None:
            connection.forget_answer()
        connection.sock.close()
