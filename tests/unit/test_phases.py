"""Where a recovery's seconds went."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import budget
import fake
import pytest
import stored
from fake import MS, NEW, NEW_IP, OLD_IP, SECOND, T0
from hypothesis import given, settings, strategies

from chaosd.analysis.phases import DirectAnswers, Edges, edges, first_answer_ns, move, phases
from chaosd.analysis.recovery import measure
from chaosd.history.cycles import PHASES
from chaosd.history.values import Outcome
from chaosd.plugins import timeline
from chaosd.plugins.timeline import Timeline

FEW = settings(derandomize=True, max_examples=budget.of(30, 300), deadline=None)
EDGE = strategies.one_of(strategies.none(), strategies.integers(T0 - SECOND, T0 + 3 * SECOND))
BEFORE_SETTLE = [f"{phase}_s" for phase in PHASES if phase != "settle"]


def at(ms: int, source: str, what: str, **data):
    return fake.reading(T0 + ms * MS, source, what, **data)


NOTHING = DirectAnswers()


def found(*events, recovered_ms: int | None = 2000, direct: DirectAnswers = NOTHING) -> Edges:
    recovered_ns = None if recovered_ms is None else T0 + recovered_ms * MS
    return edges(events, fake.begin(), recovered_ns=recovered_ns, direct=direct)


def in_ms(edge: Edges) -> tuple[int | None, ...]:
    return tuple(None if ns is None else (ns - T0) // MS for ns in edge[:4])


def test_the_error_is_that_of_the_edge_that_is_known_worst() -> None:
    def seen(ms: int, source: str, what: str, error_ms: int, **data: str):
        return replace(at(ms, source, what, **data), error_ns=error_ms * MS)

    switched = {"server": "s1", "old": OLD_IP, "new": NEW_IP}
    api = seen(700, "proxy.api", "address_changed", 25, **switched)
    log = seen(710, "proxy.log", "address_changed", 2, **switched)
    listening = seen(260, "app", "listening", 10, identity=NEW)
    other = seen(100, "app", "listening", 99, identity="another")
    assert found(listening, other, api).error_ns == 25 * MS
    assert found(listening, other, api, log).error_ns == 10 * MS  # the poll is not needed then
    assert found().error_ns == 0


def test_gossip_is_from_the_first_node_that_knows_until_the_proxys_does() -> None:
    def known(ms: int, node: str, *ips: str):
        return at(ms, "dns", "known", node=node, ips=list(ips))

    events = (
        at(300, "app", "listening", identity=NEW),
        known(320, "node-2", NEW_IP, OLD_IP),
        known(350, "node-2", NEW_IP),
        known(900, "node-1", NEW_IP),
        at(900, "dns", "published", ips=[NEW_IP]),
        at(1500, "proxy.log", "address_changed", server="s1", old=OLD_IP, new=NEW_IP),
    )
    edge = found(*events)
    assert edge.announced_ns == T0 + 350 * MS
    parts = phases(T0, edge, T0 + 2000 * MS, None)
    told = {name: round(1000 * s) for name, s in parts.items() if s is not None}
    assert told.pop("rejoin_s") == 0
    assert told == {
        "replace_s": 300,
        "publish_s": 50,
        "gossip_s": 550,
        "discover_s": 600,
        "serve_s": 500,
    }
    assert "gossip_s" not in phases(T0, found(*events[-2:]), T0 + 2000 * MS, None)


def test_at_its_own_address_there_is_nothing_to_discover() -> None:
    begin = fake.begin(new_ip=OLD_IP, control=True)
    listening = at(260, "app", "listening", identity=NEW)
    published = at(250, "dns", "published", ips=[OLD_IP])
    down, up = (at(ms, "proxy.log", what, server="s1") for ms, what in ((90, "down"), (700, "up")))
    other = at(100, "proxy.log", "down", server="s2")

    def stayed(*events) -> Edges:
        return edges(events, begin, recovered_ns=T0 + 900 * MS, direct=NOTHING)

    assert in_ms(stayed(listening, published)) == (260, 250, 0, 0)
    assert in_ms(stayed(listening, published, down, up)) == (260, 250, 0, 700)
    assert in_ms(stayed(listening, published, down)) == (260, 250, 0, None)
    # In maintenance HAProxy forgets the address: then there was something to discover after all.
    again = at(690, "proxy.log", "address_changed", server="s1", old=None, new=OLD_IP)
    assert in_ms(stayed(listening, published, down, again, up)) == (260, 250, 690, 700)
    assert in_ms(stayed(listening, published, down, up, other)) == (260, 250, None, None)
    parts = phases(T0, stayed(listening, published, down, up), T0 + 900 * MS, T0 + 900 * MS)
    assert parts == {
        "replace_s": 0.26,
        "publish_s": 0.0,
        "discover_s": 0.0,
        "rejoin_s": 0.44,
        "serve_s": 0.2,
        "settle_s": 0.0,
    }


SWITCHED = at(900, "proxy.log", "address_changed", server="s1", old=OLD_IP, new=NEW_IP)


# --- the parts ---


@FEW
@given(
    strategies.tuples(EDGE, EDGE, EDGE, EDGE),
    strategies.integers(0, 2 * SECOND),
    strategies.integers(0, SECOND),
)
def test_known_phases_are_a_partition(instants, took, settled) -> None:
    recovered_ns = T0 + took
    edge = Edges(*instants)
    parts = phases(T0, edge, recovered_ns, recovered_ns + settled)
    assert list(parts) == [f"{phase}_s" for phase in PHASES]
    assert all(part is None or part >= 0 for part in parts.values())
    known = [parts[name] for name in BEFORE_SETTLE]
    # Each phase is known exactly if both of its edges are.
    for place, part in enumerate(known):
        ends = (T0, *edge, recovered_ns)[place : place + 2]
        assert (part is None) == (None in ends)
    if None not in edge:
        assert sum(known) == pytest.approx(took / SECOND, abs=1e-9)
    else:
        assert sum(part or 0.0 for part in known) <= took / SECOND + 1e-9
    assert parts["settle_s"] == settled / SECOND


def test_phases_of_a_plain_move() -> None:
    edge = Edges(T0 + 250 * MS, T0 + 200 * MS, T0 + 900 * MS, T0 + 900 * MS)
    parts = phases(T0, edge, T0 + SECOND, T0 + SECOND)
    assert parts == {
        "replace_s": 0.25,
        "publish_s": 0.0,  # the name was there before the app listened
        "discover_s": 0.65,
        "rejoin_s": 0.0,
        "serve_s": 0.1,
        "settle_s": 0.0,
    }


def test_what_happens_after_the_recovery_took_none_of_it() -> None:
    late = T0 + 5 * SECOND
    parts = phases(T0, Edges(T0, T0, late, late), T0 + SECOND, None)
    assert (parts["discover_s"], parts["rejoin_s"], parts["serve_s"]) == (1.0, 0.0, 0.0)
    assert parts["settle_s"] is None


def test_without_a_recovery_the_known_phases_say_how_far_it_came() -> None:
    parts = phases(T0, Edges(T0 + MS, T0 + 2 * MS, T0 + 9 * SECOND, None), None, None)
    assert [parts[name] for name in BEFORE_SETTLE] == [0.001, 0.001, 8.998, None, None]


# --- the edges ---


def test_the_log_outranks_the_api_and_the_first_reading_the_later() -> None:
    said = [
        at(100, "app", "listening", identity="another"),
        at(260, "app", "listening", identity=NEW),
        at(150, "dns", "published", ips=["127.64.0.9"]),
        at(200, "dns", "published", ips=["127.64.0.9", NEW_IP]),
        at(300, "dns", "published", ips=[NEW_IP]),
        at(700, "proxy.api", "address_changed", server="s1", old=OLD_IP, new=NEW_IP),
        at(800, "proxy.log", "address_changed", server="s1", old=OLD_IP, new="127.64.0.9"),
        SWITCHED,
    ]
    assert in_ms(found(*said)) == (260, 200, 900, 900)
    without_log = [event for event in said if stored.line(event).source != "proxy.log"]
    assert in_ms(found(*without_log)) == (260, 200, 700, 700)


def test_what_nobody_told_is_unknown() -> None:
    assert in_ms(found()) == (None, None, None, None)
    assert in_ms(found(direct=DirectAnswers(T0 + 300 * MS))) == (300, None, None, None)


@pytest.mark.parametrize(
    ("said", "usable_ms"),
    [
        ([], 900),
        ([(300, "maint"), (950, "up"), (950, "ready")], 950),
        # With `init-state fully-down` to be out of maintenance is not to be usable.
        ([(300, "maint"), (950, "down"), (950, "ready"), (1500, "up")], 1500),
        ([(300, "maint"), (950, "ready")], None),
        ([(300, "down"), (600, "up")], 900),  # back before the switch
        ([(300, "down")], None),  # away, and nobody told of its return
        ([(300, "down"), (950, "up"), (1200, "down"), (1500, "up")], 1500),
        ([(2500, "down"), (2600, "up")], 900),  # after the recovery: no part of it
        ([(300, "maint"), (2001, "up")], 2001),  # the log came a moment late
        ([(-500, "down"), (950, "up")], 900),  # before T0: another matter
    ],
)
def test_a_server_is_usable_once_it_is_back_from_its_last_absence(said, usable_ms) -> None:
    events = [at(ms, "proxy.log", what, server="s1", reason="") for ms, what in said]
    assert in_ms(found(SWITCHED, *events))[3] == usable_ms


def test_other_servers_do_not_matter() -> None:
    other = at(300, "proxy.log", "down", server="s2", reason="")
    assert in_ms(found(SWITCHED, other))[3] == 900


def test_the_api_is_heard_where_the_log_says_nothing_of_the_server() -> None:
    said = [
        at(300, "proxy.api", "down", server="s1", reason=""),
        at(5000, "proxy.api", "up", server="s1"),
    ]
    assert in_ms(found(SWITCHED, *said))[3] == 5000
    log = [at(300, "proxy.log", "down", server="s1"), at(950, "proxy.log", "up", server="s1")]
    assert in_ms(found(SWITCHED, *said, *log))[3] == 950


@FEW
@given(strategies.randoms(use_true_random=False), strategies.data())
def test_the_order_of_events_does_not_matter(random: Random, data) -> None:
    whats = [
        ("app", "listening", {"identity": NEW}),
        ("dns", "published", {"ips": [NEW_IP]}),
        ("dns", "withdrawn", {}),
        ("proxy.log", "address_changed", {"server": "s1", "old": OLD_IP, "new": NEW_IP}),
        *(("proxy.log", what, {"server": "s1"}) for what in ("up", "down", "maint", "ready")),
    ]
    chosen = data.draw(strategies.lists(strategies.sampled_from(whats), max_size=12))
    times = strategies.integers(-100, 3000)
    events = [at(data.draw(times), source, what, **d) for source, what, d in chosen]
    events += [
        fake.begin(),
        fake.end(T0 + 3 * SECOND),
        fake.action(T0, "hold", "asked", manner="refuse"),
    ]
    mixed = fake.shuffled(events, random)
    samples = fake.row(T0 - SECOND, T0 + 3 * SECOND, fake.failover(SECOND))
    one, other = (
        measure(e, samples, {fake.OLD, NEW}, settings=fake.settings(), stream=1)
        for e in (events, mixed)
    )
    assert one == other
    assert move(events, missing_class="nxdomain", dns_s=0) == move(
        mixed, missing_class="nxdomain", dns_s=0
    )


# --- the move, for the prediction ---


def moved(**edges: Any) -> Timeline:
    """A move of which these edges are known."""
    unknown = dict.fromkeys(("published_s", "listening_s", "missing_s"))
    return timeline.move(**(unknown | {"missing": "nxdomain", "old_ip": "vacant"} | edges))


def test_the_move_as_it_was() -> None:
    events = [
        fake.begin(),
        fake.action(T0 + 2 * MS, "hold", "asked", ip=OLD_IP, manner="tarpit"),
        fake.action(T0 + 3 * MS, "hold", "done", ip=OLD_IP, manner="tarpit"),
        at(1, "dns", "withdrawn"),
        at(200, "dns", "published", ips=[NEW_IP]),
        at(260, "app", "listening", identity=NEW),
    ]
    assert move(events, missing_class="servfail", dns_s=0) == timeline.move(
        published_s=0.2,
        listening_s=0.26,
        missing_s=0.001,
        missing="servfail",
        old_ip="tarpit",
        held_s=0.003,  # until then it refuses, as any address of loopback does
    )


def test_a_name_that_others_still_answer_for_is_not_missing() -> None:
    events = [
        at(-50, "dns", "published", ips=[OLD_IP, NEW_IP]),
        fake.begin(),
        at(1, "dns", "withdrawn", ips=[NEW_IP]),
    ]
    known = move(events, missing_class="nxdomain", dns_s=0)
    assert known == moved(published_s=0.0)


def test_make_before_break_is_published_once_the_old_address_is_gone_from_the_answers() -> None:
    """As long as it is among them, HAProxy may well stay there."""
    events = [
        fake.begin(),
        at(5, "dns", "published", ips=[OLD_IP, NEW_IP]),
        at(300, "dns", "published", ips=[NEW_IP]),
    ]
    known = move(events, missing_class="nxdomain", dns_s=0)
    assert known == moved(published_s=0.3)


def test_others_are_those_who_answer_when_the_old_address_is_gone() -> None:
    third = "127.64.0.99"
    events = [
        fake.begin(),
        at(1, "dns", "published", ips=[OLD_IP, third]),
        at(300, "dns", "published", ips=[NEW_IP]),
    ]
    assert move(events, missing_class="nxdomain", dns_s=0) == moved(published_s=0.3)
    events[1] = at(1, "dns", "published", ips=[third])
    known = move(events, missing_class="nxdomain", dns_s=0)
    assert known == moved(published_s=0.3, others=1, gone_s=0.001)


def test_a_name_is_missing_from_when_it_was_first_withdrawn() -> None:
    events = [
        at(-400, "dns", "withdrawn"),  # by the cycle before
        fake.begin(),
        at(900, "dns", "withdrawn"),
        at(100, "dns", "withdrawn"),
        at(950, "dns", "published", ips=[NEW_IP]),
    ]
    known = move(events, missing_class="nxdomain", dns_s=0)
    assert known == moved(published_s=0.95, missing_s=0.1)


def test_a_move_that_nobody_saw_is_unknown_but_for_the_direct_probe() -> None:
    samples = [
        fake.sample(T0, 300 * MS, Outcome.OK, NEW, stream=2),
        fake.sample(T0 + 20 * MS, 260 * MS, Outcome.OK, NEW, stream=2),
        fake.sample(T0 + 10 * MS, MS, Outcome.OK, fake.OLD, stream=2),
        fake.sample(T0 + 10 * MS, MS, Outcome.HTTP_ERROR, NEW, stream=2),
        fake.sample(T0 + 10 * MS, MS, Outcome.OK, NEW, stream=1),
    ]
    assert first_answer_ns(samples, 2, NEW) == T0 + 280 * MS
    known = move([fake.begin()], missing_class="nxdomain", dns_s=0, samples=samples, direct=2)
    assert known == moved(listening_s=0.28)
    cycle = measure(
        fake.events(end_ns=T0 + SECOND),
        samples,
        {NEW},
        settings=fake.settings(),
        stream=1,
        direct=2,
    )
    # It answered through the proxy before the direct probe did: all of it was `replace`.
    assert cycle.phases["replace_s"] == cycle.recovery_s == 0.011
    with pytest.raises(ValueError, match="never began"):
        move([], missing_class="nxdomain", dns_s=0)


@pytest.mark.parametrize(("well_ms", "replace_s"), [(None, 0.4), (6400, 6.4)])
def test_replace_ends_when_the_app_answers_well(well_ms, replace_s) -> None:
    """One that listens and is not well yet is not there; one that is never well says nothing."""
    bad = [
        fake.sample(T0 + ms * MS, MS, Outcome.HTTP_ERROR, NEW, stream=2) for ms in (410, 900, 6300)
    ]
    ends = 7000 if well_ms else 500
    good = [fake.sample(T0 + well_ms * MS, MS, Outcome.OK, NEW, stream=2)] if well_ms else []
    through = [fake.sample(T0 + ends * MS, MS, Outcome.OK, NEW, stream=1)]
    listening = at(400, "app", "listening", identity=NEW)
    cycle = measure(
        [fake.begin(), listening, *fake.events(end_ns=T0 + 9 * SECOND)[1:]],
        [*bad, *good, *through],
        {NEW},
        settings=fake.settings(),
        stream=1,
        direct=2,
    )
    assert cycle.phases["replace_s"] == pytest.approx(replace_s, abs=0.002)
    known = move(
        [fake.begin(), listening],
        missing_class="nxdomain",
        dns_s=0,
        samples=[*bad, *good],
        direct=2,
    )
    (listens,) = [p.at_s for p in known.places_of("new") if p.meets == "listening"]
    assert listens == pytest.approx(replace_s, abs=0.002)
