"""One timeline: what it says at an instant, which moves the model knows, and what a trace shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaosd.faults.recreate import Recreate
from chaosd.plugins.fault import Circumstances
from chaosd.plugins.timeline import (
    ALWAYS,
    NEW,
    OLD,
    Failure,
    Meets,
    NameEdge,
    ProxyChange,
    ProxyEdge,
    Timeline,
    Trace,
    Unreached,
    move,
)
from chaosd.proxies.haproxy.config import Config, settings_of
from chaosd.proxies.haproxy.model.moves import Move, recognise
from chaosd.proxies.haproxy.model.predicting import predict, trace

GAP = move(
    published_s=0.5,
    listening_s=0.8,
    missing_s=0.1,
    missing="servfail",
    old_ip="blackhole",
    held_s=0.02,
    reachable_s=0.6,
)
IPV6 = settings_of(Config.model_validate({"type": "haproxy", "server": {"resolve_prefer": "ipv6"}}))


def with_names(timeline: Timeline, *edges: NameEdge) -> Timeline:
    names = sorted((*timeline.names, *edges), key=lambda edge: edge.at_s)
    return replace(timeline, names=tuple(names))


def test_a_timeline_says_what_holds_at_an_instant() -> None:
    answers = [GAP.answer(at_s, "A") for at_s in (-9, 0.1, 0.499, 0.5)]
    assert answers == [(OLD,), Failure.SERVFAIL, Failure.SERVFAIL, (NEW,)]
    assert [GAP.answer(at_s, "AAAA") for at_s in (0.0, 0.1)] == [Failure.EMPTY, Failure.SERVFAIL]
    olds = [GAP.meets(at_s, OLD) for at_s in (-0.1, 0.0, 0.02)]
    assert olds == [Meets.LISTENING, Meets.REFUSE, Meets.BLACKHOLE]
    news = [GAP.meets(at_s, NEW) for at_s in (0.59, 0.6, 0.8)]
    assert news == [Meets.UNREACHABLE, Meets.REFUSE, Meets.LISTENING]
    assert GAP.meets(0.0, "nobody's") == Meets.VACANT


def test_edges_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted by time"):
        replace(GAP, names=GAP.names[::-1])


def test_a_move_is_recognised_from_its_timeline() -> None:
    assert recognise(GAP, "A") == Move(
        old=OLD,
        new=NEW,
        others=(),
        published_s=0.5,
        listening_s=0.8,
        missing_s=0.1,
        missing=Failure.SERVFAIL,
        old_ip=Meets.BLACKHOLE,
        held_s=0.02,
        took_s=0.0,
        reachable_s=0.6,
    )


def test_what_is_no_move_says_why() -> None:
    reload = ProxyEdge(at_s=1.0, change=ProxyChange.RELOADED)
    assert recognise(replace(GAP, proxy=(reload,)), "A") == Unreached.PROXY_CHANGES
    assert recognise(replace(GAP, nameservers=2), "A") == Unreached.SEVERAL_NAMESERVERS
    again = NameEdge(at_s=0.7, record="A", answer=(OLD,))  # the name flaps
    assert recognise(with_names(GAP, again), "A") == Unreached.NO_NEW_ADDRESS
    back = NameEdge(at_s=0.3, record="A", answer=(OLD,))
    assert recognise(with_names(GAP, back), "A") == Unreached.OTHER_TIMELINE
    other = NameEdge(at_s=0.3, record="A", answer=Failure.NXDOMAIN)
    assert recognise(with_names(GAP, other), "A") == Unreached.OTHER_TIMELINE


def test_a_failure_of_the_other_record_type_matters_only_where_it_is_silence() -> None:
    """HAProxy asks for A at once after any answer without an address, and waits for none."""
    plain = move(published_s=0.5, listening_s=0.5, missing_s=None, missing="stale", old_ip="refuse")
    servfail = with_names(plain, NameEdge(at_s=0.2, record="AAAA", answer=Failure.SERVFAIL))
    silence = with_names(plain, NameEdge(at_s=0.2, record="AAAA", answer=Failure.SILENCE))
    assert predict(IPV6, "3.0.11", servfail) == predict(IPV6, "3.0.11", plain)
    assert predict(IPV6, "3.0.11", silence) == Unreached.OTHER_TIMELINE
    ipv4 = replace(IPV6, prefers="A")
    assert predict(ipv4, "3.0.11", silence) == predict(ipv4, "3.0.11", plain)


def test_a_trace_shows_addresses_and_states_of_any_timeline() -> None:
    """AAAA without an answer for a window: the proxy never gets to A, and goes into maintenance."""
    silence = Timeline(
        names=(
            NameEdge(at_s=ALWAYS, record="A", answer=(OLD,)),
            NameEdge(at_s=1.0, record="AAAA", answer=Failure.SILENCE),
            NameEdge(at_s=60.0, record="AAAA", answer=Failure.EMPTY),
        ),
        places=move(
            published_s=None, listening_s=None, missing_s=None, missing="stale", old_ip="imposter"
        ).places,
    )
    found = trace(IPV6, "3.0.11", silence, until_s=70.0)
    assert isinstance(found, Trace)
    states = [(edge.address, edge.health) for edge in found.edges]
    assert states == [
        (OLD, "up"),
        (None, "maint"),
        (OLD, "up"),
    ]
    assert 31 < found.edges[1].at_s < 36  # `hold timeout 30s`, and up to a resolution more
    assert found.at(30.0)["app/app"].health == "up"
    assert found == trace(IPV6, "3.0.11", silence, until_s=70.0)  # pure


@pytest.mark.parametrize(
    ("old_ip", "met"),
    [
        ("blackhole", [Meets.REFUSE, Meets.BLACKHOLE]),
        ("refuse", [Meets.REFUSE, Meets.REFUSE]),
        ("imposter", [Meets.REFUSE, Meets.IMPOSTER]),
    ],
)
def test_a_move_is_foretold_with_an_address_that_refuses_until_it_is_held(old_ip, met) -> None:
    fault = Recreate(Recreate.Config.model_validate({"every": "10s", "old_ip": old_ip}))
    known = Circumstances(
        app_start_s=0.05,
        missing="nxdomain",
        others=False,
        answer_s=0.0,
        stop_s=0.0,
        publish_s=0.0,
        reach_s=None,
        held_s=0.005,
    )
    timeline = fault.foretell(known)
    assert [timeline.meets(at_s, OLD) for at_s in (0.004, 0.006)] == met
    at_once = fault.foretell(replace(known, held_s=0.0))
    assert at_once.meets(0.0, OLD) == met[-1]
