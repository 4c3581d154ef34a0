"""A sweep's directory may be damaged, or anybody's: what it says is right, or refused in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from random import Random

import pytest
import sweeps

from chaosd.errors import ConfigError, MachineError
from chaosd.sweep.arms import Arm, Program
from chaosd.sweep.store import BLOCKS, SWEEP, Plan, Round, Stopped, Store
from chaosd.sweep.values import Objective

ODD = (None, True, 0, -1, 2**63, "x", [], {}, ["x"], {"x": 1}, [[[]]])
ROUND = Round(
    number=1, directory="rounds/0001-x", fault="recreate", fault_hash="h", cycles=2, replicas=1,
    arms={"arm-00": "k00"}, fresh=False,
)  # fmt: skip


def plan() -> Plan:
    truth = sweeps.Truth(least_s=0.2, width_s=1.0, queries_per_s=1.0)
    arms = sweeps.arms(proxy__retries=(1, 2))
    program = Program(version="3.0.11", sha256=None)
    return Plan(
        name="made",
        seed=7,
        design={"vary": {"proxy.retries": [1, 2]}},
        faults={"recreate": "h"},
        objectives=(Objective.FAILED,),
        arms=tuple(Arm(sweep=arm, said={"proxy": {"retries": 1}}, program=program) for arm in arms),
        lines={arm.key: ("retries 1",) for arm in arms},
        foretold={("k00", "recreate"): replace(truth.foretold(), recovery_p95_s=inf)},
        unforetold={"k01": "nobody knows"},
    )


def places(value):
    """Every container in a value, with each key into it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(items):
        yield value, key
        if isinstance(part, dict | list):
            yield from places(part)


def test_what_is_written_is_read_also_that_nothing_ever_recovers(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(plan())
    store.begin(ROUND)
    store.stop(Stopped(key="k01", why="worse"))
    with (tmp_path / BLOCKS).open("a") as file:
        file.write('{"round": {"numb\n{"tomorrow": 1}\n{"round": ')  # torn by a crash, and newer
    store = Store(tmp_path)
    assert store.read() == plan()
    assert store.seed() == 7
    assert store.rounds() == [ROUND]
    assert store.stopped(plan()) == {"k01": "worse"}


def test_no_value_of_another_type_is_taken(tmp_path: Path) -> None:
    """Found by tests/attack/damaged.py: each of these was a bug of ours, or a number."""
    store = Store(tmp_path)
    store.write(plan())
    whole = (tmp_path / SWEEP).read_text()
    refusals = []
    for place, _ in enumerate(places(json.loads(whole))):
        tree = json.loads(whole)
        container, key = list(places(tree))[place]
        container[key] = Random(place).choice(ODD)
        (tmp_path / SWEEP).write_text(json.dumps(tree))
        try:
            found = Store(tmp_path).read()
        except MachineError as error:
            refusals.append(str(error))
            continue
        # What is free, and what is not known to the model, may be anything that JSON has.
        assert type(found.seed) is int
        assert all(isinstance(arm.sweep.values, dict) for arm in found.arms)
    assert len(refusals) > place / 2
    assert all(said.startswith(f"{tmp_path}/{SWEEP}: ") for said in refusals)
    assert not any("\n" in said for said in refusals)


@pytest.mark.parametrize(
    "harm",
    [
        {"directory": "../elsewhere"},
        {"directory": "rounds/.."},
        {"directory": "/etc/x"},
        {"cycles": "2"},
        {"arms": ["k00"]},
        {"unknown": 1},
        {"number": None},
    ],
)
def test_a_round_is_refused_that_leads_elsewhere_or_is_none(tmp_path: Path, harm) -> None:
    store = Store(tmp_path)
    store.write(plan())
    store.begin(ROUND)
    line = json.loads((tmp_path / BLOCKS).read_text())
    line["round"] |= harm
    (tmp_path / BLOCKS).write_text(json.dumps(line) + "\n" + '{"stopped": 3}\n')
    for ask in (store.rounds, partial(store.stopped, plan())):
        with pytest.raises(MachineError, match=rf"{BLOCKS}:1: damaged"):
            ask()


@pytest.mark.parametrize(
    ("stop", "other", "stands"),
    [
        ({"by": "k00"}, {}, True),
        ({"by": "k00"}, {"faults": {"recreate": "h", "servfail": "g"}}, False),
        ({"by": "k00"}, {"faults": {"recreate": "another"}}, False),
        ({"by": "k00"}, {"objectives": (Objective.DNS_QUERIES,)}, False),
        ({"by": "k07"}, {}, False),
        ({"share": 0.1}, {"precision": 0.2}, True),
        ({"share": 0.1}, {"precision": 0.05}, False),
        ({"share": 0.1}, {}, False),
    ],
    ids=[
        *("same", "one fault more", "another fault", "another objective", "without its rival"),
        *("less precise", "more precise", "no precision"),
    ],
)
def test_a_stop_counts_for_a_design_that_has_the_same_reasons(tmp_path, stop, other, stands):
    store = Store(tmp_path)
    store.stop(Stopped(key="k01", why="x", basis=plan().basis, **stop))
    assert store.stopped(replace(plan(), **other)) == ({"k01": "x"} if stands else {})


def test_a_stop_that_says_no_reasons_counts(tmp_path: Path) -> None:
    """Those of earlier versions."""
    (tmp_path / BLOCKS).write_text('{"stopped": {"key": "k01", "why": "worse"}}\n')
    assert Store(tmp_path).stopped(plan()) == {"k01": "worse"}


def test_two_sweeps_at_once_are_refused_and_a_directory_of_something_else_is_left(tmp_path) -> None:
    there = tmp_path / "there"
    Store(there).prepare()
    code = "import sys; from pathlib import Path; from chaosd.sweep.store import Store\n"
    code += "Store(Path(sys.argv[1])).prepare()"
    command = [sys.executable, "-c", code, str(there)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another chaosd measures this sweep" in done.stderr
    command[-1] = str(tmp_path / "another")
    assert subprocess.run(command, check=False).returncode == 0

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is no sweep's directory"):
        Store(foreign).prepare()
    assert [path.name for path in foreign.iterdir()] == ["notes.txt"]


def test_an_answer_is_remembered_by_the_fresh_cycles_that_it_has_shown(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for fresh in (0, 12, 12, 60):
        store.answer(fresh)
    assert store.answered() == [12, 60]


def test_a_sweep_that_was_killed_while_its_plan_was_written_goes_on(tmp_path: Path) -> None:
    Store(tmp_path).prepare()
    (tmp_path / f"{SWEEP}.tmp").write_text('{"form')
    store = Store(tmp_path)
    store.prepare()
    store.write(plan())
    assert Store(tmp_path).read() == plan()


def test_what_was_written_last_is_read_although_the_earlier_plan_was_looked_at(tmp_path) -> None:
    """A design that has grown, and names no seed: that of the earlier one is asked for first."""
    Store(tmp_path).write(plan())
    store = Store(tmp_path)
    assert store.seed() == 7
    grown = replace(plan(), faults={"recreate": "h", "servfail": "g"})
    store.write(grown)
    assert store.read() == grown
