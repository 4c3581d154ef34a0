"""Each DNS fault by its name, on the wire: what a client gets for its question."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from chaosd.dns.presets import PRESETS
from chaosd.dns.server import DnsServer
from chaosd.system.clock import RealClock

NAME, SERVICE = "app.internal", "_http._tcp.app.internal"
OLD, IPS = "127.64.3.9", ("127.64.3.10", "127.64.3.11")
ASKS = 4  # questions of each kind
AT_ONCE = 25
WAIT_S = 0.35  # for an answer, or for another one
LATE_S = 0.02  # who was held up for longer has not waited: what it waits for was held up, too
AGAIN_MAX = 50
TCP_WAIT_S = {"tcp-silent": 0.3, "tcp-dribble": 0.3}


class Heard:
    """What came for some questions over UDP and TCP, in their order: a list for each."""

    def __init__(self) -> None:
        self.a: list[list[bytes]] = []
        self.aaaa: list[list[bytes]] = []
        self.srv: list[list[bytes]] = []
        self.tcp: list[bytes | None] = []  # None: a reset
        self.senders: set[tuple[str, int]] = set()
        self.server: tuple[str, int] = ("", 0)
        self.asked_s: dict[bytes, float] = {}  # by the ids of questions
        self.late_s: list[float] = []
        self.second: list[list[str]] = []  # addresses, from the second nameserver
        self.refused: list[bool] = []  # of each nameserver: whether the kernel says nobody listens

    @property
    def messages(self) -> list[dns.message.Message | None]:
        """The first answer to each question for A; None where there is none or it is damaged."""
        return [read(wires[0]) if wires else None for wires in self.a]

    def ips(self, kind: str = "a") -> list[list[str]]:
        return [addresses(wires[0]) if wires else [] for wires in getattr(self, kind)]


def addresses(wire: bytes) -> list[str]:
    message = read(wire)
    sets = message.answer if message is not None else ()
    return [r.to_text() for each in sets for r in each if each.rdtype in (1, 28)]


def read(wire: bytes) -> dns.message.Message | None:
    try:
        return dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return None


async def listen(loop, client, heard, wait_s) -> list[bytes]:
    """All that comes until nothing has come for so long."""
    found = []
    began_s = loop.time()
    for _ in range(AGAIN_MAX):
        try:
            async with asyncio.timeout(wait_s) as limit:
                wire, sender = await loop.sock_recvfrom(client, 65535)
        except TimeoutError:
            if loop.time() - limit.when() < LATE_S:
                break
            continue
        # An answer may be to an earlier question.
        heard.late_s.append(loop.time() - heard.asked_s.get(wire[:2], began_s))
        heard.senders.add(sender)
        found.append(wire)
    return found


async def ask_tcp(server, heard, wait_s) -> None:
    query = dns.message.make_query(NAME, "A").to_wire()
    reader, writer = await asyncio.open_connection(*server)
    writer.write(len(query).to_bytes(2) + query)
    got = b""
    try:
        async with asyncio.timeout(wait_s):
            size = int.from_bytes(await reader.readexactly(2))
            got = await reader.readexactly(size)
        heard.tcp.append(got)
    except ConnectionResetError:
        heard.tcp.append(None)
    except asyncio.IncompleteReadError as error:
        heard.tcp.append(got + error.partial)
    except TimeoutError:
        heard.tcp.append(b"silent")
    finally:
        writer.close()


def is_refused(server: tuple[str, int]) -> bool:
    """Whether the kernel tells who asks that nobody listens there."""
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(server)
        client.setblocking(False)
        client.send(b"?")
        try:
            client.recv(1)
        except BlockingIOError:
            return False
        except ConnectionRefusedError:
            return True
    return False


async def heard_of(name: str, wait_s: float) -> Heard:
    heard = Heard()
    server = DnsServer(RealClock(), lambda _: None, service_port=8080)
    server.publish(NAME, [OLD])
    server.publish(SERVICE, [OLD])
    server.publish(NAME, list(IPS))
    server.publish(SERVICE, list(IPS))
    address = await server.start("127.0.0.1", 0)
    heard.server = (address.host, address.port)
    second = await server.start("127.0.0.1", 0)
    server.rules.set("fault", PRESETS[name].rules)
    loop = asyncio.get_running_loop()
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.bind(("127.0.0.1", 0))
            for kind in ("A", "AAAA", "SRV"):
                for _ in range(ASKS):
                    asked = SERVICE if kind == "SRV" else NAME
                    query = dns.message.make_query(asked, kind, use_edns=0, payload=512)
                    heard.asked_s[query.id.to_bytes(2)] = loop.time()
                    client.sendto(query.to_wire(), heard.server)
                    wires = await listen(loop, client, heard, wait_s)
                    getattr(heard, kind.lower()).append(wires)
            server.rules.set("fault", PRESETS[name].rules)  # its counts begin anew
            for _ in range(ASKS if name.startswith("one-") else 0):
                query = dns.message.make_query(NAME, "A", use_edns=0, payload=512)
                client.sendto(query.to_wire(), (second.host, second.port))
                wires = await listen(loop, client, Heard(), WAIT_S)
                heard.second.append(addresses(wires[0]) if wires else [])
        heard.refused = [is_refused(heard.server), is_refused((second.host, second.port))]
        server.rules.set("fault", ())
        heard.refused += [is_refused(heard.server)]
        if name.startswith("tcp-"):
            server.rules.set("fault", PRESETS[name].rules)
            await ask_tcp(heard.server, heard, TCP_WAIT_S.get(name, 5.0))
    finally:
        await server.close()
    return heard


def rcode(heard: Heard) -> set[str]:
    return {dns.rcode.to_text(m.rcode()) for m in heard.messages if m is not None}


def aliases(heard: Heard) -> list[list[str]]:
    """The types of the records in the first answer, in their order."""
    return [[dns.rdatatype.to_text(s.rdtype) for s in m.answer] for m in heard.messages if m]


def targets(heard: Heard) -> list[list[tuple[int, int, str]]]:
    found = []
    for wires in heard.srv:
        message = read(wires[0]) if wires else None
        records = [r for s in (message.answer if message else ()) for r in s]
        found.append([(r.weight, r.port, r.target.to_text()) for r in records])
    return found


def raw(heard: Heard) -> list[bytes]:
    return [wires[0] for wires in heard.a]


def ttls(heard: Heard) -> set[int]:
    return {s.ttl for m in heard.messages if m for s in m.answer}


def fails_by(code: str, heard: Heard) -> bool:
    return rcode(heard) == {code} and heard.ips() == [[]] * ASKS


def one(heard: Heard) -> bool:
    """Whether the second nameserver answers as usual."""
    return heard.second == [list(IPS)] * ASKS


USUAL = [sorted(IPS)] * ASKS
CODES = ("nxdomain", "servfail", "refused", "formerr", "notimp", "badvers")
SEEN: dict[str, Callable[[Heard], bool]] = {
    "silence": lambda h: h.a == [[]] * ASKS and h.srv == [[]] * ASKS,
    "closed": lambda h: h.a == [[]] * ASKS and h.refused == [True, True, False],
    "silent-aaaa": lambda h: h.aaaa == [[]] * ASKS and h.ips() == [list(IPS)] * ASKS,
    "lossy": lambda h: [len(w) for w in (*h.a, *h.aaaa, *h.srv)] == [1, 1, 0] * 4,
    "lossy-by-chance": lambda h: 0 < sum(map(len, (*h.a, *h.aaaa, *h.srv))) < 3 * ASKS,
    "slow": lambda h: min(h.late_s) >= 0.29,
    "jitter": lambda h: max(h.late_s) - min(h.late_s) > 0.05,
    "heavy-tail": lambda h: len(set(h.late_s)) > 1,
    "later-than-retry": lambda h: min(h.late_s) >= 1.49,
    **{name: partial(fails_by, name.upper()) for name in CODES},
    "nxdomain-soa": lambda h: all(m.authority[0].rdtype == 6 for m in h.messages),
    "empty": lambda h: rcode(h) == {"NOERROR"} and h.ips() == [[]] * ASKS,
    "servfail-aaaa": lambda h: (
        h.ips() == [list(IPS)] * ASKS
        and {read(w[0]).rcode() for w in h.aaaa} == {dns.rcode.SERVFAIL}
    ),
    "nxdomain-aaaa": lambda h: {read(w[0]).rcode() for w in h.aaaa} == {dns.rcode.NXDOMAIN},
    "stale": lambda h: h.ips() == [[OLD]] * ASKS,
    "flap": lambda h: h.ips() == [list(IPS), [OLD]] * 2,
    "subset": lambda h: (
        [len(ips) for ips in h.ips()] == [1] * ASKS and len({*map(str, h.ips())}) > 1
    ),
    "rotation": lambda h: h.ips()[0] == [*reversed(h.ips()[1])],
    "many": lambda h: all(m.flags & 0x0200 for m in h.messages),  # cut at 512 bytes: TC
    "duplicates": lambda h: {wire[7] for wire in raw(h)} == {2 * len(IPS)},
    "unspecified": lambda h: h.ips() == [["0.0.0.0"]] * ASKS and h.ips("aaaa") == [["::"]] * ASKS,
    "nobody": lambda h: h.ips() == [["192.0.2.1"]] * ASKS,
    "one-more-nobody": lambda h: h.ips() == [[*IPS, "192.0.2.1"]] * ASKS,
    "aaaa-without-route": lambda h: h.ips("aaaa") == [["2001:db8::1"]] * ASKS,
    "dual-stack-flap": lambda h: h.ips("aaaa") == [[], ["2001:db8::1"]] * 2,
    "alias": lambda h: aliases(h) == [["CNAME", "A"]] * ASKS,
    "alias-chain": lambda h: aliases(h) == [["CNAME"] * 3 + ["A"]] * ASKS,
    "alias-reversed": lambda h: aliases(h) == [["A", "CNAME"]] * ASKS,
    "alias-dangling": lambda h: aliases(h) == [["CNAME"]] * ASKS,
    "alias-loop": lambda h: all(m.answer[-1][0].target == m.question[0].name for m in h.messages),
    "alias-long": lambda h: all(m.answer[0].rdtype == 5 for m in h.messages),
    "alias-case": lambda h: all(b"Target-1" in wire for wire in raw(h)),
    "stray": lambda h: aliases(h) == [["TXT", "A"]] * ASKS,
    "capitals": lambda h: all(b"\x03APP\x08INTERNAL" in wire for wire in raw(h)),
    "ttl-0": lambda h: ttls(h) == {0},
    "ttl-huge": lambda h: ttls(h) == {2**31 - 1},
    "ttl-shrinking": lambda h: max(ttls(h)) == 30,
    "srv-weights": lambda h: {w for t in targets(h) for w, _, _ in t} == {200},
    "srv-port": lambda h: {p for t in targets(h) for _, p, _ in t} == {9},
    "srv-one-gone": lambda h: [len(t) for t in targets(h)] == [1] * ASKS,
    "srv-all-gone": lambda h: targets(h) == [[]] * ASKS,
    "srv-bare": lambda h: all(not read(w[0]).additional for w in h.srv) and targets(h)[0] != [],
    "srv-nowhere": lambda h: all(t[-1][2].startswith("nowhere.") for t in targets(h)),
    "srv-duplicates": lambda h: {wires[0][7] for wires in h.srv} == {2 * len(IPS)},
    "truncated": lambda h: all(m.flags & 0x0200 and not m.answer for m in h.messages),
    "truncated-with-records": lambda h: all(m.flags & 0x0200 and m.answer for m in h.messages),
    "oversize": lambda h: min(map(len, raw(h))) > 512,
    "cut": lambda h: h.messages == [None] * ASKS,
    "trailing-bytes": lambda h: all(wire.endswith(b"\0" * 30) for wire in raw(h)),
    "noise": lambda h: h.messages == [None] * ASKS,
    "name-loop": lambda h: h.messages == [None] * ASKS,
    "name-forward": lambda h: h.messages == [None] * ASKS,
    "long-label": lambda h: h.messages == [None] * ASKS,
    "too-many-records-said": lambda h: all(wire[7] == 5 for wire in raw(h)),
    "no-question": lambda h: all(wire[5] == 0 for wire in raw(h)),
    "two-questions": lambda h: all(wire[5] == 2 for wire in raw(h)),
    "a-query": lambda h: all(not wire[2] & 0x80 for wire in raw(h)),
    "wrong-id": lambda h: h.ips() == [list(IPS)] * ASKS,
    "twice": lambda h: [len(wires) for wires in h.a] == [2] * ASKS,
    "twice-apart": lambda h: max(h.late_s) >= 0.39,
    "reordered": lambda h: max(h.late_s) >= 0.39 and min(h.late_s) < 0.3,
    "other-port": lambda h: (
        h.server not in h.senders and {s[0] for s in h.senders} == {"127.0.0.1"}
    ),
    "other-address": lambda h: {s[0] for s in h.senders} == {"127.0.0.2"},
    "spoofed": lambda h: (
        h.ips() == [["192.0.2.1"]] * ASKS
        and h.server in h.senders
        and [addresses(wires[1]) for wires in h.a] == [list(IPS)] * ASKS
    ),
    "tcp-reset": lambda h: h.tcp == [None] and h.ips() == [list(IPS)] * ASKS,
    "tcp-close": lambda h: h.tcp == [b""],
    "tcp-silent": lambda h: h.tcp == [b"silent"],
    "tcp-cut": lambda h: len(h.tcp[0] or b"") > 4 and read(h.tcp[0] or b"") is None,
    "tcp-split": lambda h: read(h.tcp[0] or b"") is not None,
    "tcp-dribble": lambda h: read(h.tcp[0] or b"") is not None or h.tcp == [b"silent"],
    "one-silent": lambda h: one(h) and h.a == [[]] * ASKS and not any(h.refused),
    "one-closed": lambda h: one(h) and h.a == [[]] * ASKS and h.refused == [True, False, False],
    "one-slow": lambda h: one(h) and min(h.late_s) >= 0.29,
    **{
        f"one-{name}": partial(lambda name, h: one(h) and fails_by(name.upper(), h), name)
        for name in ("nxdomain", "servfail", "refused")
    },
    "one-empty": lambda h: one(h) and fails_by("NOERROR", h),
    "one-stale": lambda h: one(h) and h.ips() == [[OLD]] * ASKS,
    "one-lies": lambda h: one(h) and h.ips() == [["192.0.2.1"]] * ASKS,
    "coredns-restart": lambda h: h.a == [[]] * ASKS,
    "route53-throttle": lambda h: sum(map(len, (*h.a, *h.aaaa, *h.srv))) < 2 * ASKS,
    "docker-slow-dns": lambda h: min(h.late_s) >= 0.19,
    "consul-rotation": lambda h: h.ips()[0] == [*reversed(h.ips()[1])],
}
WAITS = {
    "later-than-retry": 0.2,  # the first answers come while later ones are waited for
    "slow": 0.6,
    "one-slow": 0.6,
    "jitter": 0.8,
    "heavy-tail": 0.3,
    "twice-apart": 0.6,
    "reordered": 0.6,
    "spoofed": 0.6,
}


def test_every_fault_is_seen() -> None:
    assert set(SEEN) == set(PRESETS)


@pytest.fixture(scope="module")
def heard_at_once() -> dict[str, Heard]:
    """What all of them let hear, each with a server of its own: most of the time they wait."""

    async def one(name: str, room: asyncio.Semaphore) -> Heard:
        async with room:
            return await heard_of(name, WAITS.get(name, WAIT_S))

    async def all_of_them() -> list[Heard]:
        room = asyncio.Semaphore(AT_ONCE)
        return await asyncio.gather(*(one(name, room) for name in names))

    names = sorted(PRESETS, key=lambda name: -WAITS.get(name, WAIT_S))  # the longest first
    return dict(zip(names, asyncio.run(all_of_them()), strict=True))


@pytest.mark.parametrize("name", PRESETS)
def test_a_fault_on_the_wire(heard_at_once, request, name) -> None:
    heard = heard_at_once[name]
    if request.node.execution_count > 1:  # tried again, by itself
        heard = asyncio.run(heard_of(name, WAITS.get(name, WAIT_S)))
    assert SEEN[name](heard)


def test_without_a_rule_answers_are_as_usual() -> None:
    PRESETS["none"] = PRESETS["silence"].__class__(about="", rules=())
    try:
        heard = asyncio.run(heard_of("none", WAIT_S))
    finally:
        del PRESETS["none"]
    assert [sorted(ips) for ips in heard.ips()] == USUAL
    assert heard.senders == {heard.server}
