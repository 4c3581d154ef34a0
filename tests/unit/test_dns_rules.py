"""The rules of a nameserver: which one applies, several owners at once, and their line."""

from __future__ import annotations

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.dns.presets import PRESETS
from chaosd.dns.rules import Rule, RuleBook, Wrong, decode, does
from chaosd.dns.spoiling import spoil

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


class _Same:
    """Equal to a Wrong of this answer and delay, however many questions were asked."""

    def __init__(self, answer: str | None, delay_s: float) -> None:
        self.wanted = answer, delay_s

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrong) and (other.answer, other.delay_s) == self.wanted

    __hash__ = None  # type: ignore[assignment]


def wrong(answer: str | None = None, delay_s: float = 0.0) -> _Same:
    return _Same(answer, delay_s)


def test_a_rule_selects_by_name_and_type() -> None:
    rule = Rule(answer="servfail", qtype="AAAA", name="app.internal")
    made = book(("a", [rule]))
    assert made.wrong("App.Internal", "AAAA") == wrong(answer="servfail")
    assert made.wrong("app.internal", "A") is None
    assert made.wrong("other.internal", "AAAA") is None


def test_the_first_rule_of_an_owner_that_selects_it_applies() -> None:
    made = book(("a", [Rule(qtype="A"), Rule(answer="drop")]))
    assert made.wrong("x", "A") == wrong()  # an exception from the second one
    assert made.wrong("x", "AAAA") == wrong(answer="drop")


def test_two_owners_are_taken_together() -> None:
    fails, slow = Rule(answer="servfail", qtype="AAAA"), Rule(delay_s=0.2)
    made = book(("fails", [fails]), ("slow", [slow]))
    assert made.wrong("x", "AAAA") == wrong(answer="servfail", delay_s=0.2)
    assert made.wrong("x", "A") == wrong(delay_s=0.2)
    made.set("fails", [])
    assert made.wrong("x", "AAAA") == wrong(delay_s=0.2)
    made.set("slow", [])
    assert made.wrong("x", "AAAA") is None
    assert len(made) == 0


def test_of_two_answers_it_is_that_of_the_owner_who_came_last() -> None:
    made = book(("a", [Rule(answer="nxdomain")]), ("b", [Rule(answer="drop")]))
    assert made.wrong("x", "A") == wrong(answer="drop")
    made.set("a", [Rule(answer="nxdomain")])  # set anew: now it is the last
    assert made.wrong("x", "A") == wrong(answer="nxdomain")


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
    fresh = book(*steps)
    assert again.wrong("app.internal", qtype) == fresh.wrong("app.internal", qtype)
    assert again.encode() == made.encode()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "Expecting value"),
        ("[]", "not rules"),
        ('{"a": [{"colour": "red"}]}', "not rules"),
        ('{"a": [{"answer": "shrug"}]}', "no such answer: 'shrug'"),
        ('{"a": [7]}', "not rules"),
        ('{"a": [{"does": [{"kind": "silence"}]}]}', "not rules"),
    ],
)
def test_what_is_no_line_of_rules_is_refused(line, why) -> None:
    with pytest.raises(ValueError, match=why):
        decode(line)


def test_each_nth_question_and_a_share_by_chance() -> None:
    made = book(("a", [Rule(answer="drop", every=3)]))
    assert [made.wrong("x", "A") is not None for _ in range(6)] == [False, False, True] * 2
    made = book(("a", [Rule(answer="drop", share=0.25)]))
    taken = sum(made.wrong("x", "A") is not None for _ in range(1000))
    assert 200 < taken < 300


def test_a_rule_selects_by_transport_and_counts_what_it_selects() -> None:
    cut = does("bytes", cut=0.5)
    made = book(("a", [Rule(transport="tcp", does=(cut,))]))
    assert made.wrong("x", "A", "udp", now_ns=5) is None
    assert made.wrong("x", "A", "tcp", now_ns=7) == Wrong(
        does=(cut,), asked=1, since_ns=7, seed="a 0 1"
    )
    assert made.wrong("x", "A", "tcp", now_ns=9) == Wrong(
        does=(cut,), asked=2, since_ns=7, seed="a 0 2"
    )


def test_a_rule_selects_one_of_several_nameservers() -> None:
    made = book(("a", [Rule(nameserver=1, answer="drop", every=2)]))
    asked = [made.wrong("x", "A", "udp", number) for number in (0, 1, 0, 1)]
    assert [found is not None for found in asked] == [False, False, False, True]


def test_the_line_keeps_actions_with_their_parameters() -> None:
    rule = Rule(does=(does("addresses", only=("0.0.0.0", "::")), does("repeat", times=3)))
    assert decode(book(("a", [rule])).encode()).rules == (rule,)


def test_another_fault_does_not_begin_the_counts_of_this_one_anew() -> None:
    lossy = Rule(does=(does("silence"),), every=3)
    made = book(("a", [lossy]))
    assert made.wrong("x", "A") is None
    made.take_over(decode(book(("a", [lossy]), ("b", [Rule(delay_s=0.5)])).encode()))
    assert [made.wrong("x", "A").does != () for _ in range(3)] == [False, True, False]
    made.take_over(decode(book(("a", [Rule(answer="drop")])).encode()))
    assert made.wrong("x", "A") == wrong(answer="drop")
    made.take_over(decode("{}"))
    assert len(made) == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("alias-chain", "srv-weights"),
        ("stray", "srv-port"),
        ("cut", "two-questions"),
        ("noise", "name-loop"),
        ("cut", "wrong-id"),
        *((name, "spoofed") for name in ("cut", "noise", "no-question", "oversize", "name-loop")),
    ],
)
def test_faults_of_two_owners_go_together_whatever_each_makes_of_the_answer(first, second) -> None:
    """Found by all pairs: what raised there left the question without an answer."""
    for actions in ((first, second), (second, first)):
        rules = [rule for name in actions for rule in PRESETS[name].rules]
        does_ = tuple(each for rule in rules for each in rule.does)
        for name, kind, record in (
            ("app.", "A", "192.0.2.7"),
            ("_x._tcp.app.", "SRV", "0 1 80 ip.app."),
        ):
            query = dns.message.make_query(name, kind)
            for records in ((), (record,)):
                response = dns.message.make_response(query)
                if records:
                    response.answer = [dns.rrset.from_text(name, 0, "IN", kind, *records)]
                seed = Wrong(does=does_, seed="1")
                sent = spoil(query, response, "udp", seed, now_ns=0)
                assert sent
                if "spoofed" in actions and kind == "A":
                    (lie,) = [each for each in sent if each.way == "other-port"]
                    forged = dns.message.from_wire(lie.wire)
                    assert forged.id == query.id
                    assert [r.to_text() for each in forged.answer for r in each] == ["192.0.2.1"]


def test_what_is_left_to_chance_is_another_one_in_each_cycle() -> None:
    """With one seed for all, every cycle of a run, and of any other, lost the same answers."""

    def lost(seed: str) -> list[bool]:
        made = book(("dns", [Rule(share=0.5, seed=seed)]))
        return [made.wrong("x", "A") is not None for _ in range(40)]

    assert lost("7 c1 1") == lost("7 c1 1")
    assert len({tuple(lost(f"7 c1 {cycle}")) for cycle in range(20)}) == 20
