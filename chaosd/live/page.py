"""The daemon's own web page: /metrics, /-/healthy, /-/ready, served by threads."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.system import priority
from chaosd.system.clock import SECOND_NS, RealClock

CONNECTIONS_MAX = 32
REQUEST_LIMIT_S = 10.0  # of a connection, from its beginning to its end
ROOM_LIMIT_S = 1.0  # until one that was cut off is gone
JOIN_LIMIT_S = 5.0
UNAVAILABLE = "503 Service Unavailable"
TICK_AGE_MAX_NS = 30 * SECOND_NS
INDEX = b"chaosd: /metrics, /-/healthy, /-/ready\n"


class Page:
    """Listens from the start. Once it is ready, it is healthy as long as it is told of ticks.

    Its threads would answer, too, while the loop that does the work hangs: hence the ticks.
    Raises MachineError if it can't listen there. `address` is where it does; port 0 takes any.
    """

    def __init__(self, listen: Address, metrics: Any) -> None:
        self._now_ns = RealClock().now_ns
        self._ticked_ns: int | None = None  # None until it is ready
        self._metrics = metrics
        try:
            self._server = _Server(listen)
        except (OSError, OverflowError) as error:
            raise MachineError(f"metrics.listen: {_refused(listen, error)}") from error
        self.address = Address(listen.host, self._server.server_port)
        self._server.set_app(self._answer)
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        priority.share()
        self._server.serve_forever(0.1)

    def ready(self) -> None:
        """The topology is up."""
        self._ticked_ns = self._now_ns()

    def tick(self) -> None:
        """The task that does the work is alive."""
        if self._ticked_ns is not None:
            self._ticked_ns = self._now_ns()

    def close(self) -> None:
        """Stop listening. May be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(JOIN_LIMIT_S)
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO") or "/"
        if path == "/metrics":
            scraped: Iterable[bytes] = self._metrics(environ, start_response)
            return scraped
        status, text = self._say(path)
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text]

    def _say(self, path: str) -> tuple[str, bytes]:
        ticked_ns = self._ticked_ns
        if path == "/-/healthy":
            age_ns = 0 if ticked_ns is None else self._now_ns() - ticked_ns
            if age_ns > TICK_AGE_MAX_NS:
                return UNAVAILABLE, f"no tick for {age_ns // SECOND_NS} s\n".encode()
            return "200 OK", b"healthy\n"
        if path == "/-/ready":
            if ticked_ns is None:
                return UNAVAILABLE, b"not ready: the topology is being set up\n"
            return "200 OK", b"ready\n"
        return "200 OK" if path == "/" else "404 Not Found", INDEX


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_LIMIT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nobody wants a line for each scrape."""


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection, of which there are few: the oldest gives way to a new one.

    A scraper is done within milliseconds. A client that takes longer than the limit is cut off.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, listen: Address) -> None:
        self._open: dict[Any, int] = {}  # connections, the oldest first, and since when
        self._changed = threading.Condition()
        self._now_ns = RealClock().now_ns
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        super().__init__((listen.host, listen.port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer asks the resolver for its own name here, which can take many seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            if len(self._open) >= CONNECTIONS_MAX:
                _cut(next(iter(self._open)))
                self._changed.wait_for(lambda: len(self._open) < CONNECTIONS_MAX, ROOM_LIMIT_S)
            if len(self._open) >= CONNECTIONS_MAX:
                super().shutdown_request(request)
                return
            self._open[request] = self._now_ns()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        priority.share()
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify_all()
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off who takes too long; called some times a second."""
        with self._changed:
            for request, since_ns in self._open.items():
                if self._now_ns() - since_ns > REQUEST_LIMIT_S * SECOND_NS:
                    _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that hangs up, or never asks, is its own business."""


def _cut(request: socket.socket) -> None:
    """End a connection; its thread notices and closes it."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _refused(listen: Address, error: OSError | OverflowError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        other = "choose another port, 0 for any free one, or metrics: null"
        return f"{listen} is taken by another program ({other})"
    if number == errno.EADDRNOTAVAIL:
        return f"{listen.host} is no address of this machine (choose one, such as 127.0.0.1)"
    if number in (errno.EACCES, errno.EPERM):
        return f"{listen} may not be listened at by this user (choose a port above 1023)"
    return f"can't listen at {listen}: {error}"
