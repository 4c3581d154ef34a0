"""Faults that come together in one cycle: begun at their times, undone whatever happens."""

from __future__ import annotations

import contextlib
import json

import budget
import pytest

from chaosd.analysis.expected_requests import surprises
from chaosd.history.causes import CauseKind
from chaosd.history.cycles import CycleKind, CycleOutcome
from chaosd.history.deeds import Asked, Done, FaultDns, RestoreDns
from chaosd.history.events import FaultEnded, only
from chaosd.plan import combinations
from chaosd.report import words

SERVFAIL = {"type": "dns", "answer": "servfail", "at": "200ms", "window": "2s"}
SLOW = {"type": "dns", "name": "slow", "delay": "100ms", "at": "-500ms", "window": "3s"}


def with_(*others, kind: str = "recreate", **keys) -> list[dict]:
    return [{"type": kind, "every": "12s", "with": list(others), **keys}]


def test_each_comes_and_goes_at_its_time(simulate) -> None:
    ran = simulate(faults=with_(SERVFAIL, SLOW), until={"cycles": 3})
    assert ran.code == 0
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.RECOVERED] * 3
    for cycle in ran.cycles:
        assert cycle.fault == "recreate+dns+slow"
        assert cycle.kind is CycleKind.FAILOVER
        assert cycle.predicted is not None
        assert cycle.anomaly is False
        slow, move, servfail = cycle.disturbances
        assert (slow.fault, slow.type, slow.data) == ("slow", "dns", {"delay_s": 0.1})
        assert (move.fault, move.type, move.began_s) == ("recreate+dns+slow", "move", 0.0)
        assert move.ended_s is None  # until the observation was over
        assert (servfail.fault, servfail.data["answer"]) == ("dns", "servfail")
        assert slow.began_s == pytest.approx(-0.5, abs=0.01)
        assert servfail.began_s == pytest.approx(0.2, abs=1e-6)
        assert slow.ended_s - slow.began_s == pytest.approx(3.0, abs=1e-6)
        assert servfail.ended_s - servfail.began_s == pytest.approx(2.0, abs=1e-6)
    assert "with slow from -0.50 s to 2.50 s, dns from 0.20 s to 2.20 s" in ran.said
    assert all(c.recovery_s > 2.2 for c in ran.cycles)  # HAProxy could not hear of it before
    ended = [e.what.fault for e in only(ran.events, FaultEnded)]
    assert ended == ["dns", "slow"] * 3


@pytest.mark.sized
def test_what_happens_with_dns_trouble_beside_it_is_predicted(simulate) -> None:
    """Also when it relapses: here the hold is over before the answers are right again."""
    late = {"type": "dns", "answer": "refused", "at": "3s", "window": "5s"}
    hold = {"resolvers": {"hold": {"refused": "2s"}}}
    ran = simulate(
        faults=with_(late), proxy={"type": "haproxy", **hold}, until={"cycles": budget.of(2, 20)}
    )
    for cycle in ran.cycles:
        assert cycle.anomaly is False
        assert cycle.recovery_s < 3
        assert cycle.stable_recovery_s > 8
        assert cycle.predicted.relapse_share == 1
        assert cycle.predicted.stable_mean_s == pytest.approx(cycle.stable_recovery_s, abs=1)
    # The band is made of some trials: one cycle of twenty may lose more or fewer requests.
    assert sum(bool(surprises(cycle)) for cycle in ran.cycles) <= len(ran.cycles) / 10


def test_it_is_observed_until_all_of_it_is_over(simulate) -> None:
    """Though it had recovered and was stable before: what comes late must not go unseen."""
    late = SERVFAIL | {"at": "6s", "window": "3s"}
    plain, ran = simulate(until={"cycles": 2}), simulate(faults=with_(late), until={"cycles": 2})
    assert all(c.recovery_s < 5 and c.lasted_s < 7 for c in plain.cycles)
    assert all(c.recovery_s < 5 and c.lasted_s >= 10 for c in ran.cycles)


def test_the_report_says_offline_what_it_said_online(simulate) -> None:
    from chaosd.cli import main

    ran = simulate(faults=with_(SERVFAIL, SLOW), until={"cycles": 2})
    before = (ran.directory / "report.json").read_text()
    (ran.directory / "report.json").unlink()
    main(["report", str(ran.directory)])
    assert json.loads((ran.directory / "report.json").read_text()) == json.loads(before)
    (ran.directory / "cycles.jsonl").rename(ran.directory / "cycles.bak")
    told = [json.loads(line) for line in (ran.directory / "cycles.bak").read_text().splitlines()]
    (ran.directory / "cycles.jsonl").touch()  # from the events and samples alone
    main(["report", str(ran.directory)])
    again = json.loads((ran.directory / "report.json").read_text())
    assert again["total"]["outcomes"]["recovered"] == len(told)
    assert again["total"]["recovery_s"] == json.loads(before)["total"]["recovery_s"]


def test_two_dns_faults_of_one_cycle_do_not_undo_each_other(simulate) -> None:
    """The main one lasts from 0 to 4 s, the other from 1 to 2 s: then the main one goes on."""
    other = SERVFAIL | {"name": "other", "answer": "refused", "at": "1s", "window": "1s"}
    fault = with_(other, kind="dns", answer="drop", window="4s")
    ran = simulate(
        faults=fault,
        proxy={"type": "haproxy", "resolvers": {"timeout_resolve": "200ms"}},
        until={"cycles": 1},
    )
    [cycle] = ran.cycles
    assert (cycle.kind, cycle.fault) == (CycleKind.DNS, "dns+other")
    answers = [
        ((e.at_ns - cycle.t0_ns) / 1e9, e.what.rcode)
        for e in ran.events
        if type(e.what).__name__ == "NameAnswered" and e.cycle == 1 and e.what.qtype == "A"
    ]
    rcodes = [rcode for at_s, rcode in answers if at_s > 0]
    assert rcodes[:4] == ["", "REFUSED", "", "NOERROR"]
    deeds = [type(e.what.deed) for e in only(ran.events, Done) if e.cycle == 1]
    assert deeds == [FaultDns, FaultDns, RestoreDns, RestoreDns]


def test_one_that_breaks_takes_the_others_with_it(simulate, monkeypatch) -> None:
    from chaosd.errors import MachineError
    from chaosd.faults.dns import Dns

    disturb = Dns.disturb

    @contextlib.asynccontextmanager
    async def broken(self, stage, cycle):
        async with disturb(self, stage, cycle) as what:
            if cycle.number == 2 and cycle.label == "dns":
                raise MachineError("the nameserver is on fire")
            yield what

    monkeypatch.setattr(Dns, "disturb", broken)
    ran = simulate(faults=with_(SERVFAIL, SLOW), until={"cycles": 3})
    assert [c.outcome.value for c in ran.cycles] == ["recovered", "invalid", "recovered"]
    cause = ran.cycles[1].cause
    assert (cause.kind, cause.detail) == (CauseKind.MACHINE, "the nameserver is on fire")
    told = [e.what.deed for e in only(ran.events, Asked) if e.cycle == 2]
    assert sum(isinstance(deed, RestoreDns) for deed in told) == 2
    assert isinstance(told[-1], RestoreDns)  # `slow` was the first: it is undone last


def test_one_that_cannot_be_undone_at_its_window_ends_the_run(simulate, monkeypatch) -> None:
    from chaosd.errors import MachineError
    from chaosd.runtimes.sim import SimStage

    answer_by = SimStage.answer_by

    async def stuck(self, rules, owner="") -> None:
        if not rules and owner == "dns":
            raise MachineError("the nameserver does not listen")
        await answer_by(self, rules, owner)

    monkeypatch.setattr(SimStage, "answer_by", stuck)
    ran = simulate(faults=with_(SERVFAIL, SLOW), until={"cycles": 3})
    assert ran.code == 3
    assert "cycle 1: dns can't be undone: the nameserver does not listen" in ran.said
    assert [c.cause.kind for c in ran.cycles] == [CauseKind.NOT_UNDONE]
    undone = [e.what for e in only(ran.events, Done) if isinstance(e.what.deed, RestoreDns)]
    assert len(undone) == 1  # that of `slow`


@pytest.mark.parametrize(
    ("fault", "lines"),
    [
        (
            with_({"type": "recreate", "name": "second"}),
            ["with[0]: moves the app, as `recreate` does in the same cycle (only one of them can"],
        ),
        (
            with_(SERVFAIL, SERVFAIL),
            ["with[1]: is called `dns`, as another of its cycle is (say a `name:`)"],
        ),
        (
            with_(SERVFAIL, kind="noop"),
            ["with: `noop+dns` is a control fault: with others it would be none"],
        ),
        (
            with_(SERVFAIL | {"window": "1m"}),
            ["with[0]: it ends when the observation may be over: measure.recovery_limit is 1m"],
        ),
        (
            [{"type": "pause", "every": "5m", "window": "60s"}],
            ["window: it ends when the observation may be over: measure.recovery_limit is 1m"],
        ),
    ],
)
def test_what_cannot_go_together_is_refused_beforehand(simulate, fault, lines) -> None:
    ran = simulate(faults=fault)
    assert ran.code == 2
    said = [line for line in ran.said.splitlines() if "faults[0]." in line]
    assert len(said) == len(lines)
    assert all(line in each for line, each in zip(lines, said, strict=True))
    assert all(each.startswith("chaosd: t.yaml:") for each in said)


def test_a_cycle_that_was_over_before_its_fault_says_nothing(simulate, monkeypatch) -> None:
    """Of two instances one answered all the time: "recovered in 59.996 s" while it was paused."""
    monkeypatch.setattr(combinations, "problems", lambda *_: [])
    pause = {"type": "pause", "every": "15s", "window": "8s"}
    quiet = {"type": "dns", "every": "15s", "window": "8s", "delay": "1ms"}
    short = {"measure": {"recovery_limit": "5s"}, "app": {"replicas": 2}}
    for fault in (pause, quiet):
        ran = simulate(faults=[fault], until={"cycles": 4}, **short)
        said = [cycle for cycle in ran.cycles if cycle.outcome is CycleOutcome.INVALID]
        assert {words.reason(cycle) for cycle in said} == {"the fault took more than 5 s"}
        for cycle in ran.cycles:  # if its last probe was bad, it is known to take longer
            assert cycle in said or (cycle.outcome, fault) == (CycleOutcome.CENSORED, pause)


def test_a_command_that_nobody_noticed_is_unaffected_and_no_recovery_of_nothing(simulate) -> None:
    """Beside failovers it moves none of their numbers, and none of their objectives."""
    recreate = {"type": "recreate", "every": "12s"}
    command = {"type": "command", "inject": ["true"], "every": "12s", "name": "harmless"}
    plain = simulate(faults=[recreate], until={"cycles": 2})
    ran = simulate(faults=[recreate, command], until={"cycles": 5}, slo={"recovery_p50": "9s"})
    outcomes = [c.outcome for c in ran.cycles if c.fault == "harmless"]
    assert outcomes
    assert set(outcomes) <= {CycleOutcome.UNAFFECTED, CycleOutcome.SKIPPED}
    quiet = [c for c in ran.cycles if c.outcome is CycleOutcome.UNAFFECTED]
    assert all(c.recovery_s is None and c.failed == 0 and c.outage_loss_s == 0 for c in quiet)
    total = ran.report["total"]
    assert total["undisturbed"] == 0
    assert total["recovery_s"]["n"] == total["failovers"] == total["outcomes"]["recovered"]
    assert total["outcomes"]["unaffected"] == len(quiet) > 0
    assert min(c.recovery_s for c in ran.cycles if c.recovery_s is not None) > 0
    assert plain.report["total"]["outcomes"]["unaffected"] == 0
    assert "users unaffected" in ran.said


def test_a_dns_cycle_that_recovered_is_no_failover_and_has_its_own_numbers(simulate) -> None:
    """No answer at all for longer than `hold.timeout`: HAProxy forgets the address."""
    resolvers = {"timeout_resolve": "200ms", "timeout_retry": "200ms"}
    resolvers |= {"hold": {"valid": "300ms", "timeout": "300ms", "other": "300ms"}}
    silence = {"type": "dns", "answer": "drop", "window": "4s", "every": "12s"}
    ran = simulate(
        faults=[{"type": "recreate", "every": "12s"}, silence],
        proxy={"type": "haproxy", "resolvers": resolvers},
        until={"cycles": 6},
        slo={"recovery_p50": "9s", "min_cycles": 2, "faults": {"dns": {"recovery_p50": "9s"}}},
    )
    of_dns = [c for c in ran.cycles if c.kind is CycleKind.DNS and c.recovery_s is not None]
    moved = [c for c in ran.cycles if c.kind is CycleKind.FAILOVER and c.recovery_s is not None]
    assert of_dns
    assert moved
    total, own = ran.report["total"], ran.report["faults"]["dns"]
    assert total["outcomes"]["dns"] == len(of_dns)
    assert total["failovers"] == total["recovery_s"]["n"] == len(moved)
    assert own["recovery_s"]["n"] == own["outcomes"]["recovered"] == len(of_dns)
    assert own["recovery_s"]["max"] == pytest.approx(max(c.recovery_s for c in of_dns))
    wanted = {o["name"]: o["n"] for o in ran.report["objectives"]}
    assert wanted == {"recovery_p50": len(moved), "dns: recovery_p50": len(of_dns)}
    assert f"(and {len(of_dns)} of DNS" in ran.said
    assert "all failovers" in (ran.directory / "report.md").read_text()


def test_a_run_of_before_keeps_its_numbers(simulate) -> None:
    """Its settings say by which rules it was judged: none is asked for those that came later."""
    from chaosd.cli import main

    command = {"type": "command", "inject": ["true"], "every": "6s"}
    ran = simulate(faults=[command], until={"cycles": 3})
    manifest = ran.directory / "run.json"
    told = json.loads(manifest.read_text())
    for settings in (told["settings"], *(arm["settings"] for arm in told["arms"].values())):
        assert settings.pop("definitions") == 2
    manifest.write_text(json.dumps(told))
    (ran.directory / "cycles.jsonl").write_text("")  # measured anew from its events and samples
    main(["report", str(ran.directory)])
    total = ran.report["total"]
    assert total["outcomes"]["recovered"] == total["undisturbed"] == 3
    assert total["recovery_s"]["max"] == 0
