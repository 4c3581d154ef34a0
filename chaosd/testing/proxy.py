"""The conformance suite of proxies: what every proxy must pass, ours and third parties'.

What a proxy's abilities promise is asked of it; an ability that it does not have is not. Where its
program is on this machine it is run: on loopback, with a DNS server and an app of the suite's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Any

from chaosd import plugins
from chaosd.dns.server import DnsServer
from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.plugins.proxy import (
    LOG_WORDS,
    Checks,
    Launches,
    Proxy,
    ReadsLog,
    ReadsServers,
    ServerState,
    Wiring,
)
from chaosd.system.clock import RealClock, sleep

NAME, PORT, ENTRY_PORT = "app.chaosd", 8080, 8080
HEADER = b"X-Chaosd-Instance"
MOVE_LIMIT_S = 20.0  # for what comes within some seconds on an idle machine
PAUSE_S = 0.02
SILENCES = (OSError, asyncio.IncompleteReadError)  # a timeout is an OSError


def check_proxy(part: dict[str, Any]) -> str | None:
    """Check this proxy (its part of a config): its launch, its program, its log and its API.

    Returns the version of the program that was run; None if there is none on this machine, or if
    the proxy is none that chaosd starts.
    """
    kind = plugins.find("proxies", part["type"])
    proxy: Proxy = kind(kind.Config.model_validate(part))
    assert all(timer_s > 0 for timer_s in proxy.timers_s()), "timers are positive, in seconds"
    if not isinstance(proxy, Launches):
        assert not isinstance(proxy, Checks), "it can't be started, so it has nothing to check"
        return None
    with tempfile.TemporaryDirectory(prefix="chaosd-conformance-") as scratch:
        wiring = _wiring(Path(scratch))
        wirings = [
            wiring,
            replace(wiring, by_address=True),
            replace(wiring, replicas=3),
            replace(wiring, log=None, api=Address("127.0.0.1", 9999)),
        ]
        for each in wirings:
            _check_launch(proxy, each)
        try:
            version = proxy.version()
        except MachineError:
            return None
        assert re.match(r"\d+\.\d+", version), f"a version such as 2.6.12, not {version}"
        if isinstance(proxy, Checks):
            for each in wirings:
                launch = proxy.launch(each)
                launch.write()
                assert (said := proxy.check(launch)) is None, f"it refuses its own config: {said}"
        asyncio.run(_check_running(proxy, wiring))
    return version


def _wiring(directory: Path) -> Wiring:
    rng = SystemRandom()
    network = f"127.{rng.randrange(100, 200)}.{rng.randrange(256)}"
    return Wiring(
        listen=Address(f"{network}.1", ENTRY_PORT),
        dns=Address(f"{network}.2", 5353),
        app_name=NAME,
        app_port=PORT,
        replicas=1,
        log=Address(f"{network}.2", 5140),
        api=directory / "api.sock",
        directory=directory,
        scratch=directory,
    )


def _check_launch(proxy: Launches, wiring: Wiring) -> None:
    launch = proxy.launch(wiring)
    assert proxy.config_name in launch.files, f"{proxy.config_name} is not among its files"
    assert launch.argv, "no program"
    assert launch.directory == wiring.directory, "its files belong where the runtime puts them"
    said = b"\n".join(launch.files.values()).decode("utf-8", "replace")
    said += "\n".join(launch.env.values())
    for what in (wiring.listen, wiring.dns, f"{NAME}:{PORT}"):
        assert str(what) in said, f"nothing in its files or environment says {what}"
    if wiring.log is not None and isinstance(proxy, ReadsLog):
        assert str(wiring.log) in said, f"it does not log to {wiring.log}"


# --- running it -----------------------------------------------------------------------------------


class _Log(asyncio.DatagramProtocol):
    """Keeps what the proxy reads in the lines that come in."""

    def __init__(self, proxy: object) -> None:
        self._read = proxy.log_reader() if isinstance(proxy, ReadsLog) else None
        self.said: list[tuple[str, dict[str, Any]]] = []

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._read is not None and (said := self._read(data.decode(errors="replace"))):
            self.said.append(said)


async def _check_running(proxy: Launches, wiring: Wiring) -> None:
    """Let the app move once, with the app's own header and with its address instead."""
    for by_address in (False, True):
        async with _standing(proxy, replace(wiring, by_address=by_address)) as (log, dns):
            network = wiring.listen.host.rpartition(".")[0]
            first, second = f"{network}.11", f"{network}.12"
            await _answers_from(wiring.listen, f"@{first}" if by_address else "one")
            server = await _serve(second, "two")
            try:
                dns.publish(NAME, [second])
                await _answers_from(wiring.listen, f"@{second}" if by_address else "two")
                await _check_said(proxy, log, wiring, first, second)
            finally:
                server.close()


@contextlib.asynccontextmanager
async def _standing(proxy: Launches, wiring: Wiring) -> AsyncIterator[tuple[_Log, DnsServer]]:
    """The proxy, a nameserver, and the app at `.11`, whose name is published."""
    network = wiring.listen.host.rpartition(".")[0]
    dns = DnsServer(RealClock(), lambda query: None, ttl_s=1)
    log = _Log(proxy)
    at = await dns.start(f"{network}.2")
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: log, local_addr=(f"{network}.2", 0)
    )
    address = Address(*transport.get_extra_info("sockname")[:2])
    server = await _serve(f"{network}.11", "one")
    dns.publish(NAME, [f"{network}.11"])
    launch = proxy.launch(replace(wiring, dns=at, log=address))
    launch.write()
    output = Path(launch.directory) / "output"
    with output.open("wb") as file:
        child = await asyncio.create_subprocess_exec(
            *launch.argv, env=os.environ | launch.env, stdout=file, stderr=file
        )
    try:
        yield log, dns
    except AssertionError as error:
        said = output.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise AssertionError(f"{error}; the proxy said: {said or 'nothing'}") from None
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        transport.close()
        server.close()
        await dns.close()


async def _serve(ip: str, identity: str) -> asyncio.Server:
    """An app that says who it is."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
    answer += HEADER + b": " + identity.encode() + b"\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(*SILENCES):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, ip, PORT)


async def _ask(entry: Address) -> str:
    """Who answers a request; "" if nobody does."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(*entry)
            try:
                host = f"{NAME}:{PORT}"
                writer.write(
                    f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()
    except SILENCES:
        return ""
    found = re.search(rb"(?im)^" + HEADER + rb": (\S+)", head)
    return found[1].decode() if found and b" 200 " in head.splitlines()[0] else ""


async def _answers_from(entry: Address, identity: str) -> None:
    last = ""
    clock = RealClock()
    limit_ns = clock.now_ns() + round(MOVE_LIMIT_S * 1e9)
    while clock.now_ns() < limit_ns:
        if (last := await _ask(entry)) == identity:
            return
        await sleep(clock, PAUSE_S)
    raise AssertionError(f"{last or 'nobody'} answers through the proxy, not {identity}")


async def _check_said(proxy: Launches, log: _Log, wiring: Wiring, first: str, second: str) -> None:
    """Its log and its API, once the app has moved."""
    await sleep(RealClock(), 0.2)  # lines may still be under way
    for what, data in log.said:
        assert what in LOG_WORDS, f"unknown word of the log: {what}"
        missing = LOG_WORDS[what] - data.keys()
        assert not missing, f"{what} lacks {', '.join(sorted(missing))}"
    if isinstance(proxy, ReadsLog):
        moves = [(d["old"], d["new"]) for what, d in log.said if what == "address_changed"]
        assert (first, second) in moves, f"its log does not tell of the move: {moves}"
    if isinstance(proxy, ReadsServers):
        look = await proxy.read_servers(str(wiring.api))
        assert all(isinstance(server, ServerState) for server in look.servers)
        assert second in [server.address for server in look.servers], f"not there: {look}"
        numbers = [n for counters in look.counters.values() for n in counters.values()]
        assert all(isinstance(number, int) for number in numbers), f"no counters: {look}"
