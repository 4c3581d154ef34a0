"""chaosd's DNS in front of another one: `python -m chaosd.dns.forwarder`, a container of the cell.

What the other one knows is answered with its addresses, and what it does not know as the config
says. Each question is a line of JSON on standard output. It imports nothing but the DNS server and
what that needs: these files, and dnspython, are all that is put into the container.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdatatype

from chaosd.dns.rules import decode
from chaosd.dns.server import PORT, Asked, DnsServer, Missing, Query
from chaosd.history.values import Address
from chaosd.system.clock import Clock, RealClock

CONTROL_PORT = 5301  # on its own loopback
UPSTREAM_LIMIT_S = 1.0  # then the name counts as missing
PAYLOAD = 16_384  # of an answer by UDP: it comes over the container's own loopback
FORWARDED_MAX = 1024  # questions that wait for the upstream; more than that are dropped
STRANGERS_NS = 1_000_000_000  # how often it is said how many others have asked
FAMILIES = (dns.rdatatype.A, dns.rdatatype.AAAA)


class Forwarder(DnsServer):
    """Asks the upstream for each question of its proxy, and passes its addresses on."""

    serves_strangers = False  # it would be an open resolver

    def __init__(
        self,
        clock: Clock,
        observe: Callable[[Query], None],
        upstream: Address,
        *,
        missing: Missing,
        ttl_s: int,
        delay_s: float,
        service_port: int,
        proxy: str,
    ) -> None:
        """`proxy` is the address from which it is asked."""
        super().__init__(
            *(clock, observe),
            missing=missing,
            ttl_s=ttl_s,
            delay_s=delay_s,
            service_port=service_port,
            believes=lambda sender, _: sender.host == proxy,
        )
        self._upstream = upstream
        self._asking: set[asyncio.Task[None]] = set()

    def _look_up(self, asked: Asked) -> None:
        if len(self._asking) < FORWARDED_MAX:
            task = asyncio.get_running_loop().create_task(self._ask(asked))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, asked: Asked) -> None:
        """Both families are asked for: a name that has no address of one is not missing."""
        name = asked.message.question[0].name
        if name not in self._targets:
            await self._renew(name)
        self._reply(asked, self._names.get(name, []))

    async def _renew(self, name: dns.name.Name) -> None:
        """Ask for its addresses; of a service name they become SRV records."""
        found = await asyncio.gather(*(self._addresses(name, family) for family in FAMILIES))
        records = [record for records in found for record in records]
        if records or self.missing != "stale":
            self.publish(name.to_text(), [record.to_text() for record in records])

    async def _addresses(
        self, name: dns.name.Name, family: dns.rdatatype.RdataType
    ) -> list[dns.rdata.Rdata]:
        host, port = self._upstream
        # 512 bytes have room for some 29 addresses: what was cut off would count as gone.
        query = dns.message.make_query(name, family, use_edns=0, payload=PAYLOAD)
        with suppress(dns.exception.DNSException, OSError):
            ask = dns.asyncquery.udp_with_fallback
            answer, _ = await ask(query, host, UPSTREAM_LIMIT_S, port)
            return [record for rrset in answer.answer for record in rrset if rrset.rdtype == family]
        return []


class Nobody(DnsServer):
    """Says of every name that nobody has it."""

    def _look_up(self, asked: Asked) -> None:
        self._reply(asked, ())


class Control(asyncio.DatagramProtocol):
    """Takes rules by datagram, and says that they are in force."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            self._server.rules.take_over(decode(data.decode()))
        except ValueError as error:
            print(json.dumps({"refused": str(error)}), flush=True)
        else:
            print(json.dumps({"rules": len(self._server.rules)}), flush=True)


class Speaker:
    """Says on standard output what was asked: all that the proxy asks, and some of the rest."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._strangers = 0
        self._said_ns = -STRANGERS_NS

    def observe(self, query: Query) -> None:
        if query.stranger:
            self._strangers += 1
            now_ns = self._clock.now_ns()
            if now_ns - self._said_ns < STRANGERS_NS:
                return
            self._said_ns = now_ns
            print(json.dumps({"strangers": self._strangers, "from": query.stranger}), flush=True)
            return
        print(json.dumps(query._asdict()), flush=True)


def port_of(nameserver: int) -> int:
    """Where this one of several nameservers listens, counted from 0."""
    return PORT + 10 * nameserver


async def serve(host: str, server: Forwarder, nameservers: int) -> None:
    """Serve until cancelled, on a port for each nameserver.

    The upstream may be told to ask here, on the usual port, for what it does not know itself.
    """
    nobody = Nobody(RealClock(), lambda _: None)
    await nobody.start("127.0.0.1", 53)
    found = [await server.start(host, port_of(number)) for number in range(nameservers)]
    loop, control = asyncio.get_running_loop(), ("127.0.0.1", CONTROL_PORT)
    await loop.create_datagram_endpoint(lambda: Control(server), local_addr=control)
    print(json.dumps({"listening": str(found[0])}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    _host, _upstream, _proxy, _port, _missing, _ttl_s, _delay_s, _nameservers = sys.argv[1:]
    _clock = RealClock()
    _server = Forwarder(
        _clock,
        Speaker(_clock).observe,
        Address(_upstream, 53),
        missing=_missing,  # type: ignore[arg-type]
        ttl_s=int(_ttl_s),
        delay_s=float(_delay_s),
        service_port=int(_port),
        proxy=_proxy,
    )
    asyncio.run(serve(_host, _server, int(_nameservers)))
