"""The fast path against real sockets: every outcome, the connections it keeps, what it leaves."""

import asyncio
import gc
import socket
import struct
import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import httptools
import pytest
from probing import ANSWERS, BAD, CLOSING, GOOD, Attempt, Server, closed_port, outcomes, probing

from chaosd.history.values import Address, Outcome, Sample
from chaosd.probes import http
from chaosd.probes.http import KNOWN_MAX, HttpProbe, _Answer, _Connection
from chaosd.probes.worker import Shot, Stream


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def ports_held(target):
    """How many of our own ports wait because we closed first."""
    there = f"{socket.htonl(0x7F000001):08X}:{target.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2] == there and row[3] == "06" for row in rows)  # TIME_WAIT


@pytest.mark.parametrize("connection", ["new", "keep-alive"])
def test_every_outcome(connection):
    async def main():
        async with Server().listening() as here, probing() as prober:
            cases = {path: (path, here, {}) for path in GOOD | BAD}
            cases["/hang"] = ("/hang", here, {"timeout": "200ms"})
            cases["refused"] = ("/ok", closed_port(), {})
            # A broadcast address: no TCP connection can lead there.
            cases["unreachable"] = ("/ok", Address("127.255.255.255", 80), {})
            found = await outcomes(prober, HttpProbe, cases, connection=connection)
        expected = GOOD | BAD
        expected |= {"refused": ("REFUSED", 0, ""), "unreachable": ("UNREACHABLE", 0, "")}
        assert found == {name: {outcome} for name, outcome in expected.items()}

    asyncio.run(main())


def test_ipv6_and_the_request_itself():
    async def main():
        server = Server()
        try:
            listening = server.listening("::1")
            here = await listening.__aenter__()
        except OSError as error:
            pytest.skip(f"no IPv6 on loopback: {error}")
        async with probing() as prober:
            plain = prober.add(HttpProbe, path="/ok")
            prober.aim(plain, here)
            await prober.count(plain, 3)
            assert f"Host: [::1]:{here.port}\r\n" in server.heads[-1]
            assert "Connection: close\r\n" in server.heads[-1]
            await prober.pause(plain)
            named = prober.add(HttpProbe, path="/ok", host="app.example", connection="keep-alive")
            prober.aim(named, here)
            await prober.count(named, 3)
            assert "Host: app.example\r\n" in server.heads[-1]
            assert "Connection: keep-alive\r\n" in server.heads[-1]
            (samples,) = await prober.pause(plain)
            assert {sample.who for sample in samples} == {"app-1"}
        await listening.__aexit__(None, None, None)

    asyncio.run(main())


def test_a_proxy_line_goes_before_the_first_request_of_a_connection():
    lines = []

    async def answer(reader, writer):
        lines.append([])
        mine = lines[-1]
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                mine.append(head.split(b"\r\n")[0])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        here = Address(*server.sockets[0].getsockname())
        async with server, probing() as prober:
            kept = prober.add(HttpProbe, proxy_protocol=True, connection="keep-alive")
            prober.aim(kept, here)
            await prober.count(kept, 3)
            await prober.pause(kept)
        asked = [mine for mine in lines if mine]  # one connection, or more on a late machine
        for first, *others in asked:
            assert first == f"PROXY TCP4 127.0.0.1 127.0.0.1 65535 {here.port}".encode()
            assert set(others) <= {b"GET / HTTP/1.1"}
        assert any(others for _, *others in asked)

    asyncio.run(main())


def test_no_descriptor_left_is_dropped_not_blamed_on_the_target():
    resource = pytest.importorskip("resource")

    async def main():
        async with Server().listening() as here, probing() as prober:
            stream = prober.add(HttpProbe, path="/hang", rate="100/s", timeout="1s")
            used = descriptors(prober.host.pid) + 30
            resource.prlimit(prober.host.pid, resource.RLIMIT_NOFILE, (used, used))
            prober.aim(stream, here)
            await prober.until(lambda: len(prober.samples.get(stream, ())) > used + 150)
            await prober.pause(stream)
            found = {Outcome(sample.outcome).name for sample in prober.samples[stream]}
            assert found == {"TIMEOUT", "DROPPED"}
            assert set(prober.gaps(stream)) == {1}

    asyncio.run(main())


def test_that_the_other_side_closes_wakes_nobody_and_is_seen_at_the_next_shot():
    """A wake-up of its own for each is a tenth of what a probe costs."""

    async def main():
        probe = HttpProbe(HttpProbe.Config(connection="new"), "X-Chaosd-Instance")
        loop, wakes = asyncio.get_running_loop(), []
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(5)
            here = Address(*server.getsockname())

            async def ask(*, in_parts=False):
                attempt = Attempt()
                probe.fire(attempt, here)
                there, _ = server.accept()
                there.recv(4096)
                if in_parts:  # each part must be waited for
                    there.sendall(ANSWERS["/ok"][:20])
                    await asyncio.sleep(0.02)
                there.sendall(ANSWERS["/ok"][20 if in_parts else 0 :])
                assert await asyncio.wait_for(attempt.ended, 5) == ("OK", 200, "app-1")
                return there

            async def pause():
                await asyncio.sleep(0.02)
                return len(probe._open)

            one = await ask(in_parts=True)
            loop.remove_reader(probe._epoll.fileno())
            loop.add_reader(probe._epoll.fileno(), lambda: (wakes.append(1), probe._ready()))
            one.close()
            assert await pause() == 1
            assert not wakes
            two = await ask()  # it closes only later, so that somebody must wait for it
            assert await pause() == 1
            three = await ask()
            assert await pause() == 2
            two.close()
            assert await pause() == 1
            three.close()
            await probe.close()

    asyncio.run(main())


def test_who_answers_is_told_for_each_probe_by_itself():
    async def main():
        server = Server()
        page = ANSWERS["/ok"]

        class Turns(dict):
            turn = 0

            def __getitem__(self, path):
                self.turn += 1
                return page.replace(b"app-1", b"app-%d" % (self.turn % 3))

        server.answers = Turns()
        async with server.listening() as here, probing() as prober:
            stream = prober.add(HttpProbe, path="/ok", rate="100/s")
            prober.aim(stream, here)
            await prober.count(stream, 60)
            (samples,) = await prober.pause(stream)
            told = [sample.who for sample in samples if sample.outcome == Outcome.OK]
            assert set(told) == {"app-0", "app-1", "app-2"}
            counts = [told.count(who) for who in set(told)]
            assert max(counts) - min(counts) <= 1

    asyncio.run(main())


async def ask(probe, server, answer):
    """What one attempt comes to that is answered so, and closed."""
    attempt = Attempt()
    probe.fire(attempt, Address(*server.getsockname()))
    there, _ = server.accept()
    there.recv(4096)
    there.sendall(answer)
    there.close()
    return await asyncio.wait_for(attempt.ended, 5)


def run_against(main, connection="new"):
    async def run():
        probe = HttpProbe(HttpProbe.Config(connection=connection), "X-Chaosd-Instance")
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(5)
            await main(probe, server)
            await probe.close()

    asyncio.run(run())


@pytest.mark.parametrize("path", GOOD)
def test_an_answer_that_came_before_has_the_same_verdict_without_being_parsed(path, monkeypatch):
    parsed = []

    def parser(answer):
        parsed.append(answer)
        return httptools.HttpResponseParser(answer)

    monkeypatch.setattr(
        http, "httptools", Namespace(**vars(httptools) | {"HttpResponseParser": parser})
    )

    async def main(probe, server):
        answer = ANSWERS[path]
        for _ in range(3):
            assert await ask(probe, server, answer) == GOOD[path]
        # Only the end of the connection completes some: they are never whole in one piece.
        endless = path in ("/until-closed", "/busy")
        assert len(parsed) == (3 if endless else 1)
        assert await ask(probe, server, answer.replace(b"HTTP/1", b"SMTP/1")) == BAD["/garbled"]
        cut = await ask(probe, server, answer[:-1])
        assert cut == (GOOD[path] if endless else BAD["/half"])

    run_against(main)


def test_what_is_remembered_of_answers_has_a_limit_and_is_of_whole_ones_alone():
    async def main(probe, server):
        page = ANSWERS["/ok"]
        for number in range(3 * KNOWN_MAX):
            answer = page.replace(b"app-1", b"app-%d" % number)
            assert await ask(probe, server, answer) == ("OK", 200, f"app-{number}")
        assert len(probe._known) == KNOWN_MAX
        probe._known.clear()
        for answer in (page + b"x", page[:-1], ANSWERS["/garbled"], ANSWERS["/until-closed"]):
            await ask(probe, server, answer)
        assert not probe._known

    run_against(main)


def test_more_than_an_answer_is_seen_each_time_that_it_comes():
    """Such a connection is never used again, however often it said the same before."""

    async def main(probe, server):
        for answer in (ANSWERS["/ok"] + b"x", CLOSING):
            for _ in range(3):
                assert await ask(probe, server, answer) == ("OK", 200, "app-1")
                assert not probe._open

    run_against(main, "keep-alive")


def test_an_answer_in_pieces_waits_for_no_acknowledgement_of_ours():
    """An app that writes its head first waits for that before it sends the rest (Nagle): 40 ms."""
    took_s = []

    async def main(probe, server):
        head, _, body = ANSWERS["/ok"].partition(b"\r\n\r\n")
        for _ in range(5):
            attempt, began_s = Attempt(), time.monotonic()
            probe.fire(attempt, Address(*server.getsockname()))
            with server.accept()[0] as there:
                for piece in (head, b"\r\n\r\n", body):
                    there.sendall(piece)
                assert await asyncio.wait_for(attempt.ended, 5) == ("OK", 200, "app-1")
            took_s.append(time.monotonic() - began_s)

    run_against(main)
    assert min(took_s) < 0.03


def test_the_request_carries_the_end_of_the_handshake():
    """It saves both sides a packet: the request is there when the connection is accepted."""

    def packets(there):
        there.recv(4096)
        return struct.unpack_from(
            "I", there.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 140
        )[0]

    async def main(probe, server):
        here = Address(*server.getsockname())
        probe.fire(Attempt(), here)
        with server.accept()[0] as there, socket.create_connection(here) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with server.accept()[0] as other:
                assert packets(there) == packets(other) - 1

    run_against(main)


def test_the_next_probe_is_sent_before_the_last_connection_is_closed():
    """Or it would be as late as that takes."""

    async def main(probe, server):
        attempt, waiting, look = Attempt(), [], probe._look_at_unwatched
        probe.fire(attempt, Address(*server.getsockname()))
        with server.accept()[0] as there:
            there.sendall(ANSWERS["/ok"])
            await asyncio.wait_for(attempt.ended, 5)

        def looked():
            server.setblocking(False)
            with server.accept()[0] as there:
                waiting.append(there.recv(4096))
            look()

        probe._look_at_unwatched = looked
        probe.fire(Attempt(), Address(*server.getsockname()))
        assert waiting[0].startswith(b"GET /")

    run_against(main)


class Sink:
    """An outbox that forgets."""

    full = False

    def __init__(self):
        self.writer = self
        self.outcomes = []

    def hurry(self):
        pass

    def sample(self, who, *others):
        self.outcomes.append(Sample(*others, who).outcome)

    def skipped(self, stream, first_ns, interval_ns, count, given_up_ns):
        self.outcomes += [Outcome.DROPPED] * count


@pytest.mark.parametrize("path", ["/ok", "/mute", "/garbled", "/hang", "/until-closed"])
@pytest.mark.parametrize("connection", ["new", "keep-alive"])
def test_a_probe_leaves_nothing_behind_without_the_garbage_collector(connection, path):
    """The prober runs for weeks with the collector off: no attempt may be part of a cycle."""

    async def main():
        sink = Sink()
        config = HttpProbe.Config(path=path, connection=connection)
        async with Server().listening() as here:
            stream = Stream(
                1,
                HttpProbe(config, "x"),
                sink,
                interval_ns=5_000_000,
                timeout_ns=200_000_000,
            )
            stream.aim(here, stream.now_ns())
            for _ in range(500):
                if len(sink.outcomes) > 200:
                    break
                await asyncio.sleep(0.02)
            stream.aim(None, stream.now_ns())
            await asyncio.sleep(0.5)
            # The server lives in this process too: only what is ours is counted.
            ours = (Shot, _Connection, _Answer, httptools.HttpResponseParser)
            left = [type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, ours)]
            await stream.close()
        assert len(sink.outcomes) > 200
        idle = 10 if connection == "keep-alive" else 0
        assert len(left) <= 3 * idle, left
        return sink.outcomes

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
        gc.collect()


def test_where_the_server_closes_first_no_port_of_ours_is_held():
    """Whoever closes first keeps the port for a minute; at 1,000/s a machine runs out of them."""

    async def main():
        async with Server().listening() as here, probing() as prober:
            stream = prober.add(HttpProbe, path="/ok", rate="200/s")
            prober.aim(stream, here)
            await prober.count(stream, 200)
            (samples,) = await prober.pause(stream)
            assert {sample.outcome for sample in samples} == {Outcome.OK}
            assert ports_held(here) <= len(samples) / 20

    asyncio.run(main())
