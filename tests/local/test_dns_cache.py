"""A real cache between who asks and chaosd's nameserver: it keeps answers for their TTL."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Self

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
import yaml

from chaosd.dns.server import DnsServer
from chaosd.history.codec import decode_cycle
from chaosd.runtimes.local import cache, loopback
from chaosd.runtimes.local.cache import CacheChild, lacking
from chaosd.system.clock import RealClock
from chaosd.system.processes import Child

NAME = "app.internal"
OLD, NEW = "127.64.3.10", "127.64.3.11"
TTL_S, NEGATIVE_TTL_S = 2, 3
LATE_S = 1.2  # caches count whole seconds

pytestmark = pytest.mark.real


def has(program: str):
    return pytest.mark.skipif(lacking(program) is not None, reason=str(lacking(program)))


PROGRAMS = [pytest.param(name, marks=has(name)) for name in ("unbound", "dnsmasq")]


class Cached:
    """A nameserver with a cache before it, while the body runs."""

    def __init__(self, program: str, directory: Path) -> None:
        self.questions: list[str] = []
        self.server = DnsServer(
            RealClock(),
            lambda query: self.questions.append(query.qtype),
            ttl_s=TTL_S,
            negative_ttl_s=NEGATIVE_TTL_S,
        )
        self.server.publish(NAME, [OLD])
        self._program, self._directory = program, directory

    async def __aenter__(self) -> Self:
        self._net = await loopback.claim(Random(), 16)
        upstream = await self.server.start(self._net.address(2))
        self.child = CacheChild(self._program, self._directory, self._spawn)
        host, clock = self._net.address(9), RealClock()
        self.address = await self.child.start(host, upstream, clock, lambda _: None)
        return self

    def _spawn(self, name, command, variables, **options) -> Child:
        environment = os.environ | variables
        return Child(name, command, environment=environment, clock=RealClock(), **options)

    async def __aexit__(self, *_) -> None:
        if self.child.child is not None:
            self.child.child.expected = True
            self.child.child.signal(signal.SIGKILL)
            await self.child.child.wait(5.0)
        await self.server.close()
        self._net.close()

    async def ask(self) -> tuple[str, list[str]]:
        query = dns.message.make_query(NAME, "A")
        answer = await dns.asyncquery.udp(query, self.address.host, 5.0, self.address.port)
        ips = [r.to_text() for records in answer.answer for r in records]
        return dns.rcode.to_text(answer.rcode()), ips

    async def until(self, answer: tuple[str, list[str]]) -> float:
        """How long it takes until this is answered."""
        began_s = time.monotonic()
        while await self.ask() != answer:
            assert time.monotonic() < began_s + 15, "it never was"
            await asyncio.sleep(0.02)
        return time.monotonic() - began_s


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_new_address_is_seen_only_after_the_ttl(program, tmp_path) -> None:
    async def body() -> None:
        async with Cached(program, tmp_path) as cached:
            assert await cached.ask() == ("NOERROR", [OLD])
            cached.server.publish(NAME, [NEW])
            assert await cached.ask() == ("NOERROR", [OLD])  # what it remembers
            assert cached.questions == ["A"]
            took_s = await cached.until(("NOERROR", [NEW]))
            assert took_s > TTL_S - LATE_S
            assert cached.questions == ["A", "A"]

    asyncio.run(body())


@pytest.mark.parametrize("program", PROGRAMS)
def test_that_a_name_is_missing_is_kept_for_the_negative_ttl(program, tmp_path) -> None:
    async def body() -> None:
        async with Cached(program, tmp_path) as cached:
            cached.server.withdraw(NAME)
            assert await cached.ask() == ("NXDOMAIN", [])
            cached.server.publish(NAME, [NEW])
            assert await cached.ask() == ("NXDOMAIN", [])
            took_s = await cached.until(("NOERROR", [NEW]))
            assert took_s > NEGATIVE_TTL_S - LATE_S

    asyncio.run(body())


def test_without_a_cache_and_without_a_negative_ttl_there_is_no_soa() -> None:
    async def body() -> list[int]:
        found = []
        for ttl in (None, 5):
            server = DnsServer(RealClock(), lambda _: None, negative_ttl_s=ttl)
            server.publish(NAME, [])
            at = await server.start("127.0.0.1", 0)
            query = dns.message.make_query(NAME, "A")
            answer = await dns.asyncquery.udp(query, at.host, 5.0, at.port)
            found.append(len(answer.authority))
            await server.close()
        return found

    assert asyncio.run(body()) == [0, 1]


CONFIG = {
    "name": "cached",
    "runtime": "local",
    "metrics": None,
    "dns": {"cache": "unbound", "ttl": "3s"},
    "proxy": {"type": "haproxy", "resolvers": {"timeout_resolve": "200ms"}},
    "faults": [{"type": "recreate", "every": "8s", "order": "make-before-break"}],
    "until": {"cycles": 1},
}


def start(directory: Path, **values) -> subprocess.Popen[bytes]:
    (directory / "run.yaml").write_text(yaml.safe_dump(CONFIG | values))
    command = [sys.executable, "-m", "chaosd", "run", "run.yaml"]
    return subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def caches(directory: Path) -> list[int]:
    """The caches whose config lies in this directory."""
    found = subprocess.run(
        ["pgrep", "-f", f"unbound.*{directory}"], capture_output=True, check=False, text=True
    )
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.slow
@has("unbound")
def test_haproxy_asks_the_cache_and_a_move_has_no_prediction(tmp_path) -> None:
    run = start(tmp_path)
    said = run.communicate(timeout=120)[0].decode()
    assert run.returncode == 0, said
    [line] = (tmp_path / "runs/latest/cycles.jsonl").read_text().splitlines()
    cycle = decode_cycle(line)
    assert cycle.outcome == "recovered"
    assert cycle.predicted is None
    assert "the model knows no cache" in (tmp_path / "runs/latest/plan.txt").read_text()
    assert caches(tmp_path) == []


@pytest.mark.slow
@has("unbound")
def test_a_cache_is_swept_after_a_kill(tmp_path) -> None:
    run = start(tmp_path, until={"time": "5m"})
    try:
        until_s = time.monotonic() + 60
        while not caches(tmp_path):
            assert run.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.1)
    finally:
        run.kill()
        run.communicate()
    assert caches(tmp_path) != []
    clean = [sys.executable, "-m", "chaosd", "clean"]
    subprocess.run(clean, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert caches(tmp_path) == []


def test_a_user_without_a_name_can_have_a_cache(monkeypatch) -> None:
    """As in a container that runs as a number: an empty name keeps who it is."""

    def nobody(uid: int):
        raise KeyError(f"uid not found: {uid}")

    monkeypatch.setattr(cache.pwd, "getpwuid", nobody)
    assert cache._user() == ""
