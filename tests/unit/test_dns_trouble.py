"""DNS faults as a timeline, and what HAProxy's model says that users see of them."""

from __future__ import annotations

import pytest

from chaosd.analysis.dns_trouble import met
from chaosd.dns.presets import PRESETS
from chaosd.dns.rules import Rule
from chaosd.history.cycles import Prediction
from chaosd.history.deeds import Done, FaultDns, RestoreDns
from chaosd.history.events import Event, FaultBegan
from chaosd.plugins.dns_trouble import disturbed, meaning, rules_of, trouble
from chaosd.plugins.simulation import Reply, together
from chaosd.plugins.timeline import ALWAYS, NEW, OLD, Failure, Timeline, Unreached, move
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.config import settings_of
from chaosd.proxies.haproxy.model.predicting import predict
from chaosd.proxies.haproxy.model.settings import Settings

FAILS = {
    Failure.NXDOMAIN: ("nxdomain", "nxdomain-soa"),
    Failure.SERVFAIL: ("servfail",),
    Failure.REFUSED: ("refused",),
    Failure.EMPTY: ("empty", "alias-dangling", "alias-loop"),
    Failure.ERROR: ("formerr", "notimp", "badvers"),
    Failure.TRUNCATED: ("truncated", "truncated-with-records"),
    Failure.DAMAGED: ("cut", "noise", "name-loop", "long-label", "two-questions"),
    Failure.SILENCE: ("silence", "closed", "wrong-id", "other-port", "oversize"),
}
USUAL = ("rotation", "duplicates", "alias-chain", "stray", "ttl-0", "trailing-bytes", "twice")
UNKNOWN = ("stale", "flap", "nobody", "many", "capitals", "spoofed", "srv-port", "a-query")
HOLDS = dict.fromkeys(("nx", "refused", "timeout", "other"), "2s")


def timeline(name: str, *, seconds: float = 6.0, nameservers: int = 1, replicas: int = 1):
    rules = PRESETS[name].rules
    times = {"begins_s": 0.0, "ends_s": seconds, "took_s": 0.0}
    return trouble(rules, replicas=replicas, nameservers=nameservers, **times)


def settings(prefers="ipv4", **times) -> Settings:
    resolvers = {"timeout_resolve": "1s", "timeout_retry": "500ms", "resolve_retries": 2}
    config = HAProxy.Config.model_validate(
        {
            "type": "haproxy",
            "resolvers": resolvers | {"hold": HOLDS} | times,
            "server": {"resolve_prefer": prefers},
        }
    )
    return settings_of(config)


def foreseen(name: str, *, version: str = "3.0.11", prefers="ipv4", nameservers=1, **times):
    happens = timeline(name, nameservers=nameservers)
    return predict(settings(prefers, **times), version, happens)


@pytest.mark.parametrize("failure", FAILS)
def test_what_fails(failure) -> None:
    for name in FAILS[failure]:
        assert meaning(PRESETS[name].rules[0]).failure is failure, name


def test_what_is_as_usual_and_what_is_not_known() -> None:
    for name in USUAL:
        assert timeline(name).names == timeline("rotation").names, name
    for name in UNKNOWN:
        assert timeline(name) is Unreached.OTHER_ANSWERS, name


def test_a_timeline_goes_back_to_what_it_was() -> None:
    found = timeline("silent-aaaa", replicas=2)
    assert isinstance(found, Timeline)
    assert found.answer(ALWAYS, "A") == found.answer(3.0, "A") == ("app1", "app2")
    assert found.answer(3.0, "AAAA") is Failure.SILENCE
    assert found.answer(6.0, "AAAA") is Failure.EMPTY


def test_one_of_several_nameservers() -> None:
    found = timeline("one-servfail", nameservers=2)
    assert found.answer(3.0, "A", 0) is Failure.SERVFAIL
    assert found.answer(3.0, "A", 1) == ("app1",)
    rules = rules_of(preset="nxdomain", answer=None, delay_s=0.0, qtype=None, nameserver=2)
    assert [rule.nameserver for rule in rules] == [1]


def test_several_nameservers_together() -> None:
    valid, slow = Reply(("a",), 5), Reply(("b",), 9)
    nx, fails, silent = (
        Reply(Failure.NXDOMAIN, 2),
        Reply(Failure.SERVFAIL, 7),
        Reply(Failure.SILENCE),
    )
    assert together([nx, slow, valid]) == valid  # the first that has an address
    assert together([nx, fails]) == fails  # the last failure
    assert together([nx, silent]) == nx._replace(partial=True)  # not all have answered
    assert together([silent, silent]).answer is Failure.SILENCE


@pytest.mark.parametrize("version", ["2.2.9", "2.6.12", "3.4.7"])
@pytest.mark.parametrize("name", ["nxdomain", "truncated", "silence", "refused"])
def test_an_outage_that_begins_once_the_hold_is_over(name, version) -> None:
    found = foreseen(name, version=version)
    assert found.unaffected_share == 0
    # Poll of 1 s, hold of 2 s, 6 s of trouble: down from 2 to 3 s on, up with the next poll.
    assert 2.5 < found.failed_s["lower"] <= found.failed_s["mean"] <= found.failed_s["upper"] < 5.5
    assert 5.8 < found.lower_s < found.mean_s < found.upper_s < 7.5


@pytest.mark.parametrize("name", ["nxdomain", "silence"])
def test_a_hold_longer_than_the_trouble_leaves_users_unaffected(name) -> None:
    found = foreseen(name, hold=dict.fromkeys(HOLDS, "30s"))
    assert (found.unaffected_share, found.upper_s) == (1.0, 0.0)


def test_the_hold_of_this_failure_counts() -> None:
    holds = {"nx": "30s", "refused": "2s", "timeout": "30s", "other": "30s"}
    assert foreseen("refused", hold=holds).unaffected_share == 0
    assert foreseen("nxdomain", hold=holds).unaffected_share == 1


def test_one_bad_nameserver_of_two_harms_nobody_and_both_do() -> None:
    for name in ("one-silent", "one-closed", "one-nxdomain", "one-slow"):
        assert foreseen(name, nameservers=2).unaffected_share == 1, name
    assert foreseen("silence", nameservers=2).unaffected_share == 0


def test_silence_of_aaaa_harms_who_asks_for_it_first() -> None:
    assert foreseen("silent-aaaa").unaffected_share == 1
    assert foreseen("silent-aaaa", prefers="ipv6").unaffected_share == 0
    assert foreseen("servfail-aaaa", prefers="ipv6").unaffected_share == 1


def test_some_answers_lost() -> None:
    assert foreseen("lossy").unaffected_share == 1  # each third, and it asks twice
    assert 0 < foreseen("route53-throttle").unaffected_share < 1


def test_late_answers() -> None:
    assert foreseen("slow").unaffected_share == 1  # before it asks again
    assert foreseen("later-than-retry").unaffected_share == 0  # when nobody waits any more
    waits = {"resolve_retries": 5}
    assert foreseen("later-than-retry", **waits).unaffected_share == 1
    late = foreseen("later-than-retry", prefers="ipv6", **waits)
    assert late is Unreached.SLOW_NAMESERVER


def test_the_trouble_of_a_cycle_is_read_from_its_events() -> None:
    def at(at_ns: int, what) -> Event:
        return Event(at_ns=at_ns, cell="c", cycle=1, what=what)

    began = FaultBegan(
        fault="dns", kind="dns", old=None, old_ip=None, new=None, new_ip=None, t0_unix=0.0
    )
    deed = FaultDns(preset="servfail", nameserver=2)
    events = [
        at(10_000_000_000, began),
        at(10_500_000_000, Done(deed=deed)),
        at(13_000_000_000, Done(deed=RestoreDns())),
    ]
    found = met(events, replicas=1, dns_s=0.1, nameservers=2)
    assert found.answer(0.4, "A", 1) == ("app1",)
    assert found.answer(0.5, "A", 1) is Failure.SERVFAIL
    assert found.answer(1.0, "A", 0) == ("app1",)
    assert found.answer(3.0, "A", 1) == ("app1",)
    assert {edge.took_s for edge in found.names} == {0.1}
    assert met(events[:2], replicas=1, dns_s=0.0) is Unreached.OTHER_TIMELINE  # cut off


def test_answer_and_delay_without_a_preset() -> None:
    means = meaning(Rule(answer="refused", delay_s=0.2))
    assert (means.failure, means.late_s) == (Failure.REFUSED, 0.2)


def test_a_prediction_of_no_trouble_says_so() -> None:
    assert isinstance(foreseen("rotation"), Prediction)


MOVED = move(published_s=1.0, listening_s=1.0, missing_s=0.0, missing="nxdomain", old_ip="refuse")


def answers(timeline: Timeline, *instants: float) -> list:
    return [timeline.answer(at_s, "A") for at_s in instants]


def test_a_move_with_trouble_goes_on_beneath_it() -> None:
    servfail = rules_of(preset=None, answer="servfail", delay_s=0.0, qtype=None, nameserver=None)
    found = disturbed(MOVED, servfail, begins_s=-0.5, ends_s=0.5)
    assert isinstance(found, Timeline)
    assert answers(found, -1, -0.5, 0.2) == [(OLD,), Failure.SERVFAIL, Failure.SERVFAIL]
    assert answers(found, 0.5, 1.0) == [Failure.NXDOMAIN, (NEW,)]
    assert found.undisturbed == MOVED
    late = rules_of(preset=None, answer=None, delay_s=0.2, qtype="AAAA", nameserver=None)
    both = disturbed(found, late, begins_s=0.0, ends_s=2.0)
    assert isinstance(both, Timeline)
    assert both.undisturbed == MOVED
    assert both.names_of("A") == found.names_of("A")
    assert [e.took_s for e in both.names_of("AAAA") if e.answer is Failure.SERVFAIL][-1] == 0.2
    assert both.answer(1.5, "AAAA") is both.answer(2.0, "AAAA") is Failure.EMPTY


def test_of_one_nameserver_of_several_no_move_is_told() -> None:
    """One that fails does not make the other one fail."""
    for number in (1, 2):
        rules = rules_of(preset="servfail", answer=None, delay_s=0.0, qtype=None, nameserver=number)
        found = disturbed(MOVED, rules, begins_s=0.0, ends_s=1.0)
        assert found is Unreached.SEVERAL_NAMESERVERS


def test_what_is_counted_or_not_known_is_no_move_that_can_be_told() -> None:
    for preset in ("lossy", "nobody"):
        rules = PRESETS[preset].rules
        assert disturbed(MOVED, rules, begins_s=0.0, ends_s=1.0) is Unreached.OTHER_ANSWERS


@pytest.mark.parametrize(("ends_s", "first_s"), [(0.9, 1.0), (3.0, 3.0)])
def test_a_move_is_found_when_answers_are_right_again(ends_s, first_s) -> None:
    happens = disturbed(MOVED, PRESETS["servfail"].rules, begins_s=0.1, ends_s=ends_s)
    found = predict(settings(), "3.0.11", happens)
    assert isinstance(found, Prediction)
    assert first_s - 0.2 < found.lower_s < first_s + 0.1
    assert first_s + 0.9 < found.upper_s < first_s + 1.5


def test_what_comes_after_the_recovery_makes_a_relapse() -> None:
    """The hold is over before the answers are right again: the server loses its address."""
    rules = PRESETS["nxdomain"].rules
    found = predict(settings(), "3.0.11", disturbed(MOVED, rules, begins_s=4.0, ends_s=9.0))
    assert isinstance(found, Prediction)
    assert found.upper_s < 3
    assert found.relapse_share == 1
    assert found.stable_mean_s > 9
