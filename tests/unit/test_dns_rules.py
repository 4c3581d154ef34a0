"""The rules of a nameserver: which one applies, several owners at once, and their line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.dns.rules import Rule, RuleBook, decode

ANSWERS = st.sampled_from([None, "nxdomain", "servfail", "refused", "empty", "drop"])
QTYPES = st.sampled_from([None, "A", "AAAA"])
RULES = st.builds(
    Rule,
    answer=ANSWERS,
    delay_s=st.sampled_from([0.0, 0.25, 0.5]),
    qtype=QTYPES,
    name=st.sampled_from([None, "app.internal"]),
)
OWNERS = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(st.tuples(OWNERS, st.lists(RULES, max_size=2)), max_size=6)


def book(*owned: tuple[str, list[Rule]]) -> RuleBook:
    made = RuleBook()
    for owner, rules in owned:
        made.set(owner, rules)
    return made


def test_a_rule_selects_by_name_and_type() -> None:
    rule = Rule(answer="servfail", qtype="AAAA", name="app.internal")
    made = book(("a", [rule]))
    assert made.wrong("App.Internal", "AAAA") == Rule(answer="servfail")
    assert made.wrong("app.internal", "A") is None
    assert made.wrong("other.internal", "AAAA") is None


def test_the_first_rule_of_an_owner_that_selects_it_applies() -> None:
    made = book(("a", [Rule(qtype="A"), Rule(answer="drop")]))
    assert made.wrong("x", "A") == Rule()  # an exception from the second one
    assert made.wrong("x", "AAAA") == Rule(answer="drop")


def test_two_owners_are_taken_together() -> None:
    fails, slow = Rule(answer="servfail", qtype="AAAA"), Rule(delay_s=0.2)
    made = book(("fails", [fails]), ("slow", [slow]))
    assert made.wrong("x", "AAAA") == Rule(answer="servfail", delay_s=0.2)
    assert made.wrong("x", "A") == slow
    made.set("fails", [])
    assert made.wrong("x", "AAAA") == slow
    made.set("slow", [])
    assert made.wrong("x", "AAAA") is None
    assert len(made) == 0


def test_of_two_answers_it_is_that_of_the_owner_who_came_last() -> None:
    made = book(("a", [Rule(answer="nxdomain")]), ("b", [Rule(answer="drop")]))
    assert made.wrong("x", "A") == Rule(answer="drop")
    made.set("a", [Rule(answer="nxdomain")])  # set anew: now it is the last
    assert made.wrong("x", "A") == Rule(answer="nxdomain")


@given(STEPS, OWNERS, st.lists(RULES, min_size=1, max_size=2))
def test_what_an_owner_adds_and_removes_leaves_the_others_as_they_were(steps, owner, rules) -> None:
    others = [step for step in steps if step[0] != owner]
    made, without = book(*others), book(*others)
    made.set(owner, rules)
    made.set(owner, [])
    assert made.encode() == without.encode()


@given(STEPS, st.sampled_from(["A", "AAAA"]))
def test_the_line_says_all_of_it(steps, qtype) -> None:
    made = book(*steps)
    again = decode(made.encode())
    assert again.wrong("app.internal", qtype) == made.wrong("app.internal", qtype)
    assert again.encode() == made.encode()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "Expecting value"),
        ("[]", "not rules"),
        ('{"a": [{"colour": "red"}]}', "not rules"),
        ('{"a": [{"answer": "shrug"}]}', "no such answer: 'shrug'"),
        ('{"a": [7]}', "not rules"),
    ],
)
def test_what_is_no_line_of_rules_is_refused(line, why) -> None:
    with pytest.raises(ValueError, match=why):
        decode(line)
