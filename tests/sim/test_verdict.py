"""Objectives, precision and comparison, from the config to the exit code, on a simulated world."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import budget
import pytest

from chaosd import report
from chaosd.cli import main

# Recoveries are 0.2 to 1.3 s, evenly: half of them longer than 0.75 s.
KEPT = {"recovery_p50": "1s", "misrouted": 0, "availability": "70%"}
P95 = {"recovery_p95": "1400ms"}
BROKEN = {"recovery_p95": "500ms"}
PROBES = [{"type": "http", "rate": "20/s"}]


@pytest.fixture(scope="module")
def kept(simulate_once):
    """A run of so many cycles as p95's upper bound takes, and some more, where it is asked for."""
    cycles = budget.of(20, 80)
    slo = KEPT | P95 if budget.LONG else KEPT
    return simulate_once(slo=slo, until={"cycles": cycles}, probes=PROBES)


@pytest.mark.sized
def test_objectives_decide_the_exit_code(kept, simulate) -> None:
    def run(slo, cycles: int):
        ran = simulate(slo=slo, until={"cycles": cycles}, probes=PROBES)
        assert ran.code == ran.report["manifest"]["exit"]
        return ran

    assert kept.code == kept.report["manifest"]["exit"]
    assert (kept.code, kept.report["verdict"]) == (0, "ok")
    assert f"verdict: ok (measurement good; all {budget.of(3, 4)} objectives are kept)" in kept.said
    broken = run(KEPT | BROKEN, cycles=20)
    assert (broken.code, broken.report["verdict"]) == (1, "fail")
    assert [o["result"] for o in broken.report["objectives"]] == ["ok", "fail", "ok", "ok"]
    unknown = run(KEPT | P95, cycles=20)
    assert (unknown.code, unknown.report["verdict"]) == (4, "unknown")
    assert unknown.report["reasons"] == ["recovery_p95: its upper bound takes 72 cycles"]
    # All of it is in the run directory, to be judged again at any time.
    before = (broken.directory / "report.json").read_bytes()
    assert report.exit_code(report.write(broken.directory)) == 1
    assert (broken.directory / "report.json").read_bytes() == before
    assert "| recovery_p95 ≤ 500ms |" in (broken.directory / "report.md").read_text()
    suite = ET.parse(broken.directory / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "0")


def test_check_says_which_objectives_so_few_cycles_can_not_keep(simulate, capsys) -> None:
    simulate("--cycles", "1", slo=KEPT | P95, until={"cycles": 20})
    assert main(["check", "t.yaml"]) == 0
    out = capsys.readouterr().out
    assert "slo.recovery_p95 takes 72 cycles, this run makes 20: it will be unknown\n" in out
    assert out.count("it will be unknown") == 1
    for more in (["--cycles", "100"], ["--set", "cells=4"]):
        assert main(["check", "t.yaml", *more]) == 0
        assert "it will be unknown" not in capsys.readouterr().out


@pytest.mark.slow  # it takes ninety failovers to know anything
def test_a_run_ends_when_it_knows_enough(simulate) -> None:
    ran = simulate(until={"cycles": 400, "precision": "7%"}, probes=PROBES)
    assert (ran.code, ran.report["manifest"]["reason"]) == (0, "done")
    p95 = ran.report["total"]["recovery_s"]["p95"]
    assert (p95["high"] - p95["low"]) / 2 <= 0.07 * p95["value"]
    assert 90 <= len(ran.cycles) < 400
    assert "p95 is known to ± 6." in ran.said


@pytest.mark.slow  # ninety failovers
def test_the_example_of_a_gate_keeps_its_objectives(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    gate = Path(__file__).parent.parent.parent / "configs/gate.yaml"
    changes = ["runtime=sim", "probes=[{type: http, rate: 20/s}]"]
    options = [word for change in changes for word in ("--set", change)]
    assert main(["run", str(gate), *options, "--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert "verdict: ok (measurement good; all 6 objectives are kept)" in out
    assert "false alarms in 0 of" in out


def test_a_run_that_never_knows_enough_ends_all_the_same(simulate) -> None:
    ran = simulate(until={"cycles": 12, "precision": "0.1%"}, probes=PROBES)
    assert len(ran.cycles) == 12
    assert "no more cycles" not in ran.said


@pytest.mark.slow  # test_compare.py has each case
def test_runs_are_compared(kept, simulate, capsys) -> None:
    def run(seed: int, **fault):
        faults = [{"type": "recreate", "every": "5s"} | fault]
        ran = simulate(seed=seed, faults=faults, until={"cycles": 80}, probes=PROBES)
        return str(ran.directory)

    baseline, same, longer = str(kept.directory), run(2), run(3, gap="400ms")
    capsys.readouterr()
    assert main(["compare", baseline, same]) == 0
    assert "\nsame: " in capsys.readouterr().out
    assert main(["compare", f"{baseline}/report.json", longer, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == "worse"
    assert "recovery p95" in found["reasons"]
    assert main(["compare", longer, baseline]) == 0
    assert "\nbetter: " in capsys.readouterr().out


@pytest.mark.slow  # every line by itself is a unit test
def test_what_sixty_cells_lack_is_said_once(simulate, monkeypatch) -> None:
    from chaosd.runtimes.sim import SimStage

    monkeypatch.setattr(SimStage, "_fresh_ip", lambda _: "10.64.1.1")  # all cycles are invalid
    faults = [{"type": "recreate", "name": n, "every": "9s"} for n in ("one", "other")]
    ran = simulate(cells=60, until={"cycles": 2}, probes=PROBES, faults=faults)
    assert ran.code == 4
    closing = ran.said[ran.said.index("verdict: unknown") :].splitlines()
    assert len(closing) < 15, closing
    assert sum("no valid cycle" in line for line in closing) == 1, closing
    assert any("60 cells (c1, c2, c3 and 57 more): no valid cycle" in line for line in closing)


@pytest.fixture(scope="module")
def whole(simulate_once) -> Path:
    """A run directory that nothing has happened to."""
    ran = simulate_once(until={"cycles": 3})
    assert ran.report["verdict"] == "ok"
    return ran.directory


FASTER = {"recovery_s": 0.05, "fresh_recovery_s": 0.05, "stable_recovery_s": 0.05}


@pytest.mark.parametrize(
    "edits",
    [FASTER, {"fresh_recovery_s": 0.05}, FASTER | {"residual_s": None, "predicted": None}],
    ids=["recoveries", "one", "without-prediction"],
)
def test_a_line_of_a_cycle_that_was_edited_is_not_believed(whole, tmp_path, edits) -> None:
    directory = shutil.copytree(whole, tmp_path / whole.name)
    file = directory / "cycles.jsonl"
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps(json.loads(first) | edits), *rest, ""]))
    assert report.write(directory).verdict == "unknown"
    said = "the numbers of 1 cycle contradict each other"
    reasons = json.loads((directory / "report.json").read_text())["reasons"]
    assert any(said in line for line in reasons), reasons
