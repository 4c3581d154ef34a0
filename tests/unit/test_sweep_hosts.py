"""The host as a factor: told from noise, and never mixed up with the arms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from sweeps import Truth, arms, results

from chaosd.sweep import json, measuring, racing, seeing, words
from chaosd.sweep.answer import answer
from chaosd.sweep.hosts import hosts
from chaosd.sweep.store import Brought, Round, Store
from chaosd.sweep.values import Host, Objective, Results

SOME = arms(proxy__retries=[1, 2, 3])
SAME = Truth(least_s=1.0, width_s=0.4, queries_per_s=1.0)
TRUTHS = {(arm.key, "recreate"): SAME for arm in SOME}


def on_hosts(found: Results, names: str, slower_s: dict[str, float]) -> Results:
    """Blocks go to the hosts by turns; on some of them everything takes longer."""
    seen = []
    for each in found.seen:
        host = names[each.block % len(names)]
        assert each.recovery_s is not None
        more_s = slower_s.get(host, 0.0)
        recovery_s, asked = each.recovery_s + more_s, (each.rest_queries_per_s or 0.0) + more_s
        seen.append(replace(each, host=host, recovery_s=recovery_s, rest_queries_per_s=asked))
    return replace(found, seen=tuple(seen))


def test_a_slow_host_is_told_from_noise() -> None:
    made = results(SOME, TRUTHS, Random(3), blocks=40)
    for slower_s, wanted in ({}, set()), ({"c": 0.3}, {"c"}):
        found = hosts(on_hosts(made, "abcd", slower_s))
        assert [each.name for each in found] == ["a", "b", "c", "d"]
        assert [each.blocks for each in found] == [10, 10, 10, 10]
        assert {each.name for each in found if each.differs} == wanted
    slow = found[2].beyond
    assert slow.value == pytest.approx(0.3, abs=0.08)
    assert slow.low is not None
    assert slow.low > 0.15


def test_hosts_alike_are_rarely_called_different() -> None:
    """5 % of sweeps at most, over all hosts; of 60 that is 3, and 8 or more is one in a hundred."""
    called = 0
    for seed in range(60):
        made = results(SOME, TRUTHS, Random(seed), blocks=16)
        called += any(each.differs for each in hosts(on_hosts(made, "abcd", {})))
    assert called <= 7


def test_an_arm_that_only_met_the_slow_host_is_not_stopped_for_it() -> None:
    asked = (Objective.DNS_QUERIES,)
    made = results(SOME, TRUTHS, Random(5), blocks=80, objectives=asked)
    made = on_hosts(made, "ab", {"b": 4.0})
    only = {"k01": "b", "k02": "a"}
    apart = replace(made, seen=tuple(s for s in made.seen if only.get(s.arm, s.host) == s.host))
    assert racing.look(apart, None) == {}
    # By intervals, as on one host, it would be.
    mixed = replace(apart, seen=tuple(replace(s, host="") for s in apart.seen))
    assert "k01" in racing.look(mixed, None)


def test_all_that_is_said_of_hosts() -> None:
    alone = results(SOME, TRUTHS, Random(3), blocks=40)
    made = on_hosts(alone, "ab", {"b": 0.3})
    facts = Host(name="b", cores=4.0, memory_bytes=1 << 33, meter_worst_s=0.0021, meter_n=10)
    found = answer(replace(made, hosts={"b": facts}))
    first, second = words.hosts(found)
    assert first.startswith("a: 20 blocks, 60 cycles, mean recovery −0.3")
    assert "differs" in second
    assert second.endswith("4 cores, meter within 2.1 ms (10 outages)")
    document = json.document(found)
    assert [each["name"] for each in document["hosts"]] == ["a", "b"]
    assert first in "\n".join(document["words"])
    # One machine by itself is not worth a section.
    assert words.hosts(replace(found, hosts=hosts(alone))) == []


def test_what_several_hosts_took_is_counted_by_one_clock(tmp_path, monkeypatch) -> None:
    """Their own may be an hour apart: then rounds beside each other look like one after another."""
    store = Store(tmp_path)
    for number, host in enumerate("ab", start=1):
        begun = Round(
            number=number, directory=f"rounds/{number}", fault="recreate", fault_hash="", cycles=1,
            replicas=1, arms={}, fresh=False, host=host,
        )  # fmt: skip
        store.begin(begun)
        given_unix = 1000.0 + 10 * number
        store.bring(
            Brought(
                number=number, host=host, took_s=60.0, run_s=50.0, bytes=1, given_unix=given_unix
            )
        )

    def look(_: Path, begun: Round, first_block: int) -> seeing.Shown:
        start_unix = 3600.0 * begun.number
        return seeing.Shown(
            round=begun, seen=(), blocks=1, poor=0, start_unix=start_unix, took_s=50.0, at_once=1
        )

    monkeypatch.setattr(seeing, "look", look)
    assert seeing.took_s(measuring._read(store)) == 70.0
