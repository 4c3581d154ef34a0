"""The conformance suite of probes: what every probe must pass, ours and third parties'.

A probe asks an HTTP server on loopback, then a port at which nobody listens, then one that never
answers. It makes one attempt each time, and says once how it ended.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from chaosd import plugins
from chaosd.history.values import Address, Outcome
from chaosd.plugins.probe import Probe
from chaosd.system.clock import SECOND_NS, RealClock, sleep

HEADER, WHO = "X-Chaosd-Instance", "conformance"
ANSWER = f"HTTP/1.1 200 OK\r\n{HEADER}: {WHO}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
LIMIT_S = 5.0
SILENCE_S = 0.1


class _Shot:
    """One attempt, and what became of it."""

    def __init__(self, scheduled_ns: int) -> None:
        self.scheduled_ns = scheduled_ns
        self.deadline_ns = scheduled_ns + round(LIMIT_S * SECOND_NS)
        self.was_sent = False
        self.ended = asyncio.Event()
        self.results: list[tuple[Outcome, int, str]] = []

    def sent(self) -> None:
        self.was_sent = True

    def done(self, outcome: Outcome, status: int = 0, who: str = "") -> None:
        self.results.append((outcome, status, who))
        self.ended.set()


def check_probe(part: dict[str, Any]) -> None:
    """Check this probe (its part of a config): a good answer, a refused port, and silence."""
    asyncio.run(asyncio.wait_for(_check(part), 4 * LIMIT_S))


async def _check(part: dict[str, Any]) -> None:
    kind = plugins.find("probes", part["type"])
    probe: Probe = kind(kind.Config.model_validate(part), HEADER)
    clock = RealClock()
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(1)
        writer.write(ANSWER.encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        good = _Shot(clock.now_ns())
        probe.fire(good, _address(server.sockets[0]))
        outcome, _, who = await _end(good)
        assert outcome == Outcome.OK, f"a good answer is {Outcome(outcome).name}"
        assert who == (WHO if kind.identifies else ""), f"`identifies`, and `who` is {who!r}"
        assert connections == 1, f"one attempt makes {connections} connections"
        assert good.was_sent, "`sent` was never called"
        with socket.socket() as nobody, socket.socket() as silent:
            nobody.bind(("127.0.0.1", 0))  # bound, and not listening
            refused = _Shot(clock.now_ns())
            probe.fire(refused, _address(nobody))
            assert (await _end(refused))[0] == Outcome.REFUSED, "nobody listens: REFUSED"
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            unanswered = _Shot(clock.now_ns())
            probe.fire(unanswered, _address(silent))
            await sleep(clock, SILENCE_S)
            probe.abandon(unanswered)
            probe.abandon(unanswered)  # a second time there is nothing to free
            await sleep(clock, SILENCE_S)
        for shot in (good, refused):
            assert len(shot.results) == 1, f"an attempt ended {len(shot.results)} times"
    finally:
        await probe.close()
        server.close()
        clock.close()


def _address(listener: Any) -> Address:
    return Address(*listener.getsockname()[:2])


async def _end(shot: _Shot) -> tuple[Outcome, int, str]:
    try:
        async with asyncio.timeout(LIMIT_S):
            await shot.ended.wait()
    except TimeoutError:
        raise AssertionError("an attempt does not end") from None
    return shot.results[0]
