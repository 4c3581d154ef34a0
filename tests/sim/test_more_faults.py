"""Whole runs of the faults that are no plain move, in the simulated world."""

from __future__ import annotations

import json

import pytest

from chaosd.cli import main
from chaosd.history.cycles import CycleKind, CycleOutcome
from chaosd.history.deeds import Asked, RestoreInstance
from chaosd.history.events import only

FAST = {
    "type": "haproxy",
    "resolvers": {"timeout_resolve": "400ms", "timeout_retry": "200ms"},
    "server": {"inter": "500ms"},
    "timeouts": {"server": "2s"},
}


CYCLES = 2


def cycles_of(simulate, fault, **keys):
    """A few cycles of this fault."""
    faults = [{"every": "14s"} | fault]
    ran = simulate(faults=faults, proxy=FAST, until={"cycles": CYCLES}, **keys)
    assert ran.code == 0, ran.said
    assert [c.cause for c in ran.cycles] == [None] * CYCLES
    return ran


def test_what_the_old_one_answers_after_the_switch_is_misrouted(simulate) -> None:
    ran = cycles_of(simulate, {"type": "bluegreen", "keep": "3s"})
    for cycle in ran.cycles:
        assert cycle.kind is CycleKind.FAILOVER
        assert cycle.outcome is CycleOutcome.RECOVERED
        assert cycle.lasted_s >= 4  # as long as the old one lives, and until it is calm
        assert not cycle.failed
        # One request each 20 ms went there, from the switch until HAProxy had the new address.
        assert cycle.misrouted == pytest.approx(cycle.recovery_s * 50, abs=2)
        assert cycle.reused == 0
        assert cycle.predicted is not None
        assert cycle.anomaly is False


def test_the_report_says_offline_what_it_said_online_of_retired_instances(simulate) -> None:
    ran = cycles_of(simulate, {"type": "bluegreen", "keep": "1s"})
    told = ran.report
    (ran.directory / "report.json").unlink()
    (ran.directory / "cycles.jsonl").write_text("")
    main(["report", str(ran.directory)])
    again = json.loads((ran.directory / "report.json").read_text())
    assert told["total"]["misrouted"]
    for name in ("misrouted", "recovery_s", "outcomes"):
        assert again["total"][name] == told["total"][name]


@pytest.mark.parametrize("kind", ["pause", "hang", "partition"])
def test_an_instance_that_does_not_answer_is_no_failover(simulate, kind) -> None:
    ran = cycles_of(simulate, {"type": kind, "window": "3s"})
    for cycle in ran.cycles:
        assert cycle.kind is CycleKind.IN_PLACE
        assert cycle.outcome is CycleOutcome.RECOVERED
        assert cycle.recovery_s >= 3
        [span] = cycle.disturbances
        assert (span.type, span.data["how"]) == ("impaired", kind)
        assert span.ended_s == pytest.approx(3.0, abs=1e-6)
        assert cycle.predicted is None
    assert ran.report["total"]["outcomes"][CycleKind.IN_PLACE.value] == CYCLES
    assert ran.report["total"]["outcomes"]["recovered"] == 0
    restored = [e for e in only(ran.events, Asked) if isinstance(e.what.deed, RestoreInstance)]
    assert len(restored) == CYCLES
    assert f"{CYCLES} in place" in ran.said


def test_a_slow_start_has_no_prediction(simulate) -> None:
    ran = cycles_of(simulate, {"type": "slow-start", "cold": "2s"})
    for cycle in ran.cycles:
        assert cycle.recovery_s >= 2
        assert cycle.predicted is None


def test_a_reload_comes_in_the_middle_of_a_move(simulate) -> None:
    with_ = [{"type": "reload", "at": "100ms"}]
    ran = cycles_of(simulate, {"type": "recreate", "gap": "1s", "with": with_})
    for cycle in ran.cycles:
        assert [span.type for span in cycle.disturbances] == ["move", "proxy_renewed"]
        assert cycle.outcome is CycleOutcome.RECOVERED


def test_a_reload_alone_costs_the_look_up(simulate) -> None:
    ran = cycles_of(simulate, {"type": "reload"})
    for cycle in ran.cycles:
        assert cycle.kind is CycleKind.IN_PLACE
        assert cycle.failed < 20


def test_who_scales_up_needs_a_free_slot(simulate) -> None:
    fault = {"type": "scale", "by": 1, "window": "2s"}
    proxy = FAST | {"spare_slots": 1}
    ran = simulate(faults=[fault | {"every": "9s"}], proxy=proxy, until={"cycles": 1})
    [cycle] = ran.cycles
    assert cycle.outcome is CycleOutcome.RECOVERED
    assert cycle.recovery_s < 1
    assert cycle.predicted is None
    limit = {"measure": {"recovery_limit": "4s"}, "until": {"cycles": 1}}
    ran = simulate(faults=[fault | {"every": "9s"}], proxy=FAST, **limit)
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.CENSORED]


def test_who_scales_down_leaves_the_others(simulate) -> None:
    ran = cycles_of(simulate, {"type": "scale", "by": -1, "window": "3s"}, app={"replicas": 3})
    assert {span.data["after"] for cycle in ran.cycles for span in cycle.disturbances} == {2}


def test_rolling_ends_with_the_last_new_one(simulate) -> None:
    ran = cycles_of(simulate, {"type": "rolling", "pause": "500ms"}, app={"replicas": 3})
    for cycle in ran.cycles:
        assert cycle.outcome is CycleOutcome.RECOVERED
        assert cycle.recovery_s > 1  # two pauses, before the last one even starts
        assert cycle.predicted is None


def test_a_runtime_that_cannot_says_which_can(simulate) -> None:
    external = {"type": "external", "target": "http://127.0.0.1:9/"}
    ran = simulate(runtime=external, faults=[{"type": "pause", "every": "9s"}])
    assert ran.code == 2
    assert "can't do a pause: it lacks CanPause (these can: docker, local, sim)" in ran.said
