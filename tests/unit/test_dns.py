"""What the DNS server answers: no sockets here, the messages go straight in."""

import asyncio
from contextlib import suppress

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.dns.presets import PRESETS
from chaosd.dns.rules import Rule
from chaosd.dns.server import DELAYED_MAX, DnsServer, Query
from chaosd.dns.sockets import Came
from chaosd.history.values import Address
from chaosd.system import clock

NAME = "app.internal"
IP = "127.64.3.10"


class Ticking:
    """A clock that goes on by a microsecond whenever it is looked at."""

    def __init__(self):
        self.at_ns = 0

    def now_ns(self):
        self.at_ns += 1000
        return self.at_ns


def server(seen=None, **options):
    made = DnsServer(Ticking(), (seen if seen is not None else []).append, **options)
    made.publish(NAME, [IP])
    return made


def ask(asked, name=NAME, kind="A", transport="udp", **options):
    query = dns.message.make_query(name, kind, **options)
    answers = []
    asked.receive(query.to_wire(), Came(transport), wires_into(answers))
    if not answers:
        return None
    (wire,) = answers
    answer = dns.message.from_wire(wire)
    assert query.is_response(answer)
    return answer


def wires_into(answers):
    return lambda sending: answers.append(sending.wire)


def ips(answer):
    return [record.address for rrset in answer.answer for record in rrset]


def test_a_published_name_has_exactly_its_addresses():
    asked = server(ttl_s=600)
    answer = ask(asked)
    assert ips(answer) == [IP]
    assert answer.answer[0].ttl == 600
    assert answer.flags & dns.flags.AA
    asked.publish(NAME, ["127.64.3.11", "127.64.3.12"])
    assert ips(ask(asked)) == ["127.64.3.11", "127.64.3.12"]


def test_a_family_without_address_is_an_empty_answer_like_docker_s():
    answer = ask(server(), kind="AAAA")
    assert answer.rcode() == dns.rcode.NOERROR
    assert not answer.answer


def test_ipv6_addresses_answer_aaaa():
    asked = server()
    asked.publish(NAME, [IP, "::1"])
    assert ips(ask(asked, kind="AAAA")) == ["::1"]
    assert ips(ask(asked, kind="A")) == [IP]


@pytest.mark.parametrize(
    ("missing", "rcode"),
    [
        ("nxdomain", "NXDOMAIN"),
        ("servfail", "SERVFAIL"),
        ("refused", "REFUSED"),
        ("empty", "NOERROR"),
    ],
)
@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_a_missing_name_is_answered_by_its_class(missing, rcode, kind):
    asked = server(missing=missing)
    asked.withdraw(NAME)
    answer = ask(asked, kind=kind)
    assert dns.rcode.to_text(answer.rcode()) == rcode
    assert not answer.answer
    asked.publish(NAME, ["127.64.3.11"])
    assert ips(ask(asked)) == ["127.64.3.11"]


def test_a_missing_name_may_get_no_answer_or_a_stale_one():
    seen = []
    dropping = server(seen, missing="drop")
    dropping.withdraw(NAME)
    assert ask(dropping) is None
    assert [(query.rcode, query.ips) for query in seen] == [("", ())]
    stale = server(missing="stale")
    stale.withdraw(NAME)
    assert ips(ask(stale)) == [IP]


def test_a_name_that_was_never_published_is_refused_whatever_missing_says():
    for missing in ("nxdomain", "drop", "stale"):
        answer = ask(server(missing=missing), name="app.intern")
        assert answer.rcode() == dns.rcode.REFUSED
        assert not answer.flags & dns.flags.AA


def test_names_are_the_same_in_any_case_and_come_back_as_asked():
    seen = []
    answer = ask(server(seen), name="aPP.InterNal")
    assert ips(answer) == [IP]
    assert answer.answer[0].name.to_text() == "aPP.InterNal."
    assert seen[0].name == NAME


def test_every_query_is_counted_and_told():
    seen = []
    asked = server(seen)
    ask(asked)
    ask(asked, kind="AAAA", transport="tcp")
    assert asked.queries == 2
    first, second = seen
    assert isinstance(first, Query)
    assert first == Query(first.at_ns, NAME, "A", "NOERROR", (IP,), first.took_ns, "udp")
    assert second[1:5] == (NAME, "AAAA", "NOERROR", ())
    assert second.transport == "tcp"
    assert second.at_ns > first.at_ns > 0
    assert first.took_ns > 0


def test_edns_is_answered_with_edns_and_only_then():
    assert ask(server(), use_edns=0, payload=512).edns == 0
    assert ask(server(), use_edns=False).edns == -1


@pytest.mark.parametrize(
    ("options", "truncated"),
    [
        ({"use_edns": False}, True),
        ({"use_edns": 0, "payload": 512}, True),
        ({"use_edns": 0, "payload": 1232}, False),
        ({"transport": "tcp"}, False),
    ],
)
def test_an_answer_is_cut_at_the_size_that_the_client_takes(options, truncated):
    asked = server()
    many = [f"127.64.3.{host}" for host in range(10, 60)]  # 800 bytes
    asked.publish(NAME, many)
    answer = ask(asked, **options)
    assert bool(answer.flags & dns.flags.TC) is truncated
    assert truncated or ips(answer) == many


def test_other_opcodes_are_not_implemented():
    query = dns.message.make_query(NAME, "A")
    query.set_opcode(dns.opcode.STATUS)
    answers = []
    server().receive(query.to_wire(), Came("udp"), wires_into(answers))
    assert dns.message.from_wire(answers[0]).rcode() == dns.rcode.NOTIMP


def test_garbage_with_a_header_is_a_format_error_and_less_is_ignored():
    asked, answers = server(), []
    asked.receive(
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff", Came("udp"), wires_into(answers)
    )
    answer = dns.message.from_wire(answers.pop())
    assert (answer.id, answer.rcode()) == (0x1234, dns.rcode.FORMERR)
    asked.receive(b"\x12\x34\x01\x00\x00", Came("udp"), wires_into(answers))
    response = dns.message.make_query(NAME, "A")
    response.flags |= dns.flags.QR  # answering an answer could go on for ever
    asked.receive(response.to_wire(), Came("udp"), wires_into(answers))
    assert not answers
    assert asked.queries == 0


HEADERS = st.builds(
    lambda flags, counts, rest: b"\x12\x34" + flags + counts + rest,
    st.sampled_from([b"\x01\x00", b"\x00\x00", b"\x28\x00", b"\x20\x00", b"\x7f\xff"]),
    st.lists(st.sampled_from([0, 1, 2, 255]), min_size=8, max_size=8).map(bytes),
    st.binary(max_size=80),
)


@given(st.one_of(st.binary(max_size=120), HEADERS))
def test_no_bytes_make_it_fail(wire):
    for transport in ("udp", "tcp"):
        answers = []
        server().receive(wire, Came(transport), wires_into(answers))
        assert len(answers) <= 1
        for answer in answers:
            assert answer[:2] == wire[:2]


@given(st.integers(0, 60), st.integers(0, 255), st.sampled_from(["A", "AAAA", "ANY", "TXT", "SRV"]))
def test_no_damaged_query_makes_it_fail(place, value, kind):
    wire = bytearray(dns.message.make_query(NAME, kind, use_edns=0, payload=512).to_wire())
    wire[place % len(wire)] = value
    answers = []
    server().receive(bytes(wire), Came("udp"), wires_into(answers))
    for answer in answers:
        with suppress(dns.exception.DNSException):  # it may echo a question that is odd itself
            assert dns.message.from_wire(answer).flags & dns.flags.QR


def test_a_delayed_answer_is_the_answer_of_when_it_was_asked():
    async def scenario():
        seen, answers = [], []
        asked = DnsServer(clock.VirtualClock(), seen.append, delay_s=0.25)
        asked.publish(NAME, [IP])
        wire = dns.message.make_query(NAME, "A").to_wire()
        asked.receive(wire, Came("udp"), wires_into(answers))
        asked.publish(NAME, ["127.64.3.11"])
        assert not answers
        await clock.sleep(clock.VirtualClock(), 0.25)
        assert ips(dns.message.from_wire(answers[0])) == [IP]
        assert seen[0].took_ns == 250_000_000
        for _ in range(DELAYED_MAX + 10):
            asked.receive(wire, Came("udp"), wires_into(answers))
        await clock.sleep(clock.VirtualClock(), 1)
        assert len(answers) == 1 + DELAYED_MAX

    with asyncio.Runner(loop_factory=clock.VirtualLoop) as runner:
        runner.run(scenario())


def test_a_service_name_has_a_target_for_each_address():
    seen = []
    asked = server(seen, service_port=8080)
    asked.publish("_http._tcp.app.internal", ["127.64.3.10", "127.64.3.11"])
    answer = ask(asked, "_http._tcp.app.internal", "SRV")
    targets = {record.target.to_text(): record.port for rrset in answer.answer for record in rrset}
    assert targets == {"ip-127-64-3-10.app.internal.": 8080, "ip-127-64-3-11.app.internal.": 8080}
    also = {rrset.name.to_text(): rrset[0].address for rrset in answer.additional}
    assert also["ip-127-64-3-11.app.internal."] == "127.64.3.11"
    assert seen[-1].ips == ("127.64.3.10", "127.64.3.11")
    assert ips(ask(asked, "ip-127-64-3-10.app.internal")) == ["127.64.3.10"]
    asked.withdraw("_http._tcp.app.internal")
    assert ask(asked, "_http._tcp.app.internal", "SRV").rcode() == dns.rcode.NXDOMAIN


def test_stale_answers_are_those_of_before_the_last_change():
    asked = server()
    asked.rules.set("fault", PRESETS["stale"].rules)
    asked.withdraw(NAME)
    asked.publish(NAME, ["127.64.3.11"])
    asked.publish(NAME, ["127.64.3.11"])  # as a forwarder does at each question
    assert ips(ask(asked)) == [IP]


def test_a_name_of_one_label_may_be_missing_with_an_soa_record():
    asked = server()
    asked.publish("app", [IP])
    asked.rules.set("fault", PRESETS["nxdomain-soa"].rules)
    answer = ask(asked, name="app")
    assert answer.rcode() == dns.rcode.NXDOMAIN
    (record,) = answer.authority
    assert record[0].mname.to_text() == "ns."


@pytest.mark.parametrize("preset", PRESETS)
def test_faults_leave_names_alone_that_it_does_not_have(preset):
    asked = server()
    asked.rules.set("fault", PRESETS[preset].rules)
    for name in (".", "other.internal"):
        assert ask(asked, name=name).rcode() == dns.rcode.REFUSED


def test_a_stranger_meets_no_fault_and_is_not_counted_by_its_rules():
    ours = Address("127.0.0.1", 1)
    asked = server(believes=lambda sender, _: sender == ours)
    asked.rules.set("fault", [Rule(answer="servfail", every=2)])
    wire = dns.message.make_query(NAME, "A").to_wire()

    def rcode(sender):
        answers = []
        asked.receive(wire, Came("udp", sender), wires_into(answers))
        return dns.rcode.to_text(dns.message.from_wire(answers[0]).rcode())

    stranger = Address("127.0.0.9", 1)
    found = [rcode(ours), rcode(stranger), rcode(stranger), rcode(ours)]
    assert found == ["NOERROR", "NOERROR", "NOERROR", "SERVFAIL"]
