"""chaosd's DNS in front of another one, over real sockets on loopback."""

from __future__ import annotations

import asyncio

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import pytest

from chaosd.dns import forwarder
from chaosd.dns.forwarder import Forwarder, Nobody, Speaker
from chaosd.dns.server import DnsServer, Query
from chaosd.system.clock import RealClock

NAME, IP = "app.internal", "10.213.7.10"


async def scene(body, *, missing="nxdomain", upstream_missing="nxdomain", **options):
    """An upstream that knows NAME, a forwarder before it, and what it saw."""
    clock, seen = RealClock(), []
    upstream = DnsServer(clock, lambda _: None, missing=upstream_missing)
    upstream.publish(NAME, [IP])
    options = {"ttl_s": 0, "delay_s": 0.0, "proxy": "127.0.0.1"} | options
    address = await upstream.start("127.0.0.1", 0)
    front = Forwarder(clock, seen.append, address, missing=missing, service_port=8080, **options)
    try:
        return await body(upstream, await front.start("127.0.0.1", 0)), seen
    finally:
        await front.close()
        await upstream.close()
        clock.close()


async def ask(address, name=NAME, kind="A", limit_s=5.0):
    query = dns.message.make_query(name, kind)
    try:
        answer = await dns.asyncquery.udp(query, address.host, limit_s, address.port)
    except dns.exception.Timeout:
        return "silence"
    ips = [record.address for rrset in answer.answer for record in rrset]
    return dns.rcode.to_text(answer.rcode()), ips


def test_what_the_upstream_knows_is_passed_on_with_our_ttl():
    async def body(upstream, front):
        query = dns.message.make_query(NAME, "A")
        answer = await dns.asyncquery.udp(query, front.host, 5, front.port)
        first = answer.answer[0].ttl, await ask(front)
        upstream.publish(NAME, ["10.213.7.11"])
        return first, await ask(front)

    (first, second), seen = asyncio.run(scene(body, ttl_s=7))
    assert first == (7, ("NOERROR", [IP]))
    assert second == ("NOERROR", ["10.213.7.11"])
    assert [(q.name, q.qtype, q.rcode, q.ips) for q in seen][-1] == (
        NAME, "A", "NOERROR", ("10.213.7.11",)
    )  # fmt: skip


@pytest.mark.parametrize("payload", [None, 512], ids=["as asked", "an engine of 512 bytes"])
def test_more_addresses_than_512_bytes_have_room_for_are_all_passed_on(monkeypatch, payload):
    many = [f"10.213.7.{last}" for last in range(10, 74)]
    if payload is not None:
        monkeypatch.setattr(forwarder, "PAYLOAD", payload)

    async def body(upstream, front):
        upstream.publish(NAME, many)
        query = dns.message.make_query(NAME, "A")
        return await dns.asyncquery.tcp(query, front.host, 5, front.port)

    answer, _ = asyncio.run(scene(body))
    assert [record.address for rrset in answer.answer for record in rrset] == many


def test_a_name_without_an_address_of_this_family_is_not_missing():
    async def body(upstream, front):
        return await ask(front, kind="AAAA")

    assert asyncio.run(scene(body, missing="servfail"))[0] == ("NOERROR", [])


@pytest.mark.parametrize(
    ("missing", "answer"),
    [
        ("nxdomain", ("NXDOMAIN", [])),
        ("servfail", ("SERVFAIL", [])),
        ("refused", ("REFUSED", [])),
        ("empty", ("NOERROR", [])),
        ("stale", ("NOERROR", [IP])),
        ("drop", "silence"),
    ],
)
@pytest.mark.parametrize("upstream_missing", ["servfail", "drop"])
def test_a_missing_name_is_answered_as_configured_whatever_the_upstream_says(
    missing, answer, upstream_missing
):
    async def body(upstream, front):
        before = await ask(front)
        upstream.withdraw(NAME)
        return before, await ask(front, limit_s=2.0)

    found, _ = asyncio.run(scene(body, missing=missing, upstream_missing=upstream_missing))
    assert found == (("NOERROR", [IP]), answer)


def test_the_upstreams_own_questions_are_answered_at_once():
    async def body() -> object:
        clock = RealClock()
        nobody = Nobody(clock, lambda _: None)
        try:
            return await ask(await nobody.start("127.0.0.1", 0))
        finally:
            await nobody.close()
            clock.close()

    assert asyncio.run(body()) == ("NXDOMAIN", [])


def test_whoever_is_not_the_proxy_is_refused_and_nobody_else_is_asked():
    async def body(upstream, front):
        return await ask(front), await ask(front, "example.com"), upstream.queries

    (own, other, upstream_queries), seen = asyncio.run(scene(body, proxy="127.0.0.2"))
    assert own == other == ("REFUSED", [])
    assert upstream_queries == 0
    assert [query.stranger.partition(":")[0] for query in seen] == ["127.0.0.1"] * 2


def test_strangers_are_said_at_most_once_a_second(capsys):
    clock = RealClock()
    speaker = Speaker(clock)
    query = Query(0, NAME, "A", "REFUSED", (), 0, "udp", stranger="10.0.0.9:5")
    for _ in range(50):
        speaker.observe(query)
    clock.close()
    assert capsys.readouterr().out == '{"strangers": 1, "from": "10.0.0.9:5"}\n'
