"""What the app needs only where it stands for somebody else's. Standard library only.

A dialogue that is not HTTP, some seconds in which it is not well, and what may come before HTTP on
a connection: a PROXY line, and TLS. The latter two are not required: a client that begins with HTTP
is answered as ever.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

V1, V1_BYTES_MAX = b"PROXY ", 107
V2, V2_HEAD_BYTES = b"\r\n\r\n\x00\r\nQUIT\n", 16
HANDSHAKE = b"\x16"  # the first byte of TLS
READ_BYTES = 16384


def scripted(text: str) -> dict[bytes, bytes]:
    """The script of an option: texts have a character for each byte. Exits with a line."""
    if not text:
        return {}
    try:
        script = json.loads(text)
        return {a.encode("latin-1"): b.encode("latin-1") for a, b in script.items() if a}
    except (ValueError, AttributeError):
        sys.exit("--script is no JSON object of texts")


def unwell(reply: Callable[..., bytes], seconds: float) -> Callable[..., bytes]:
    """Whatever is asked for in the next seconds is answered 503."""
    until_s = time.monotonic() + seconds

    def answer(address: str, kind: str, body: bool, close: bool) -> bytes:  # noqa: FBT001
        kind = "unwell" if time.monotonic() < until_s else kind
        return reply(address, kind, body, close)

    return answer


def wires(proxied: str, pem: str) -> Callable[[], Wire | None]:
    """What makes a Wire for each connection; None for each where nothing comes before HTTP."""
    if not proxied and not pem:
        return lambda: None
    return functools.partial(Wire, _context(pem) if pem else None)


def _context(pem: str) -> ssl.SSLContext:
    """A server's side of TLS with this certificate and its key."""
    import ssl  # it takes a while

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_alpn_protocols(["http/1.1"])
    memory = os.memfd_create("certificate")  # it is read from files only, and none may be written
    try:
        os.write(memory, pem.encode())
        made.load_cert_chain(f"/proc/self/fd/{memory}")
        made.num_tickets = 1  # of two, one is never used, and each costs a third of a handshake
    finally:
        os.close(memory)
    return made


class Wire:
    """One connection: what comes before HTTP is taken off what it sends."""

    __slots__ = ("_begun", "_context", "_tls", "_waiting")

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._waiting = b""  # the first bytes, as long as it is not clear what they are
        self._begun = False  # that is clear
        self._tls: Tls | None = None

    def is_costly(self, data: bytes) -> bool:
        """Whether what came is of a handshake: it takes a while, so somebody should wait for it."""
        if self._tls is not None:
            return not self._tls.is_open
        return self._context is not None and data.startswith((HANDSHAKE, V1, V2[:4]))

    def received(self, data: bytes) -> tuple[bytes, bytes]:
        """Take what came: what of it is HTTP, and what has to be sent back. Raises OSError."""
        if not self._begun:
            data = self._waiting = self._waiting + data
            length = proxy_bytes(data)
            if length is None or len(data) <= length:
                return b"", b""
            data = data[length:]
            self._begun, self._waiting = True, b""
            if self._context is not None and data.startswith(HANDSHAKE):
                self._tls = Tls(self._context)
        return (data, b"") if self._tls is None else self._tls.received(data)

    def sent(self, data: bytes) -> bytes:
        """What goes over the wire for this."""
        return data if self._tls is None or not data else self._tls.sent(data)


class Tls:
    """TLS without a socket."""

    def __init__(self, context: ssl.SSLContext) -> None:
        import ssl

        self._ssl = ssl
        self._heard, self._said = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._heard, self._said, server_side=True)
        self.is_open = False  # the handshake is over

    def received(self, data: bytes) -> tuple[bytes, bytes]:
        self._heard.write(data)
        parts = []
        try:
            self._object.do_handshake()
            self.is_open = True
            while part := self._object.read(READ_BYTES):
                parts.append(part)
        except self._ssl.SSLWantReadError:  # the rest is still to come
            pass
        except self._ssl.SSLZeroReturnError:
            raise ConnectionResetError("closed by the other side") from None
        return b"".join(parts), self._said.read()

    def sent(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._said.read()


def proxy_bytes(data: bytes) -> int | None:
    """How long the PROXY line at the beginning is, 0 if there is none; None: not to be seen yet."""
    if data.startswith(V1):
        end = data.find(b"\r\n")
        if end < 0:
            return None if len(data) < V1_BYTES_MAX else 0
        return end + 2
    if data.startswith(V2):
        is_whole = len(data) >= V2_HEAD_BYTES
        return V2_HEAD_BYTES + int.from_bytes(data[14:16]) if is_whole else None
    return None if V1.startswith(data) or V2.startswith(data) else 0
