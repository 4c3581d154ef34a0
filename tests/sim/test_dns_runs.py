"""DNS faults where nothing moves: what is predicted of them, and what then happens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaosd.history.cycles import CycleOutcome
from chaosd.history.events import NameAnswered, only
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.config import settings_of
from chaosd.proxies.haproxy.model.predicting import predict
from chaosd.proxies.haproxy.model.settings import Holds

HOLDS = dict.fromkeys(("nx", "refused", "timeout", "other"), "2s")
RESOLVERS = {"timeout_resolve": "1s", "timeout_retry": "500ms", "resolve_retries": 2}
PROXY = {"type": "haproxy", "resolvers": RESOLVERS | {"hold": HOLDS}}


def trouble(preset: str, **values) -> list[dict]:
    return [{"type": "dns", "preset": preset, "window": "6s", "every": "12s"} | values]


@pytest.mark.parametrize("preset", ["truncated", "silence"])
def test_an_outage_is_predicted_and_comes(simulate, preset) -> None:
    ran = simulate(faults=trouble(preset), proxy=PROXY, until={"cycles": 4})
    assert ran.code == 0
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.RECOVERED] * 4
    for cycle in ran.cycles:
        assert cycle.predicted.unaffected_share == 0
        assert cycle.anomaly is False
        low_s, high_s = (cycle.predicted.failed_s[end] for end in ("lower", "upper"))
        assert low_s - 0.02 <= cycle.outage_loss_s <= high_s + 0.02
    assert "(predicted: an outage of " in ran.said
    assert "DNS faults: 4 of 4 cycles were as predicted" in ran.said
    band = ran.report["total"]["trouble_in_band"]
    assert (band["count"], band["n"]) == (4, 4)


def test_chance_is_another_one_in_each_cycle_and_cell_and_is_repeated_by_the_seed(
    simulate, monkeypatch
) -> None:
    from chaosd.runtimes.sim import SimStage

    seeds: list[str] = []
    answer_by = SimStage.answer_by

    async def noted(self, rules, owner="") -> None:
        seeds.extend(rule.seed for rule in rules)
        await answer_by(self, rules, owner)

    monkeypatch.setattr(SimStage, "answer_by", noted)
    found = []
    for _ in range(2):
        seeds.clear()
        ran = simulate(
            faults=trouble("lossy-by-chance"), proxy=PROXY, cells=2, seed=3, until={"cycles": 3}
        )
        assert ran.code == 0
        assert len({*seeds}) == len(seeds) == 6
        found.append([*seeds])
    assert found[0] == found[1]


def test_one_of_two_nameservers_harms_nobody(simulate) -> None:
    dns = {"nameservers": 2}
    ran = simulate(faults=trouble("one-servfail"), dns=dns, proxy=PROXY, until={"cycles": 3})
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.UNAFFECTED] * 3
    assert all(c.anomaly is False for c in ran.cycles)
    assert "users unaffected (predicted: users unaffected)" in ran.said
    told = {(e.what.nameserver, e.what.rcode) for e in only(ran.events, NameAnswered)}
    assert {(1, "SERVFAIL"), (2, "NOERROR")} <= told
    assert (2, "SERVFAIL") not in told
    assert ran.report["total"]["trouble_in_band"]["count"] == 3


def test_what_was_not_predicted_is_an_anomaly(simulate, monkeypatch) -> None:
    """The prediction is told of holds that the proxy does not have."""
    names = ("valid", "obsolete", "nx", "refused", "timeout", "other")
    long_ns = 3600 * 10**9

    def patient(self, met, clients):
        holds = Holds(**dict.fromkeys([f"{name}_ns" for name in names], long_ns))
        return predict(replace(settings_of(self.config), holds=holds), "3.0.11", met)

    monkeypatch.setattr(HAProxy, "predict", patient)
    ran = simulate(faults=trouble("refused"), proxy=PROXY, until={"cycles": 2})
    assert [c.predicted.unaffected_share for c in ran.cycles] == [1.0, 1.0]
    assert all(c.anomaly for c in ran.cycles)
    assert "2 cycles outside of the predicted band" in ran.said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"preset": "one-silent"}, "`dns` is about one of 2 nameservers (set dns.nameservers"),
        ({"preset": "silence", "nameserver": 3}, "is about one of 3 nameservers"),
    ],
)
def test_a_fault_of_one_nameserver_needs_as_many(simulate, values, said) -> None:
    ran = simulate(faults=[{"type": "dns", "window": "2s", "every": "9s"} | values])
    assert ran.code == 2
    assert said in ran.said


def test_what_a_simulated_nameserver_cannot_spoil_is_refused(simulate) -> None:
    ran = simulate(faults=trouble("nobody"), until={"cycles": 1})
    assert ran.code == 4
    assert "has no messages to spoil so" in ran.said


def test_a_simulated_proxy_asks_no_cache(simulate) -> None:
    ran = simulate(dns={"cache": "unbound"})
    assert ran.code == 2
    assert "the simulated proxy asks no unbound" in ran.said
