"""The fast path's connections: one for each probe, or kept and used again."""

import asyncio
import socket

import pytest
from probing import ANSWERS, CLOSING, Attempt, Server, probing

from chaosd.history.values import Address, Outcome
from chaosd.probes.http import HttpProbe


def test_a_new_connection_for_each_probe_or_a_kept_one():
    async def main():
        for connection, few in (("new", False), ("keep-alive", True)):
            server = Server()
            async with server.listening() as here, probing() as prober:
                stream = prober.add(HttpProbe, path="/ok", rate="200/s", connection=connection)
                prober.aim(stream, here)
                await prober.count(stream, 100)
                (samples,) = await prober.pause(stream)
                assert {sample.outcome for sample in samples} == {Outcome.OK}
                assert server.requests == len(samples)
                if few:
                    assert server.connections < len(samples) / 3
                else:
                    assert server.connections == len(samples)

    asyncio.run(main())


def test_kept_connections_are_opened_as_needed_and_kept_within_bounds():
    async def main():
        server = Server()
        async with server.listening() as here, probing() as prober:
            config = {"rate": "100/s", "timeout": "3s", "connection": "keep-alive"}
            stream = prober.add(HttpProbe, path="/slow", **config)
            prober.aim(stream, here)
            await prober.count(stream, 100)
            (samples,) = await prober.pause(stream)
            assert {sample.outcome for sample in samples} == {Outcome.OK}
            # A third of a second at 100/s: as many are busy at once, and are then used again.
            assert 20 <= server.connections < 90

    asyncio.run(main())


def test_a_kept_connection_that_the_server_has_closed_is_not_used():
    async def main():
        server = Server()
        server.drop_idle = True
        async with server.listening() as here, probing() as prober:
            config = {"rate": "50/s", "connection": "keep-alive"}
            stream = prober.add(HttpProbe, path="/ok", **config)
            prober.aim(stream, here)
            await prober.count(stream, 50)
            (samples,) = await prober.pause(stream)
            # Between a close and its being noticed there is a moment, longer on a busy machine.
            reused = [s for s in samples if s.outcome != Outcome.OK]
            assert {Outcome(s.outcome).name for s in reused} <= {"RESET"}
            assert len(reused) <= 5
            assert server.connections >= len(samples) - len(reused)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "closes", "reused"),
    [
        (ANSWERS["/ok"], False, True),
        # Closed this very moment: the loop has had no turn to see it.
        (ANSWERS["/ok"], True, False),
        # It says that it will close, and has not yet.
        (CLOSING, False, False),
        # It says more than was asked.
        (ANSWERS["/ok"] + ANSWERS["/ok"], False, False),
        (ANSWERS["/ok"] + b"x", False, False),
    ],
)
def test_which_connections_are_used_again(answer, closes, reused):
    async def main():
        probe = HttpProbe(HttpProbe.Config(connection="keep-alive"), "X-Chaosd-Instance")
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(5)
            here = Address(*server.getsockname())
            first, second = Attempt(), Attempt()
            probe.fire(first, here)
            one, _ = server.accept()
            one.recv(4096)
            one.sendall(answer)
            assert await asyncio.wait_for(first.ended, 5) == ("OK", 200, "app-1")
            if closes:
                one.close()
            probe.fire(second, here)
            two = one if reused else server.accept()[0]
            two.settimeout(5)
            assert two.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
            two.sendall(ANSWERS["/ok"])
            assert await asyncio.wait_for(second.ended, 5) == ("OK", 200, "app-1")
            await probe.close()
            one.close()
            two.close()

    asyncio.run(main())


def test_a_kept_connection_that_is_reset_on_use_is_that_probes_failure():
    async def main():
        probe = HttpProbe(HttpProbe.Config(connection="keep-alive"), "X-Chaosd-Instance")
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(5)
            here = Address(*server.getsockname())
            attempts = [Attempt(), Attempt()]
            for attempt in attempts:
                probe.fire(attempt, here)
                if attempt is attempts[0]:
                    connection, _ = server.accept()
                    connection.recv(4096)
                    connection.sendall(ANSWERS["/ok"])
                else:
                    connection.recv(4096)
                    connection.close()
                await asyncio.wait_for(attempt.ended, 5)
            assert attempts[1].ended.result() == ("RESET", 0, "")
            server.setblocking(False)
            with pytest.raises(BlockingIOError):  # one attempt: it has not tried again
                server.accept()
            await probe.close()

    asyncio.run(main())
