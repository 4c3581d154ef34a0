"""http-server/stand_in.py: what the app can do where it stands for somebody else's."""

from __future__ import annotations

import itertools
import socket
import ssl
import time
from contextlib import suppress

from test_app_server import PORT, WAIT_S, ip, serving

from chaosd.proxies.haproxy.rewire import certificate

__all__ = ["ip"]  # the fixture


def ask(ip, first: bytes = b"", tls: ssl.SSLContext | None = None) -> bytes:
    """The answer to a plain request on a connection that begins with these bytes."""
    with socket.create_connection((ip, PORT), timeout=WAIT_S) as raw:
        raw.sendall(first)
        client = raw if tls is None else tls.wrap_socket(raw, server_hostname="app.example")
        with client:
            client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            found = b""
            while part := client.recv(4096):
                found += part
            return found


V2_LINE = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12)


def test_what_may_come_before_http(ip):
    pem = certificate.make(("app.example",)).decode()
    trusting = ssl.create_default_context(cadata=pem)
    lines = (b"", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", V2_LINE)
    with serving(ip, "--proxied", "yes", CHAOSD_CERTIFICATE=pem):
        for line, tls in itertools.product(lines, (None, trusting)):
            said = ask(ip, line, tls)
            assert said.startswith(b"HTTP/1.1 200"), (line, tls)
            assert b"X-Chaosd-Instance: r.c.1\r\n" in said


def test_a_proxy_line_may_come_in_pieces(ip):
    with (
        serving(ip, "--proxied", "yes"),
        socket.create_connection((ip, PORT), timeout=WAIT_S) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in V2_LINE + b"GET / HTTP/1.1\r\n\r\n":
            client.sendall(bytes([byte]))
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_no_handshake_is_made_with_somebody_who_has_left(ip):
    pem = certificate.make(("app.example",)).decode()
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cadata=pem).wrap_bio(
        heard, said, server_hostname="app.example"
    )
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = said.read()
    with serving(ip, "--proxied", "yes", CHAOSD_CERTIFICATE=pem):
        for first in (hello, V2_LINE + hello):
            with socket.create_connection((ip, PORT), timeout=WAIT_S) as left:
                left.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # both at once
                left.sendall(first)
                left.shutdown(socket.SHUT_WR)
                assert left.recv(4096) == b""
        with socket.create_connection((ip, PORT), timeout=WAIT_S) as waiting:
            waiting.sendall(hello)
            assert waiting.recv(4096).startswith(b"\x16")  # its side of the handshake


def test_rubbish_before_http_ends_the_connection(ip):
    pem = certificate.make(("x",)).decode()
    with serving(ip, "--proxied", "yes", CHAOSD_CERTIFICATE=pem):
        for rubbish in (b"\x16\x03\x01\x00\x05hello", V2_LINE[:16], b"PROXY " + b"x" * 200):
            with socket.create_connection((ip, PORT), timeout=WAIT_S) as client:
                client.sendall(rubbish)
                client.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):
                    while client.recv(4096):
                        pass
        assert ask(ip).startswith(b"HTTP/1.1 200")


def test_it_is_not_well_for_some_time_after_it_listens(ip):
    with serving(ip, "--healthy-after", "0.4"):
        first = ask(ip)
        assert first.startswith(b"HTTP/1.1 503")
        assert b"X-Chaosd-Instance: r.c.1\r\n" in first
        until_s = time.monotonic() + WAIT_S
        while ask(ip).startswith(b"HTTP/1.1 503"):
            assert time.monotonic() < until_s
        assert ask(ip).startswith(b"HTTP/1.1 200")
