"""The whole daemon under virtual time: what the engine promises, seen from the run directory."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import budget
import pytest
import stored
from recompute import recompute

from chaosd import report
from chaosd.engine import cell
from chaosd.engine.easing import Cpu
from chaosd.engine.run import Engine
from chaosd.history.causes import CauseKind, Doubt, DoubtKind, LagKind
from chaosd.history.cycles import CycleOutcome
from chaosd.history.events import InstancePlaced
from chaosd.history.reader import FOLDED, RunReader
from chaosd.history.writer import RunStore
from chaosd.runtimes import sim
from chaosd.runtimes.sim import SimStage
from chaosd.system.clock import SECOND_NS

# It asks for the name every 20 s, and `hold valid` keeps failed checks from asking earlier.
SLOW = {"type": "haproxy", "resolvers": {"timeout_resolve": "20s", "hold": {"valid": "60s"}}}


@pytest.mark.sized
def test_every_cycle_recovers_inside_the_predicted_band_and_they_are_spread(simulate) -> None:
    cycles = budget.of(20, 60)
    ran = simulate(until={"cycles": cycles})
    assert ran.code == 0
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.RECOVERED] * cycles
    for cycle in ran.cycles:
        assert cycle.predicted is not None
        assert cycle.anomaly is False, cycle
        assert cycle.new_ip != cycle.old_ip
    recoveries = sorted(c.recovery_s for c in ran.cycles)
    # gap 0.2 s, then the next poll of a period of 1 s: no aliasing means all of that range.
    assert 0.2 < recoveries[0] < 0.45
    assert 1.05 < recoveries[-1] < 1.35
    for low in (0.25, 0.5, 0.75, 1.0):
        assert any(low <= r < low + 0.3 for r in recoveries)


@pytest.mark.parametrize("looks", [[True, False], [False, True]], ids=["before", "after"])
def test_where_a_stranger_may_have_answered_for_the_proxy_no_cycle_counts(
    simulate, monkeypatch, looks
) -> None:
    """A second HAProxy at the same port had answered half of the probes: verdict ok."""
    told = iter([False, False, *looks, False, False])

    class Watched(SimStage):  # of its own, for what a class can do is remembered of it
        def is_entry_shared(self) -> bool:
            return next(told)

    monkeypatch.setattr(sim, "SimStage", Watched)
    ran = simulate(until={"cycles": 3})
    first, second, third = ran.cycles
    assert first.outcome is third.outcome is CycleOutcome.RECOVERED
    assert second.outcome is CycleOutcome.INVALID
    assert second.cause.kind is CauseKind.ENTRY_SHARED


def test_something_of_the_users_own_at_the_links_place_is_said_before_anything_is_made(
    simulate, tmp_path
) -> None:
    own = tmp_path / "runs/latest/mine"
    own.mkdir(parents=True)
    ran = simulate()
    assert (ran.code, ran.said) == (
        3,
        "chaosd: runs/latest is no link to the latest run (move it away)\n",
    )
    assert sorted((tmp_path / "runs").rglob("*")) == [own.parent, own]


def test_phases_add_up_to_the_recovery(simulate) -> None:
    for cycle in simulate(until={"cycles": 4}).cycles:
        known = [
            cycle.phases[f"{p}_s"] for p in ("replace", "publish", "discover", "rejoin", "serve")
        ]
        assert None not in known
        assert sum(known) == pytest.approx(cycle.recovery_s, abs=1e-6)


def test_no_fresh_ip_was_lately_in_use(simulate) -> None:
    probes = [{"type": "http", "rate": "20/s"}]
    ran = simulate(until={"cycles": 12}, app={"remember_ips": 6}, probes=probes)
    ips = [ran.cycles[0].old_ip, *(c.new_ip for c in ran.cycles)]
    for place, ip in enumerate(ips):
        assert ip not in ips[max(0, place - 6) : place]


def test_what_stands_at_the_old_address_shows(simulate) -> None:
    def cycles(manner: str):
        faults = [{"type": "recreate", "every": "6s", "old_ip": manner}]
        return simulate(faults=faults, until={"cycles": 2}).cycles

    assert all(c.misrouted > 10 for c in cycles("imposter"))
    assert all(c.misrouted == 0 and c.failed > 0 for c in cycles("refuse"))
    assert all(c.misrouted == 0 and c.failed > 0 for c in cycles("blackhole"))


def test_a_control_cycle_shows_the_meters_floor(simulate) -> None:
    ran = simulate(faults=[{"type": "noop", "every": "4s"}], until={"cycles": 3})
    assert {c.outcome for c in ran.cycles} == {CycleOutcome.CONTROL}
    for cycle in ran.cycles:
        assert (cycle.failed, cycle.misrouted, cycle.masked, cycle.dropped) == (0, 0, 0, 0)
        assert 0 < cycle.recovery_s < 0.02


def test_a_restart_at_its_own_address_is_a_control_and_no_failover(simulate) -> None:
    faults = [{"type": "recreate", "every": "6s"}, {"type": "restart", "every": "6s"}]
    ran = simulate(faults=faults, until={"cycles": 10})
    moved = [c for c in ran.cycles if c.fault == "recreate" and c.recovery_s]
    stayed = [c for c in ran.cycles if c.fault == "restart" and c.recovery_s]
    assert len(moved) > 2
    assert len(stayed) > 2
    for cycle in stayed:
        assert (cycle.outcome, cycle.old_ip) == (CycleOutcome.CONTROL, cycle.new_ip)
        assert (cycle.misrouted, cycle.predicted, cycle.anomaly) == (0, None, None)
        assert (cycle.phases["discover_s"], cycle.doubt) == (0.0, None)
        known = [part for phase, part in cycle.phases.items() if phase != "settle_s"]
        assert sum(known) == pytest.approx(cycle.recovery_s)
    whole = ran.report["total"]
    assert whole["outcomes"]["recovered"] == whole["recovery_s"]["n"] == len(moved)
    restart = whole["restart"]
    assert (restart["cycles"], restart["misrouted"]) == (len(stayed), 0)
    assert whole["control"]["cycles"] == 0
    # What makes a failover longer is the address that has to be found.
    p50_s = restart["recovery_s"]["p50"]["value"]
    assert restart["wait_s"]["p50"]["value"] < p50_s < whole["recovery_s"]["p50"]["value"]
    assert "restarts at the same address: recovery p50" in ran.said


def test_a_cycle_that_would_overlap_is_skipped_and_the_cadence_stays(simulate) -> None:
    ran = simulate(
        faults=[{"type": "recreate", "every": "1s", "jitter": "0s"}], until={"cycles": 8}
    )
    skipped = [c for c in ran.cycles if c.outcome == CycleOutcome.SKIPPED]
    assert skipped
    assert all(c.cause.kind is CauseKind.NOT_SETTLED for c in skipped)
    begun = [c.t0_ns for c in ran.cycles if c.outcome == CycleOutcome.RECOVERED]
    origin = begun[0] % SECOND_NS
    assert all(abs(t0 % SECOND_NS - origin) < 5_000_000 for t0 in begun)  # still on the grid
    assert [c.cycle for c in ran.cycles] == list(range(1, len(ran.cycles) + 1))


def test_what_does_not_recover_in_time_is_censored_not_dropped(simulate) -> None:
    ran = simulate(
        proxy=SLOW,
        measure={"recovery_limit": "3s"},
        faults=[{"type": "recreate", "every": "45s", "jitter": "0s"}],
        probes=[{"type": "http", "rate": "20/s"}],
        until={"cycles": 3},
    )
    outcomes = [c.outcome for c in ran.cycles]
    assert CycleOutcome.CENSORED in outcomes
    censored = next(c for c in ran.cycles if c.outcome == CycleOutcome.CENSORED)
    assert censored.recovery_s is None
    assert censored.failed > 0
    assert ran.report["total"]["outcomes"]["censored"] == outcomes.count(CycleOutcome.CENSORED)


def test_an_unsteady_app_makes_a_cycle_invalid_and_no_sample(simulate) -> None:
    ran = simulate(
        proxy=SLOW,
        measure={"recovery_limit": "3s"},
        faults=[{"type": "recreate", "every": "10s", "jitter": "0s"}],
        until={"cycles": 4},
    )
    invalid = [c for c in ran.cycles if c.outcome == CycleOutcome.INVALID]
    assert invalid
    assert all(c.cause.kind is CauseKind.NOT_STEADY for c in invalid)


def test_one_seed_gives_one_run_byte_for_byte(tmp_path) -> None:
    """In processes of their own, with other hash seeds: no set's order may reach the files.

    That another seed gives another one is tested in test_sim_runtime.py.
    """
    config = Path(__file__).parent.parent.parent / "configs/sim.yaml"
    runs = []
    for number in range(2):
        where = tmp_path / str(number)
        where.mkdir()
        subprocess.run(
            [sys.executable, "-m", "chaosd", "run", config, "--seed", "7", "--cycles", "2"],
            cwd=where,
            env=os.environ | {"PYTHONHASHSEED": str(number)},
            check=True,
            capture_output=True,
            timeout=60,
        )
        runs.append((where / "runs/latest").resolve())
    names = sorted(p.name for p in runs[0].rglob("*") if p.is_file())
    assert "events.jsonl" in names
    assert any(name.startswith("samples.") for name in names)
    report_files = {"report.json", "report.md"}  # they name the run directory
    _, differ, broken = filecmp.cmpfiles(
        runs[0], runs[1], [n for n in names if n not in report_files], shallow=False
    )
    assert (differ, broken) == ([], [])


def test_intent_is_written_before_the_deed_and_everything_is_undone(simulate) -> None:
    ran = simulate("--for", "33s", until={})
    open_actions: list[tuple] = []
    held = set()
    for event in stored.lines(ran.events):
        if event.verb:
            key = (event.cell, event.verb)
            if event.edge == "asked":
                open_actions.append(key)
            else:
                open_actions.remove(key)
            if event.edge == "done" and event.verb == "hold":
                held.add(event.data["ip"])
            if event.edge == "done" and event.verb == "release":
                held.clear()
    assert open_actions == []
    assert held == set()
    verbs = [e.verb for e in stored.lines(ran.events) if e.edge == "done"]
    assert verbs[0] == "set_up"
    assert verbs[-1] == "tear_down"


def test_the_report_made_offline_is_the_one_made_online(simulate) -> None:
    faults = [{"type": "recreate", "every": "6s", "old_ip": "imposter"}]
    ran = simulate(faults=faults, until={"cycles": 3})
    before = (ran.directory / "report.json").read_bytes()
    assert list(recompute(ran.directory)) == ran.cycles
    report.write(ran.directory)
    assert (ran.directory / "report.json").read_bytes() == before


def test_two_faults_take_turns_in_one_cell(simulate) -> None:
    ran = simulate(
        faults=[
            {"type": "recreate", "every": "10s", "jitter": "1s"},
            {"type": "noop", "every": {"min": "7s", "max": "12s"}},
        ],
        until={"cycles": 8},
    )
    done = [c for c in ran.cycles if c.outcome != CycleOutcome.SKIPPED]
    assert {c.fault for c in done} == {"recreate", "noop"}
    spans = sorted((c.t0_ns, c.end_ns) for c in done)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


def test_make_before_break_loses_nothing_once_the_name_has_moved(simulate) -> None:
    faults = [{"type": "recreate", "every": "6s", "order": "make-before-break", "gap": "2s"}]
    for cycle in simulate(faults=faults, until={"cycles": 4}).cycles:
        assert cycle.outcome == CycleOutcome.RECOVERED
        assert cycle.misrouted == 0
        assert cycle.anomaly is False


def test_cells_do_not_share_anything(simulate) -> None:
    ran = simulate(cells=3, until={"cycles": 2})
    by_cell = {cell: [c for c in ran.cycles if c.cell == cell] for cell in ("c1", "c2", "c3")}
    assert {cell: len(cycles) for cell, cycles in by_cell.items()} == {"c1": 2, "c2": 2, "c3": 2}
    t0s = [c.t0_ns for cycles in by_cell.values() for c in cycles]
    assert len(set(t0s)) == len(t0s)  # each cell draws its own times
    identities = [
        (e.cell, e.what.identity) for e in ran.events if isinstance(e.what, InstancePlaced)
    ]
    assert len({identity for _, identity in identities}) == len(identities)


def test_several_replicas_move_in_their_turn(simulate) -> None:
    ran = simulate(app={"replicas": 3}, until={"cycles": 4})
    assert [c.outcome for c in ran.cycles] == [CycleOutcome.RECOVERED] * 4
    old = [c.old_ip for c in ran.cycles]
    assert len(set(old[:3])) == 3
    assert not any(c.anomaly for c in ran.cycles)
    assert all(c.predicted is not None for c in ran.cycles)


@pytest.mark.sized
def test_with_replicas_that_take_turns_the_new_one_is_met_later_and_the_error_bar_knows(
    simulate,
) -> None:
    ran = simulate(
        app={"replicas": 8},
        probes=[{"type": "http", "rate": "20/s"}],
        proxy={"type": "haproxy", "resolvers": {"timeout_resolve": "200ms"}},
        faults=[{"type": "recreate", "every": "8s", "gap": "0s"}],
        until={"cycles": budget.of(24, 60)},
    )
    assert all(c.resolution_s == pytest.approx(8 * 0.05, rel=0.01) for c in ran.cycles)
    assert max(c.phases["serve_s"] for c in ran.cycles) > 0.2
    assert all(c.phases["serve_s"] <= c.resolution_s for c in ran.cycles)
    residual = ran.report["total"]["residual"]
    assert residual["low_s"] < 0 < residual["high_s"]
    assert residual["uniform_p"] > 0.01


@pytest.mark.sized
def test_a_retried_request_may_get_through_before_any_fresh_one(simulate) -> None:
    """The prediction is of fresh ones: HAProxy tries an old one again at a server that is DOWN."""
    ran = simulate(
        app={"start_delay": "800ms"},
        dns={"missing": "refused"},
        proxy={
            "type": "haproxy",
            "resolvers": {
                "timeout_resolve": "430ms",
                "resolve_retries": 1,
                "hold": {"refused": "0s"},
            },
            "server": {"inter": "310ms"},
        },
        faults=[{"type": "recreate", "every": "10s", "gap": "900ms"}],
        until={"cycles": budget.of(16, 60)},
    )
    early = [c for c in ran.cycles if c.recovery_s < c.predicted.lower_s - 0.05]
    assert len(early) > 1
    assert not any(c.anomaly for c in ran.cycles)
    for cycle in early:
        assert cycle.fresh_recovery_s > cycle.recovery_s + 0.05
        assert cycle.residual_s == pytest.approx(cycle.fresh_recovery_s - cycle.predicted.mean_s)
    assert " by a retried request, fresh ones from " in ran.said
    total = ran.report["total"]
    assert total["early"] >= len(early)
    assert f"note: {total['early']} cycles recovered by a retried request, up to " in ran.said
    mean_s = total["predicted_observed_mean_s"] - total["predicted_mean_s"]
    assert mean_s == pytest.approx(total["residual"]["mean_s"] + 0.01, abs=1e-6)  # half an interval
    assert ran.report["total"]["residual"]["uniform_p"] > 0.01


@pytest.mark.sized
def test_what_is_kept_as_counts_is_no_surer_of_availability(simulate, monkeypatch) -> None:
    """Each time from one T0 to the next stays a witness of its own."""
    monkeypatch.setitem(RunStore.__init__.__kwdefaults__, "chunk_samples", 1000)  # not an hour
    probes, until = [{"type": "http", "rate": "20/s"}], {"cycles": budget.of(10, 200)}
    ran = [simulate(probes=probes, until=until, runs={"keep_raw": keep}) for keep in (None, "30s")]
    assert [(each.directory / FOLDED).exists() for each in ran] == [False, True]
    whole, counted = (each.report for each in ran)
    assert whole["availability"] == counted["availability"]
    assert whole["probes"] == counted["probes"]


def test_a_slow_nameserver_and_a_slow_app_are_part_of_the_prediction(simulate) -> None:
    ran = simulate(dns={"delay": "150ms"}, app={"start_delay": "700ms"}, until={"cycles": 5})
    assert all(c.predicted is not None and c.anomaly is False for c in ran.cycles)
    assert min(c.recovery_s for c in ran.cycles) > 0.9  # the gap and the app's start


def test_an_address_that_is_not_fresh_makes_a_cycle_invalid(simulate, monkeypatch) -> None:
    monkeypatch.setattr(SimStage, "_fresh_ip", lambda _: "10.64.1.1")
    ran = simulate(until={"cycles": 2})
    assert {c.outcome for c in ran.cycles} == {CycleOutcome.INVALID}
    assert ran.cycles[0].cause.kind is CauseKind.NOT_FRESH
    # It is stored at once: nobody may count the cycle after a kill -9 either.
    disturbed = RunReader(ran.directory).events("disturbed")
    assert [event.what.cause for event in disturbed] == [ran.cycles[0].cause]


def test_a_probe_that_idles_measures_the_same(simulate) -> None:
    """Dense from before each T0 until the cycle is over, sparse between: the same failovers."""
    more = {"faults": [{"type": "recreate", "every": "12s"}], "until": {"cycles": 5}, "seed": 7}
    whole = simulate(probes=[{"type": "http", "rate": "100/s"}], **more)
    probe = {"type": "http", "rate": "100/s", "idle_rate": "4/s"}
    idling = simulate(probes=[probe], **more)
    assert (whole.code, idling.code) == (0, 0)
    assert list(recompute(idling.directory)) == idling.cycles
    for one, other in zip(whole.cycles, idling.cycles, strict=True):
        # The same seed: the same faults, and what was asked in a cycle is as much.
        assert other.t0_ns == one.t0_ns
        assert other.outcome == CycleOutcome.RECOVERED
        assert other.resolution_s == pytest.approx(0.01, abs=0.001)
        assert other.anomaly is False
        lasted_s = (other.end_ns - other.t0_ns) / SECOND_NS
        assert other.samples == pytest.approx(100 * lasted_s, abs=3)
    sent, all_sent = (r.report["probes"][0]["sent"] for r in (idling, whole))
    assert sent < 0.4 * all_sent
    wanted, found = whole.report["availability"], idling.report["availability"]
    assert found["value"] == pytest.approx(wanted["value"], abs=0.01)
    assert found["low"] == pytest.approx(wanted["low"], abs=0.03)
    assert found["high"] == pytest.approx(wanted["high"], abs=0.01)
    # Had each request counted once, availability would be far off.
    ok = idling.report["probes"][0]["outcomes"]["ok"]
    assert wanted["value"] - ok / sent > 0.05


@pytest.mark.slow  # test_easing.py has each step
def test_fewer_cycles_are_made_while_the_machine_is_late(simulate, monkeypatch) -> None:
    late = Doubt(kind=DoubtKind.WORLD_LATE, lag=LagKind.PROXY_WAITED, seconds=0.4)
    made, as_ever, seconds = [], cell.measure, count(1.0)

    def measure(*arguments, **more):
        made.append(as_ever(*arguments, **more))
        return replace(made[-1], doubt=late) if len(made) <= 20 else made[-1]

    monkeypatch.setattr(Engine, "_cpu", lambda _: Cpu(now := next(seconds), now))
    monkeypatch.setattr(cell, "measure", measure)
    ran = simulate(faults=[{"type": "recreate", "every": "10s"}], until={"cycles": 50})
    left_out = [c.cycle for c in ran.cycles if c.outcome == CycleOutcome.SKIPPED]
    # Every second one, until twenty have ended of which none was late.
    assert left_out == list(range(21, 60, 2))
    assert {c.cause.kind for c in ran.cycles if c.cycle in left_out} == {CauseKind.MACHINE_LATE}
    assert (
        "20 of the last 20 cycles are poor (HAProxy waited 0.4 s for a CPU): this mach" in ran.said
    )
    assert ran.said.count("fewer cycles are made for now") == 1
    assert "20 cycles left out, because this machine was short of CPU" in ran.said
    assert ran.report["total"]["eased"] == 20
