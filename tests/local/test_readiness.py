"""The proxy's entry as the probe finds it: with its host, path, TLS and PROXY line."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct

import pytest

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.probe import Knock
from chaosd.proxies.haproxy import api
from chaosd.proxies.haproxy.rewire import certificate
from chaosd.runtimes import readiness
from chaosd.system.clock import RealClock

APP = b"HTTP/1.1 200 OK\r\nX-Chaosd-Instance: i\r\n\r\n"


def knock(knock: Knock, *answers: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """What is asked for at an entry that answers so, the last answer again and again."""
    asked, left = [], list(answers)

    async def answer(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        writer.close()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
        async with server:
            here = Address(*server.sockets[0].getsockname())
            await readiness.answers(
                here, knock, RealClock(), in_trouble=lambda: False, last_word=lambda: "word"
            )

    asyncio.run(main())
    assert len(asked) == len(answers)
    return asked[-1]


def test_it_asks_as_the_probe_does():
    head = knock(Knock(host="shop.example", path="/in", proxy_line=True), APP).split(b"\r\n")
    assert head[0].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 65535 ")
    assert head[1] == b"GET /in HTTP/1.1"
    assert b"Host: shop.example" in head


@pytest.mark.parametrize("ask", ["entry", "api"])
def test_that_a_connection_breaks_is_an_answer_and_nothing_else(monkeypatch, ask):
    """asyncio printed a traceback of it, whenever the garbage was collected in an unlucky order."""
    writers = []
    connect = asyncio.open_connection

    async def connected(*args, **keys):
        reader, writer = await connect(*args, **keys)
        writers.append(writer)
        return reader, writer

    monkeypatch.setattr(asyncio, "open_connection", connected)

    def reset(_, writer):
        linger = struct.pack("ii", 1, 0)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def main():
        server = await asyncio.start_server(reset, "127.0.0.1", 0)
        async with server:
            here = Address(*server.sockets[0].getsockname())
            if ask == "entry":
                assert "reset" in await readiness._knock(here, Knock())
            else:
                with pytest.raises(ConnectionResetError):
                    await api.read_state(str(here))
        return bool(writers[0]._protocol._closed._log_traceback)

    is_complained_of = asyncio.run(main())
    assert not is_complained_of


def test_without_a_host_it_is_the_address():
    assert b"\r\nHost: 127.0.0.1:" in knock(Knock(), APP)


def test_it_speaks_tls_with_the_name(tmp_path):
    (tmp_path / "c.pem").write_bytes(certificate.make(("shop.example",)))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "c.pem")
    names = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    knock(Knock(host="shop.example", tls=True), APP, tls=server)
    assert names == ["shop.example"]


def test_an_answer_of_somebody_else_is_not_the_app():
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"
    knock(Knock(), redirect)
    knock(Knock(identified=True), redirect, APP)


def test_who_never_answers_well_is_said(monkeypatch):
    monkeypatch.setattr(readiness, "ENTRY_LIMIT_S", 0.0)
    with pytest.raises(MachineError, match=r"it says HTTP/1\.1 200 OK, and not who answered"):
        knock(Knock(identified=True), b"HTTP/1.1 200 OK\r\n\r\n")
