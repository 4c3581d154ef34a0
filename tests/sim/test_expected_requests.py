"""What a run predicts of its requests, beside what they came to, in whole simulated runs."""

from __future__ import annotations

import budget
import pytest

from chaosd import report
from chaosd.analysis.expected_requests import expected, surprises
from chaosd.history.cycles import CycleOutcome
from chaosd.history.events import NamePublished

PROXIES = [
    {"type": "haproxy"},
    {"type": "haproxy", "redispatch": 1, "retries": 2},
    {"type": "haproxy", "retries": 0, "resolvers": {"hold": {"obsolete": "2s"}}},
]


MANNERS = ("refuse", "imposter", "blackhole", "tarpit")
# Each time every manner, and every proxy; all of them together in make test-long.
TOGETHER = [
    pytest.param(proxy, manner, marks=() if (a - b) % len(PROXIES) == 0 else pytest.mark.slow)
    for a, proxy in enumerate(PROXIES)
    for b, manner in enumerate(MANNERS)
]


@pytest.mark.sized
@pytest.mark.parametrize(("proxy", "manner"), TOGETHER)
def test_requests_come_to_what_is_predicted(simulate, proxy, manner) -> None:
    faults = [{"type": "recreate", "every": "9s", "old_ip": manner}]
    probes = [{"type": "http", "rate": "50/s", "timeout": "4s"}]
    ran = simulate(faults=faults, proxy=proxy, probes=probes, until={"cycles": budget.of(4, 30)})
    recovered = [c for c in ran.cycles if c.outcome is CycleOutcome.RECOVERED]
    assert len(recovered) > 3
    for cycle in recovered:
        assert {*expected(cycle)} == {"failed", "misrouted", "masked"}
        assert not surprises(cycle), (cycle.failed, cycle.misrouted, expected(cycle))
    lost = "misrouted" if manner == "imposter" else "failed"
    found = ran.report["total"]["expected"][lost]
    assert found["n"] == found["inside"]["count"] == len(recovered)
    assert found["observed_mean"] == pytest.approx(found["predicted_mean"], rel=0.5, abs=10)


def test_more_apps_than_one_share_what_is_lost(simulate) -> None:
    faults = [{"type": "recreate", "every": "9s"}]
    ran = simulate(faults=faults, app={"replicas": 3}, until={"cycles": 5})
    for cycle in ran.cycles:
        assert not surprises(cycle), (cycle.failed, expected(cycle))
    found = report.analyse(ran.directory).report.total.expected["failed"]
    assert found.predicted_mean == pytest.approx(found.observed_mean, rel=0.5, abs=5)
    assert "predicted requests: failed, mean of a cycle: predicted" in ran.said


@pytest.mark.parametrize("manner", ["refuse", "blackhole"])
def test_a_stale_name_of_several_instances_lists_the_lost_one_until_its_successor_is_there(
    simulate, manner
) -> None:
    faults = [{"type": "recreate", "every": "14s", "old_ip": manner, "gap": "3s"}]
    proxy = {"type": "haproxy", "server": {"check": False}}
    stale = {"missing": "stale"}
    ran = simulate(faults=faults, dns=stale, proxy=proxy, app={"replicas": 2}, until={"cycles": 3})
    assert len([c for c in ran.cycles if c.outcome is CycleOutcome.RECOVERED]) == len(ran.cycles)
    answers = [e for e in ran.events if isinstance(e.what, NamePublished)]
    for cycle in ran.cycles:
        (answer,) = [e.what.ips for e in answers if cycle.t0_ns <= e.at_ns <= cycle.end_ns]
        assert len(answer) == 2
        assert cycle.new_ip in answer
        assert cycle.old_ip not in answer
        assert cycle.recovery_s > 3
        # Half of the requests go to the lost one: three seconds long, and until the next poll.
        assert cycle.failed + cycle.masked > 50
        assert not surprises(cycle), (cycle.failed, expected(cycle))
