"""What `chaosd check` says of a fault's cycles before a run, with the faults that come with it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from chaosd import plan
from chaosd.config.shape import Config
from chaosd.dns.presets import PRESETS
from chaosd.dns.rules import Rule
from chaosd.history.deeds import FaultDns
from chaosd.plan.foretelling import circumstances, foretold, planned
from chaosd.plugins.dns_trouble import disturbed, rules_as_said
from chaosd.plugins.timeline import Failure, Timeline, Unreached
from chaosd.report import words

SERVFAIL = PRESETS["servfail"].rules


def built(*companions: dict, **fault):
    """A plan of this fault alone, on local's pace."""
    said = {"type": "recreate", "every": "20s", "with": list(companions)} | fault
    keys = {"name": "x", "runtime": "sim", "metrics": None, "faults": [said]}
    config = Config.model_validate(keys)
    return plan.build(config, lambda path, what: f"{path}: {what}")


def happening(made, **known) -> Timeline | str:
    [arm] = made.arms
    about = replace(circumstances(arm.config, made.runtime.pace), **known)
    return planned(arm.config.faults[0], arm.faults()[0], about)


def said_of(made) -> str:
    [arm] = made.arms
    [part], [fault] = arm.config.faults, arm.faults()
    return foretold(part, fault, arm.config, arm.proxy, made.runtime.pace)


def dns(at: str, window: str, **keys) -> dict:
    return {"type": "dns", "preset": "servfail", "at": at, "window": window} | keys


def test_a_dns_fault_beside_a_move_is_in_its_timeline() -> None:
    alone = happening(built())
    found = happening(built(dns("200ms", "3s")))
    assert found == disturbed(alone, SERVFAIL, begins_s=0.2, ends_s=3.2)
    assert found.undisturbed == alone


def test_several_come_in_the_order_of_their_time() -> None:
    late = dns("1s", "2s", name="late", preset="nxdomain")
    found = happening(built(late, dns("-500ms", "1s")))
    assert [found.answer(at_s, "A") for at_s in (-0.4, 0.45, 1.5, 3.1)] == [
        Failure.SERVFAIL,
        Failure.SERVFAIL,
        Failure.NXDOMAIN,
        ("new",),
    ]


@pytest.mark.parametrize(
    ("fault", "before_s"),
    [
        ({}, 0.0),
        ({"order": "make-before-break", "gap": "1s"}, 3.0),
        ({"type": "bluegreen"}, 2.0),
    ],
)
def test_what_begins_before_begins_before_all_that_the_fault_prepares(fault, before_s) -> None:
    """T0 comes once the new instance is up, and a negative `at` is before the fault's start."""
    found = happening(built(dns("-1s", "10s"), **fault), app_start_s=2.0)
    assert min(edge.at_s for edge in found.names if edge.at_s > -1e9) == -1.0 - before_s
    after = happening(built(dns("1s", "10s"), **fault), app_start_s=2.0)
    assert next(e.at_s for e in after.names if e.answer is Failure.SERVFAIL) == 1.0


def test_check_predicts_both_together() -> None:
    alone, both = said_of(built()), said_of(built(dns("0s", "4s")))
    bands = [re.search(r"between ([\d.]+) s and ([\d.]+) s", said) for said in (alone, both)]
    (_, alone_s), (least_s, most_s) = (map(float, band.groups()) for band in bands)
    assert alone_s < 1.5
    assert 3.4 < least_s < 4 < most_s < 10
    assert "no prediction" not in both


@pytest.mark.parametrize(
    ("companion", "why"),
    [
        ({"type": "pause", "at": "1s"}, "the model knows DNS faults beside a move, and no pause"),
        ({"type": "reload", "at": "1s"}, "the model knows DNS faults beside a move, and no reload"),
        (dns("0s", "3s", preset="lossy"), "what the proxy makes of these answers"),
        (dns("0s", "3s", preset="one-silent"), "one nameserver only"),
    ],
)
def test_what_the_model_does_not_know_is_said(companion, why) -> None:
    said = said_of(built(companion))
    assert said.startswith("no prediction: ")
    assert why in said


def test_where_nothing_moves_nothing_is_known_of_two() -> None:
    made = built(dns("1s", "3s", name="second"), type="dns", preset="servfail", window="3s")
    assert "here nothing moves" in happening(made)


def test_a_nameserver_that_is_elsewhere_is_silent() -> None:
    moved = {"type": "nameserver", "at": "0s", "window": "3s"}
    found = happening(built(moved))
    assert found == disturbed(happening(built()), [Rule(answer="drop")], begins_s=0.0, ends_s=3.0)
    # What a run tells of it is the same; its name is none of a preset's.
    assert rules_as_said(FaultDns(answer="drop", preset="moved")) == (Rule(answer="drop"),)


def test_a_reason_of_the_first_fault_stays() -> None:
    again = dns("0s", "1s", name="second")
    said = said_of(built(again, type="dns", preset="nobody", window="3s"))
    assert said == f"no prediction: {words.unreached(Unreached.OTHER_ANSWERS)}"
