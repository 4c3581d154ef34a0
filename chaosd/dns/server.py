"""A DNS server whose answers, and failures, are set while it runs.

It is authoritative for the names that were published to it once. Any other name is answered
REFUSED, so that a wrong name in a proxy's config doesn't look like an app that is missing. As in
Docker's DNS, a name that has no address of the family asked for is answered NOERROR with nothing.
It is told who may be asking; what a stranger asks is told apart, and counts for nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from chaosd.dns.actions import Sending, Transport
from chaosd.dns.actions.code import soa
from chaosd.dns.rules import Answer, RuleBook, Wrong
from chaosd.dns.sockets import Came, Listener
from chaosd.dns.spoiling import spoil
from chaosd.history.values import Address
from chaosd.system.clock import Clock

Missing = Literal["nxdomain", "servfail", "refused", "empty", "drop", "stale"]

PORT = 5300  # a fixed one is easier to ask by hand; another one is taken where it is in use
DELAYED_MAX = 1024  # answers that wait for their delay; more queries than that are dropped
UDP_PAYLOAD = 1232  # what we take
HEADER = struct.Struct("!HHHHHH")
FLAG_RESPONSE = 0x8000
SRV = dns.rdatatype.SRV
FAMILIES = ("A", "AAAA")

RCODES = {
    "nxdomain": dns.rcode.NXDOMAIN,
    "servfail": dns.rcode.SERVFAIL,
    "refused": dns.rcode.REFUSED,
    "empty": dns.rcode.NOERROR,
}


class Query(NamedTuple):
    """One question and what was answered."""

    at_ns: int  # when it came, by the kernel's stamp where it has one
    name: str  # in lower case, without the last dot
    qtype: str
    rcode: str  # "" where no answer was given
    ips: tuple[str, ...]
    took_ns: int  # until the answer was handed to the socket
    transport: Transport
    unread_ns: int = 0  # how long of that it lay before it was read
    dropped: int = 0  # questions so far that came to a full buffer
    stranger: str = ""  # who has asked, if that was not the proxy
    nameserver: int = 0  # which one was asked


class Asked(NamedTuple):
    """A question that is to be answered."""

    message: dns.message.Message
    came: Came
    at_ns: int
    send: Callable[[Sending], None]
    unread_ns: int
    stranger: str


class DnsServer:
    """Answers on one address over UDP and TCP; never raises, whatever it is sent."""

    serves_strangers = True  # it knows the names of its cell, and asks nobody else

    def __init__(
        self,
        clock: Clock,
        observe: Callable[[Query], None],
        *,
        missing: Missing = "nxdomain",
        ttl_s: int = 0,
        delay_s: float = 0.0,
        service_port: int = 0,
        additional: bool = True,
        negative_ttl_s: int | None = None,
        believes: Callable[[Address, Transport], bool] = lambda _, __: True,
    ) -> None:
        """`service_port` is what SRV answers say: those of names such as `_http._tcp.app`.

        Without `additional` they don't hold the addresses of their targets, which are asked for.
        `negative_ttl_s` is what an SOA record of negative answers says; None: they have none.
        `believes` says whether the proxy is at this address.
        """
        self.missing: Missing = missing
        self.ttl_s = ttl_s
        self.delay_s = delay_s
        self.queries = 0
        self.rules = RuleBook(self._open_and_close)  # what faults have made wrong
        self.address: Address | None = None
        self._clock = clock
        self._observe = observe
        self._service_port = service_port
        self._additional = additional
        self._negative_ttl_s = negative_ttl_s
        self._believes = believes
        self._names: dict[dns.name.Name, list[dns.rdata.Rdata]] = {}
        self._previous: dict[dns.name.Name, list[dns.rdata.Rdata]] = {}
        self._targets: set[dns.name.Name] = set()  # of SRV records: hosts that we have made up
        self._waiting = 0
        self._closed = False
        self._listeners: list[Listener] = []  # one for each nameserver
        self._connections: dict[asyncio.Transport, int] = {}  # and whose; the oldest first

    def publish(self, name: str, ips: Sequence[str]) -> None:
        """From now on the name has exactly these addresses.

        A name that begins with an underscore has SRV records: a target for each address.
        """
        records = [_record(ip) for ip in ips]
        owner = dns.name.from_text(name)
        if not name.startswith("_"):
            self._change(owner, records)
            return
        services: list[dns.rdata.Rdata] = []
        for record in records:
            target = _target(owner, record)
            self._names[target] = [record]
            self._targets.add(target)
            text = f"0 1 {self._service_port} {target}"
            services.append(dns.rdata.from_text("IN", "SRV", text))
        self._change(owner, services)

    def _change(self, owner: dns.name.Name, records: list[dns.rdata.Rdata]) -> None:
        """What it had is kept, if that was something else."""
        before = self._names.get(owner)
        if before and set(before) != set(records):
            self._previous[owner] = before
        self._names[owner] = records

    def withdraw(self, name: str) -> None:
        """From now on the name is missing; with `stale` it keeps the addresses that it had."""
        if self.missing != "stale":
            self._change(dns.name.from_text(name), [])

    async def start(self, host: str, port: int | None = None) -> Address:
        """Listen there; without a port, on the usual or else on a free one. Raises MachineError.

        Each time once more, as another nameserver that has the same names.
        """
        ports = [PORT, 0, 0, 0] if port is None else [port] * (1 if port else 4)
        listener = Listener(self.receive, self._connections, self._clock, len(self._listeners))
        address = listener.listen(host, ports)
        self._listeners.append(listener)
        self.address = self.address or address
        await listener.listens()
        return address

    def _open_and_close(self) -> None:
        """Close the ports of the nameservers that rules want closed. Raises MachineError."""
        for number, listener in enumerate(self._listeners):
            if any(rule.closes(number) for rule in self.rules.rules):
                listener.shut()
            elif not self._closed:
                listener.listen_again()

    async def close(self) -> None:
        """Stop answering. May be called twice."""
        self._closed = True
        listeners, self._listeners = self._listeners, []
        await self._leave(listeners)

    async def move(self, host: str) -> None:
        """The first nameserver listens there instead, on the same port. Raises MachineError."""
        if self.address is None or self.address.host == host:
            return
        await self._leave(self._listeners[:1])
        listener = self._listeners[0] = Listener(self.receive, self._connections, self._clock, 0)
        self.address = listener.listen(host, [self.address.port])
        await listener.listens()

    async def _leave(self, listeners: Sequence[Listener]) -> None:
        for connection in list(self._connections):
            connection.abort()
        for listener in listeners:
            await listener.close()

    # --- one message ------------------------------------------------------------------------------

    def receive(self, wire: bytes, came: Came, send: Callable[[Sending], None]) -> None:
        """Answer one message, now or after the delay. What is not a query is ignored."""
        now_ns = self._clock.now_ns()
        at_ns = now_ns if came.at_ns is None else min(came.at_ns, now_ns)
        if len(wire) < HEADER.size or HEADER.unpack_from(wire)[1] & FLAG_RESPONSE:
            return
        try:
            message = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            message = None
        if message is None or len(message.question) != 1:
            send(Sending(_refusal(wire, dns.rcode.FORMERR)))
            return
        if message.opcode() != dns.opcode.QUERY:
            send(Sending(_refusal(wire, dns.rcode.NOTIMP)))
            return
        stranger = "" if self._believes(came.sender, came.transport) else str(came.sender)
        asked = Asked(message, came, at_ns, send, now_ns - at_ns, stranger)
        if not stranger:
            self.queries += 1
        elif not self.serves_strangers:
            send(Sending(_refusal(wire, dns.rcode.REFUSED)))
            self._observe(_question(asked, dns.rcode.REFUSED))
            return
        self._look_up(asked)

    def _look_up(self, asked: Asked) -> None:
        self._reply(asked, self._names.get(asked.message.question[0].name))

    def _reply(self, asked: Asked, records: Sequence[dns.rdata.Rdata] | None) -> None:
        question = asked.message.question[0]
        name = question.name.to_text(omit_final_dot=True)
        qtype = dns.rdatatype.to_text(question.rdtype)
        wrong = Wrong()
        # Faults are about the names that it has, and counted by the proxy's questions.
        if records is not None and not asked.stranger:
            came = asked.came
            asks = (name, qtype, came.transport, came.nameserver)
            wrong = self.rules.wrong(*asks, now_ns=asked.at_ns) or wrong
        response, query = self._answer(asked, records, wrong.answer)
        spoiled = spoil(
            asked.message,
            response,
            asked.came.transport,
            wrong,
            now_ns=asked.at_ns,
            previous=self._previous.get(question.name, ()),
        )
        if wrong.does:
            usual = (each.wire for each in spoiled if each.wire and each.way == "usual")
            query = _as_spoiled(query, response, next(usual, None))
        delay_s = self.delay_s + wrong.delay_s
        if not spoiled:
            self._later(delay_s, partial(self._finish, None, query, asked.send))
        for number, sending in enumerate(spoiled):
            observed = query if number == 0 else None
            self._later(
                delay_s + sending.delay_s, partial(self._finish, sending, observed, asked.send)
            )

    def _later(self, delay_s: float, finish: Callable[[], None]) -> None:
        if delay_s == 0:
            finish()
        elif self._waiting < DELAYED_MAX:
            self._waiting += 1
            asyncio.get_running_loop().call_later(delay_s, self._finish_late, finish)

    def _finish_late(self, finish: Callable[[], None]) -> None:
        self._waiting -= 1
        if not self._closed:
            finish()

    def _finish(
        self, sending: Sending | None, query: Query | None, send: Callable[[Sending], None]
    ) -> None:
        if sending is not None:
            send(sending)
        if query is not None:
            self._observe(query._replace(took_ns=self._clock.now_ns() - query.at_ns))

    def _answer(
        self, asked: Asked, records: Sequence[dns.rdata.Rdata] | None, wrong: Answer | None
    ) -> tuple[dns.message.Message | None, Query]:
        """The answer as it is at this moment; a delayed one is not looked up again.

        `wrong` is what a rule makes of it.
        """
        message = asked.message
        question = message.question[0]
        if wrong is not None:
            records = ()
        rcode = self._rcode(question, records, wrong or self.missing)
        found = [
            record
            for record in (records or ())
            if rcode == dns.rcode.NOERROR and question.rdtype in (record.rdtype, dns.rdatatype.ANY)
        ]
        ips = tuple(record.to_text() for record in self._reached(found))
        query = _question(asked, rcode)._replace(ips=ips)
        if rcode is None:
            return None, query
        response = dns.message.make_response(message, our_payload=UDP_PAYLOAD)
        response.set_rcode(rcode)
        if rcode != dns.rcode.REFUSED:
            response.flags |= dns.flags.AA
        negative = not found and rcode in (dns.rcode.NXDOMAIN, dns.rcode.NOERROR)
        if negative and self._negative_ttl_s is not None:
            response.authority.append(soa(question.name, self._negative_ttl_s))
        for record in found:
            rrset = dns.rrset.from_rdata(question.name, self.ttl_s, record)
            response.answer.append(rrset)
            tells = question.rdtype == SRV and self._additional
            for address in self._reached([record]) if tells else ():
                owner = _target_of(record)
                response.additional.append(dns.rrset.from_rdata(owner, self.ttl_s, address))
        return response, query

    def _reached(self, records: Sequence[dns.rdata.Rdata]) -> list[dns.rdata.Rdata]:
        """Themselves, or what their targets have: SRV records have no addresses of their own."""
        found: list[dns.rdata.Rdata] = []
        for record in records:
            found += [record] if record.rdtype != SRV else self._names.get(_target_of(record), ())
        return found

    def _rcode(
        self,
        question: dns.rrset.RRset,
        records: Sequence[dns.rdata.Rdata] | None,
        missing: Missing,
    ) -> dns.rcode.Rcode | None:
        """None: no answer is given."""
        if records is None or question.rdclass != dns.rdataclass.IN:
            return dns.rcode.REFUSED
        if records:
            return dns.rcode.NOERROR
        if missing == "drop":
            return None
        return RCODES.get(missing, dns.rcode.NXDOMAIN)


def _as_spoiled(query: Query, response: dns.message.Message | None, wire: bytes | None) -> Query:
    """What was really answered, as far as it is a message; `wire` is what came as usual, if any.

    An answer with another id is none, and one that can't be read has no addresses.
    """
    if response is None or wire is None or wire[:2] != response.id.to_bytes(2):
        return query._replace(rcode="", ips=())
    rcode = dns.rcode.to_text(response.rcode())
    try:
        sent = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return query._replace(rcode=rcode, ips=())
    sets = (*sent.answer, *sent.additional)
    ips = (
        r.to_text() for each in sets for r in each if dns.rdatatype.to_text(r.rdtype) in FAMILIES
    )
    return query._replace(rcode=rcode, ips=tuple(ips))


def _question(asked: Asked, rcode: dns.rcode.Rcode | None) -> Query:
    """What was asked, and with which code it was answered; None: not at all."""
    question = asked.message.question[0]
    return Query(
        at_ns=asked.at_ns,
        name=question.name.to_text(omit_final_dot=True).lower(),
        qtype=dns.rdatatype.to_text(question.rdtype),
        rcode="" if rcode is None else dns.rcode.to_text(rcode),
        ips=(),
        took_ns=0,
        transport=asked.came.transport,
        unread_ns=asked.unread_ns,
        dropped=asked.came.dropped,
        stranger=asked.stranger,
        nameserver=asked.came.nameserver,
    )


def _record(ip: str) -> dns.rdata.Rdata:
    kind = "AAAA" if ipaddress.ip_address(ip).version == 6 else "A"  # noqa: PLR2004
    return dns.rdata.from_text("IN", kind, ip)


def _target(service: dns.name.Name, address: dns.rdata.Rdata) -> dns.name.Name:
    """The host that stands for this address behind a service's name."""
    host = "ip-" + address.to_text().replace(".", "-").replace(":", "-")
    labels = [label for label in service.labels if not label.startswith(b"_")]
    return dns.name.Name([host.encode(), *labels])


def _target_of(record: dns.rdata.Rdata) -> dns.name.Name:
    target = record.target  # type: ignore[attr-defined]
    assert isinstance(target, dns.name.Name)  # noqa: S101 - it was made here, an SRV record
    return target


def _refusal(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """A bare header: it repeats nothing of a message that could not be read."""
    identity, flags = HEADER.unpack_from(wire)[:2]
    opcode_and_rd = flags & 0x7900
    return HEADER.pack(identity, FLAG_RESPONSE | opcode_and_rd | rcode, 0, 0, 0, 0)
