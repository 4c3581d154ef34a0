"""chaosd's DNS in front of Docker's: what the proxy asks is seen, and answered as configured."""

from __future__ import annotations

import budget
import pytest
import stored
from stand import left_of

from chaosd.history.cycles import CycleOutcome

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

RESOLVERS = {"timeout_resolve": "200ms", "timeout_retry": "200ms", "hold": {"other": "10s"}}


@pytest.mark.sized
def test_the_proxys_questions_are_seen_and_a_missing_name_is_answered_as_configured(
    engine, daemon, tmp_path
):
    run = daemon(
        tmp_path,
        *("--cycles", str(count := budget.of(2, 3))),
        runtime={"type": "docker", "dns": "forward"},
        dns={"missing": "servfail", "delay": "20ms"},
        proxy={"type": "haproxy", "resolvers": RESOLVERS},
    )
    assert run.wait() == 0, run.err
    recovered = [cycle for cycle in run.cycles if cycle.outcome == CycleOutcome.RECOVERED]
    assert len(recovered) == count
    readings = [event for event in stored.lines(run.events) if event.source == "dns"]
    answers = [event.data for event in readings if event.what == "answer"]
    for cycle in recovered:
        new = cycle.new_ip.rpartition(":")[0] or cycle.new_ip
        assert any(answer["ips"] == [new] for answer in answers)
    # An AAAA of the gap may be asked when the name is back: that is NOERROR without an address.
    gaps = [a["rcode"] for a in answers if not a["ips"] and a["qtype"] == "A"]
    assert gaps
    assert set(gaps) == {"SERVFAIL"}
    assert min(answer["took_ns"] for answer in answers) >= 20_000_000
    # What it counted is what HAProxy says that it has sent. Not every count is stored: HAProxy's is
    # between the ones before and after it.
    counts = [(event.at_ns, event.data["count"]) for event in readings if event.what == "queries"]
    for event in stored.lines(run.events):
        if event.what != "resolvers":
            continue
        sent = event.data["counters"]["dns"]["sent"]
        before = [count for at_ns, count in counts if at_ns <= event.at_ns]
        after = [count for at_ns, count in counts if at_ns > event.at_ns]
        least, most = max(before, default=0), min(after, default=max(before, default=sent))
        assert least - 2 <= sent <= most + 2
    assert left_of(engine, run.run_id) == []


@pytest.mark.slow  # on local each time
def test_one_of_two_nameservers_fails_and_the_other_one_is_believed(engine, daemon, tmp_path):
    run = daemon(
        tmp_path,
        *("--cycles", "1"),
        runtime={"type": "docker", "dns": "forward"},
        dns={"nameservers": 2},
        proxy={"type": "haproxy", "resolvers": RESOLVERS},
        faults=[{"type": "dns", "preset": "one-servfail", "window": "3s", "every": "9s"}],
    )
    assert run.wait() == 0, run.err
    assert [cycle.outcome for cycle in run.cycles] == [CycleOutcome.UNAFFECTED]
    assert [cycle.anomaly for cycle in run.cycles] == [False]
    readings = [event for event in stored.lines(run.events) if event.source == "dns"]
    answers = [event.data for event in readings if event.what == "answer"]
    told = {(answer["nameserver"], answer["rcode"]) for answer in answers}
    assert told == {(1, "NOERROR"), (1, "SERVFAIL"), (2, "NOERROR")}
    assert left_of(engine, run.run_id) == []
