"""A local stage in a test's hands: what it stores, and what answers where."""

import asyncio
import errno
import json
import re
import secrets
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from chaosd.history.codec import encode_event
from chaosd.history.events import Event
from chaosd.plugins.runtime import AppSpec, CellSpec, DnsSpec
from chaosd.proxies.haproxy import HAProxy, builds
from chaosd.runtimes.local import LocalRuntime
from chaosd.system.clock import RealClock

BINARY = builds.at_hand()
WAIT_S = 15.0  # for what comes at once on an idle machine
SILENCE_S = 0.5  # how long nothing must come


class Recording:
    """A recorder that keeps everything in a list."""

    def __init__(self):
        self.clock = RealClock()
        self.readings = []

    def record(self, what, *, at_ns=None, error_ns=0):
        at_ns = self.clock.now_ns() if at_ns is None else at_ns
        line = json.loads(encode_event(Event(at_ns=at_ns, cell="c1", cycle=0, what=what)))
        self.readings.append((at_ns, f"{line['source']}/{line['what']}", line["data"]))

    def all(self, name):
        return [data for _, what, data in self.readings if what == name]

    def at_ns(self, name, **wanted):
        return next(
            at_ns
            for at_ns, what, data in self.readings
            if what == name and wanted.items() <= data.items()
        )


class World:
    """One cell and everything that can be asked of it."""

    def __init__(self, directory, *, app=None, dns=None, proxy=None):
        self.recorder = Recording()
        self.failures = []
        self.runtime = LocalRuntime(LocalRuntime.Config())
        self.proxy = HAProxy(
            HAProxy.Config.model_validate(
                {
                    "type": "haproxy",
                    "binary": BINARY,
                    "retries": 0,
                    "resolvers": {"timeout_resolve": "100ms", "timeout_retry": "100ms"},
                }
                | (proxy or {})
            )
        )
        self.app_spec = AppSpec(
            **{
                "image": "http-server",
                "port": 8080,
                "start_delay_s": 0.0,
                "replicas": 1,
                "command": (),
                "env": {},
                "remember_ips": 16,
                "ready_timeout_s": WAIT_S,
            }
            | (app or {})
        )
        self.cell = CellSpec(
            cells=1,
            name="cell",
            run_id=secrets.token_hex(4),
            directory=directory,
            app=self.app_spec,
            dns=DnsSpec(
                **{
                    "name": "app.internal",
                    "missing": "nxdomain",
                    "publish": "start",
                    "ttl_s": 600,
                    "delay_s": 0.0,
                }
                | (dns or {})
            ),
            proxy=self.proxy,
            seed="1",
        )

    async def set_up(self):
        self.stage = await self.runtime.set_up(self.cell, self.recorder, self.failures.append)
        STANDING.append(self.stage)
        return self.stage

    @asynccontextmanager
    async def standing(self):
        await self.set_up()
        try:
            yield self
        finally:
            await self.stage.close()
        assert self.processes() == []

    def processes(self):
        """The processes that carry this run's label."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if f"CHAOSD_RUN={self.cell.run_id}\0" in (entry / "environ").read_text():
                    found.append(int(entry.name))
        return found

    async def answered_by(self, identity, entry=None):
        """Ask again and again until this one answers; everything else that was heard."""
        heard = set()
        deadline_ns = self.recorder.clock.now_ns() + int(WAIT_S * 1e9)
        while (who := await ask(entry or self.stage.entry)) != identity:
            heard.add(who)
            assert self.recorder.clock.now_ns() < deadline_ns, heard
            await asyncio.sleep(0.02)
        return heard

    async def until(self, condition):
        deadline_ns = self.recorder.clock.now_ns() + int(WAIT_S * 1e9)
        while not condition():
            assert self.recorder.clock.now_ns() < deadline_ns
            await asyncio.sleep(0.01)

    async def replace(self, manner="refuse"):
        """What the fault `recreate` does."""
        (old,) = self.stage.app
        holder = await self.stage.hold(manner)
        await self.stage.stop(old, "KILL", 1.0)
        await holder.take(old.address.host)
        new = await self.stage.start(self.stage.next_identity())
        await self.stage.ready(new)
        return old, new, holder


async def ask(address):
    """Who answers 200 there: an identity, a status, or the name of an error."""
    try:
        async with asyncio.timeout(WAIT_S):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            answer = (await reader.read()).decode()
            writer.close()
    except OSError as error:
        return errno.errorcode.get(error.errno, "OSError")
    if answer[9:12] != "200":
        return answer[9:12]
    found = re.search(r"^x-chaosd-instance: (.*)\r$", answer, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else ""


async def silent(address, *, connects):
    """Whether nothing comes from there, after the connection or in its place."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        try:
            async with asyncio.timeout(SILENCE_S):
                await loop.sock_connect(client, tuple(address))
                if not connects:
                    return False
                await loop.sock_sendall(client, b"GET / HTTP/1.1\r\n\r\n")
                await loop.sock_recv(client, 1)
        except TimeoutError:
            return bool(connects) == is_connected(client)
    return False


def is_connected(client):
    with suppress(OSError):
        client.getpeername()
        return True
    return False


def files(world):
    return sorted(world.cell.directory.iterdir())


STANDING = []  # what a failing test has not closed; uvloop would wait for it for ever


def run(scenario):
    async def whole():
        try:
            await scenario
        finally:
            while STANDING:
                await STANDING.pop().close()

    runtime = LocalRuntime(LocalRuntime.Config())
    with asyncio.Runner(loop_factory=runtime.loop_factory()) as runner:
        runner.run(whole())
