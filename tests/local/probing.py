"""A server with every manner that a probe can meet, and a prober whose promises are held to."""

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from itertools import pairwise

from chaosd.history.values import Address, Outcome, StreamSpec
from chaosd.probes.host import ProbeHost

HEADER = "X-Chaosd-Instance"
WAIT_S = 20.0  # for what comes at once on an idle machine

PAGE = b"HTTP/1.1 200 OK\r\nX-Chaosd-Instance: app-1\r\nContent-Length: 5\r\n\r\nhello"
# What is said on which path; `None` then means: close without a word more.
ANSWERS = {
    "/ok": PAGE,
    "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-chaosd-INSTANCE: app-2\r\n\r\n"
    b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "/until-closed": b"HTTP/1.1 200 OK\r\nX-Chaosd-Instance: app-3\r\n\r\nhello",
    "/continue": b"HTTP/1.1 100 Continue\r\n\r\n" + PAGE,
    "/nobody": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/missing": PAGE.replace(b"200 OK", b"404 Not Found"),
    "/busy": b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/html\r\n\r\nno server",
    "/moved": b"HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n",
    "/circle": b"HTTP/1.1 302 Found\r\nLocation: /circle\r\nContent-Length: 0\r\n\r\n",
    "/away": b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
    "/mute": b"",
    "/half": PAGE[:-2],
    "/half-head": PAGE[:20],
    "/garbled": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "/upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "/huge": b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000,
}
STAYS = {
    "/ok",
    "/chunked",
    "/nobody",
    "/missing",
    "/continue",
    "/moved",
    "/circle",
}  # whose connection may be kept
SLOW_S = 0.3
CLOSING = ANSWERS["/ok"].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
# The outcome, the status, and who it was.
GOOD = {
    "/ok": ("OK", 200, "app-1"),
    "/chunked": ("OK", 200, "app-2"),
    "/until-closed": ("OK", 200, "app-3"),
    "/continue": ("OK", 200, "app-1"),
    "/nobody": ("OK", 204, ""),
    "/moved": ("OK", 302, ""),
    "/missing": ("HTTP_ERROR", 404, "app-1"),
    "/busy": ("HTTP_ERROR", 503, ""),
}
BAD = {
    "/mute": ("RESET", 0, ""),
    "/half": ("RESET", 0, ""),
    "/half-head": ("RESET", 0, ""),
    "/reset": ("RESET", 0, ""),
    "/garbled": ("GARBLED", 0, ""),
    "/upgrade": ("GARBLED", 0, ""),
    "/huge": ("GARBLED", 0, ""),
    "/hang": ("TIMEOUT", 0, ""),
}


class Server:
    """Counts, and answers by path."""

    def __init__(self):
        self.connections = self.requests = 0
        self.heads = []
        self.answers = dict(ANSWERS)
        self.drop_idle = False  # close after each answer without having said so

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.heads = [*self.heads[-9:], head.decode()]
                path = head.split(b" ")[1].decode()
                if path == "/hang":
                    await asyncio.sleep(3600)
                if path == "/slow":
                    await asyncio.sleep(SLOW_S)
                    path = "/ok"
                if path == "/reset":
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                    return
                writer.write(self.answers[path])
                await writer.drain()
                if path not in STAYS or b"connection: close" in head.lower() or self.drop_idle:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self, host="127.0.0.1", **options):
        tasks = set()

        async def serve(reader, writer):
            tasks.add(asyncio.current_task())
            try:
                await self.serve(reader, writer)
            except asyncio.CancelledError:
                pass
            finally:
                tasks.discard(asyncio.current_task())

        server = await asyncio.start_server(serve, host, 0, backlog=4096, **options)
        try:
            yield Address(*server.sockets[0].getsockname()[:2])
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)


class Probing:
    """A started prober; each delivery is held to the promises made by those before it."""

    def __init__(self):
        self.host = ProbeHost({"CHAOSD_RUN": "a-test"})
        self.failures = []
        self.samples = {}
        self.complete = {}
        self.broken = []
        self.intervals = {}

    def deliver(self, samples, complete):
        for sample in samples:
            if sample.scheduled_ns < self.complete.get(sample.stream, 0):
                self.broken.append(sample)
            self.samples.setdefault(sample.stream, []).append(sample)
        for stream, at_ns in complete.items():
            if at_ns < self.complete.get(stream, 0):
                self.broken.append((stream, at_ns))
        self.complete |= complete

    def add(self, probe, header=HEADER, **config):
        stream = len(self.intervals)
        config = probe.Config.model_validate({"type": probe.Config().type} | config)
        self.intervals[stream] = config.rate.interval_ns
        interval_ns = config.rate.interval_ns
        spec = StreamSpec(stream, "c1", config.label, "proxy", interval_ns, config.idle_every)
        self.host.add(spec, config.type, config, header)
        return stream

    def aim(self, stream, target):
        self.host.aim(stream, target)

    async def until(self, holds, limit_s=WAIT_S):
        for _ in range(round(limit_s / 0.02)):
            if holds():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"in vain for {limit_s} s; failures: {self.failures}")

    def sent(self, stream):
        """The samples that were sent, by schedule: what a busy machine makes the prober drop
        says nothing about the code that is tested here."""
        samples = sorted(self.samples.get(stream, ()))
        return [sample for sample in samples if sample.outcome != Outcome.DROPPED]

    async def count(self, stream, count):
        await self.until(lambda: len(self.sent(stream)) >= count)

    async def pause(self, *streams):
        """Stop, and wait for everything that is in flight; the samples that were sent."""
        for stream in streams:
            self.host.aim(stream, None)
        await asyncio.sleep(0.05)
        now_ns = asyncio.get_running_loop().time() * 1e9
        await self.until(lambda: all(self.complete.get(s, 0) > now_ns for s in streams))
        return [self.sent(stream) for stream in streams]

    def gaps(self, stream):
        """Distances between slots, in intervals: all 1 where each slot has exactly one sample."""
        scheduled = sorted(sample.scheduled_ns for sample in self.samples[stream])
        interval = self.intervals[stream]
        steps = [divmod(b - a, interval) for a, b in pairwise(scheduled)]
        assert all(rest == 0 for _, rest in steps)
        return [count for count, _ in steps]


@asynccontextmanager
async def probing():
    prober = Probing()
    await prober.host.start(prober.deliver, prober.failures.append)
    try:
        yield prober
    finally:
        await prober.host.close()
    assert not prober.broken
    assert not prober.failures


async def outcomes(prober, probe, cases, **config):
    """Ask each (path, target, more) for a while; the outcomes (outcome, status, who) by case."""
    streams = {}
    for name, (path, target, more) in cases.items():
        streams[name] = prober.add(
            probe, path=path, **{"rate": "20/s", "timeout": "5s"} | config | more
        )
        prober.aim(streams[name], target)
    for stream in streams.values():
        await prober.count(stream, 3)
    await prober.pause(*streams.values())
    return {
        name: {(Outcome(s.outcome).name, s.status, s.who) for s in prober.sent(stream)}
        for name, stream in streams.items()
    }


def closed_port():
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Address(*sock.getsockname())


class Attempt:
    """A shot in the test's hand."""

    scheduled_ns = deadline_ns = 0

    def __init__(self):
        self.ended = asyncio.get_running_loop().create_future()

    def sent(self):
        pass

    def done(self, outcome, status=0, who=""):
        self.ended.set_result((outcome.name, status, who))
