"""The DNS server over real sockets."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from random import Random, SystemRandom

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest
import uvloop

from chaosd.dns import server as module
from chaosd.dns import sockets
from chaosd.dns.presets import PRESETS
from chaosd.dns.rules import Rule, does
from chaosd.errors import MachineError
from chaosd.runtimes.local.loopback import claim
from chaosd.system.clock import RealClock

NAME = "app.internal"
IP = "127.64.3.10"
WAIT_S = 5.0  # for what comes at once on an idle machine


@pytest.fixture
def host():
    network = asyncio.run(claim(SystemRandom(), 16))
    yield network.address(2)
    network.close()


@asynccontextmanager
async def serving(host, seen=None, **options):
    server = module.DnsServer(RealClock(), (seen if seen is not None else []).append, **options)
    server.publish(NAME, [IP])
    address = await server.start(host)
    try:
        yield server, address
    finally:
        await server.close()
        await server.close()


def run(scenario):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


def query(kind="A", **options):
    return dns.message.make_query(NAME, kind, **options)


def ips(answer):
    return [record.address for rrset in answer.answer for record in rrset]


def test_answers_over_udp_and_tcp(host):
    async def scenario():
        seen = []
        async with serving(host, seen) as (server, (_, port)):
            over_udp = await dns.asyncquery.udp(
                query(use_edns=0, payload=512), host, port=port, timeout=WAIT_S
            )
            over_tcp = await dns.asyncquery.tcp(query(), host, port=port, timeout=WAIT_S)
            assert ips(over_udp) == ips(over_tcp) == [IP]
            assert [told.transport for told in seen] == ["udp", "tcp"]
            assert server.queries == 2

    run(scenario())


def test_what_does_not_fit_a_datagram_comes_over_tcp(host):
    async def scenario():
        async with serving(host) as (server, (_, port)):
            server.publish(NAME, [f"127.64.3.{last}" for last in range(10, 110)])
            question = query(use_edns=0, payload=512)
            answer, fell_back = await dns.asyncquery.udp_with_fallback(
                question, host, port=port, timeout=WAIT_S
            )
            assert fell_back
            assert len(ips(answer)) == 100

    run(scenario())


def test_questions_may_be_sent_over_tcp_without_waiting_for_answers(host):
    async def scenario():
        async with serving(host) as (_, (_, port)):
            reader, writer = await asyncio.open_connection(host, port)
            wires = [query(kind).to_wire(prepend_length=True) for kind in ("A", "AAAA", "A", "A")]
            stream = b"".join(wires)
            for place in range(0, len(stream), 7):  # in pieces that cut lengths and messages
                writer.write(stream[place : place + 7])
                await asyncio.sleep(0)
            for expected in ([IP], [], [IP], [IP]):
                length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), WAIT_S))
                wire = await asyncio.wait_for(reader.readexactly(length), WAIT_S)
                assert ips(dns.message.from_wire(wire)) == expected
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_it_goes_on_after_garbage(host):
    async def scenario():
        rng = Random(1)
        async with serving(host) as (_, (_, port)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for size in range(200):
                    sender.sendto(rng.randbytes(size), (host, port))
            _, writer = await asyncio.open_connection(host, port)
            writer.write(rng.randbytes(4096))
            answer = await dns.asyncquery.udp(query(), host, port=port, timeout=WAIT_S)
            assert ips(answer) == [IP]
            assert ips(await dns.asyncquery.tcp(query(), host, port=port, timeout=WAIT_S)) == [IP]
            writer.close()

    run(scenario())


@pytest.mark.parametrize(
    ("preset", "rcode", "addresses"),
    [
        ("trailing-bytes", "NOERROR", (IP,)),
        ("noise", "NOERROR", ()),
        ("cut", "NOERROR", ()),
        ("wrong-id", "", ()),
        ("other-port", "", ()),
    ],
)
def test_what_is_told_of_a_spoiled_answer_is_what_can_be_read_of_it(host, preset, rcode, addresses):
    async def scenario():
        seen = []
        async with serving(host, seen) as (server, (_, port)):
            server.rules.set("fault", PRESETS[preset].rules)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(query().to_wire(), (host, port))
                # The next question is read after it.
                await dns.asyncquery.tcp(
                    dns.message.make_query("x", "A"), host, port=port, timeout=WAIT_S
                )
            assert (seen[0].rcode, seen[0].ips) == (rcode, addresses)

    run(scenario())


def test_a_closed_port_ends_its_connections_and_not_those_of_another_nameserver(host):
    async def scenario():
        async with serving(host) as (server, (_, port)):
            second = await server.start(host, 0)
            opened = [await asyncio.open_connection(host, each) for each in (port, second.port)]
            for reader, writer in opened:
                writer.write(query().to_wire(prepend_length=True))
                await asyncio.wait_for(reader.readexactly(2), WAIT_S)  # it is taken
            server.rules.set("fault", [Rule(nameserver=0, does=(does("closed"),))])
            with suppress(ConnectionResetError):
                await asyncio.wait_for(opened[0][0].read(), WAIT_S)  # its end
            assert len(server._connections) == 1
            opened[1][1].write(query().to_wire(prepend_length=True))
            assert await asyncio.wait_for(opened[1][0].read(4096), WAIT_S)
            for _, writer in opened:
                writer.close()

    run(scenario())


def test_connections_are_bounded_in_number_and_in_time(host, monkeypatch):
    monkeypatch.setattr(sockets, "TCP_CONNECTIONS_MAX", 4)
    monkeypatch.setattr(sockets, "TCP_IDLE_S", 0.3)

    async def ends(reader):
        try:
            return await asyncio.wait_for(reader.read(), WAIT_S) == b""
        except ConnectionResetError:
            return True

    async def scenario():
        async with serving(host) as (server, (_, port)):
            opened = []
            for _ in range(6):
                opened.append(await asyncio.open_connection(host, port))
                answer = await dns.asyncquery.udp(query(), host, port=port, timeout=WAIT_S)
                assert ips(answer) == [IP]
            assert len(server._connections) <= 4
            assert all([await ends(reader) for reader, _ in opened])
            assert not server._connections
            for _, writer in opened:
                writer.close()

    run(scenario())


def test_a_port_in_use_is_replaced_and_a_foreign_address_is_the_machine_s_fault(host):
    async def scenario():
        async with serving(host) as (_, first), serving(host) as (_, second):
            assert first.port == module.PORT
            assert second.port != module.PORT
            answer = await dns.asyncquery.tcp(query(), host, port=second.port, timeout=WAIT_S)
            assert ips(answer) == [IP]
        with pytest.raises(MachineError, match=r"can't listen on 192\.0\.2\.1:5300: .*assign"):
            async with serving("192.0.2.1"):
                pass

    run(scenario())


def test_answers_are_held_back_by_the_delay(host):
    async def scenario():
        seen = []
        async with serving(host, seen, delay_s=0.1) as (_, (_, port)):
            answer = await dns.asyncquery.udp(query(), host, port=port, timeout=WAIT_S)
            assert ips(answer) == [IP]
            assert seen[0].took_ns >= 100_000_000

    run(scenario())
