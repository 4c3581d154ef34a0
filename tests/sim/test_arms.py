"""Several arms in one run: one schedule, numbers of their own, nothing pooled."""

from __future__ import annotations

import json

import pytest

from chaosd.analysis.compare import compare
from chaosd.errors import ConfigError
from chaosd.report import compare as files

ARMS = [
    {"name": "ours"},
    {
        "name": "fast",
        "proxy.resolvers.timeout_resolve": "200ms",
        "proxy.resolvers.timeout_retry": "200ms",
    },
]


@pytest.fixture(scope="module")
def ran(simulate_once):
    return simulate_once(
        arms=ARMS, cells=2, until={"cycles": 6}, probes=[{"type": "http", "rate": "50/s"}]
    )


def test_arms_run_in_blocks_and_have_numbers_of_their_own(ran) -> None:
    assert ran.code == 0
    by_cell = {arm: set() for arm in ("ours", "fast")}
    blocks: dict[tuple[int, bool], list[int]] = {}
    for cycle in ran.cycles:
        by_cell[cycle.arm].add(cycle.cell)
        blocks.setdefault((cycle.cycle, cycle.cell in ("c1", "c2")), []).append(cycle.t0_ns)
    assert by_cell == {"ours": {"c1", "c3"}, "fast": {"c2", "c4"}}
    # A block is one cycle of each arm's first cell, shortly after each other, or of its second one.
    assert len(blocks) == 12
    assert all(len(t0s) == 2 for t0s in blocks.values())
    assert all(0 < max(t0s) - min(t0s) < 100_000_000 for t0s in blocks.values())
    first, second = (
        sorted(t0s for (_, which), t0s in blocks.items() if which is w) for w in (True, False)
    )
    apart = [abs(a[0] - b[0]) for a, b in zip(first, second, strict=True)]
    assert max(apart) > 100_000_000  # the one's phases say nothing of the other's

    report = ran.report
    arms = report["arms"]
    assert list(arms) == ["ours", "fast"]
    assert [arm["failovers"] for arm in arms.values()] == [12, 12]
    assert arms["fast"]["recovery_s"]["p95"]["value"] < arms["ours"]["recovery_s"]["p50"]["value"]
    assert all(arm["in_band"]["count"] == 12 for arm in arms.values())
    stored = report["manifest"]["arms"]["fast"]
    assert stored["cells"] == ["c2", "c4"]
    assert stored["differs"] == {key: v for key, v in ARMS[1].items() if key != "name"}
    assert "fast vs ours: better" in ran.said


def test_what_comes_with_an_arms_fault_does_not_change_its_schedule(simulate) -> None:
    """Its label does change, and the schedule was drawn by that."""
    trouble = {"type": "dns", "answer": "servfail", "at": "100ms", "window": "1s"}
    arms = [{"name": "plain"}, {"name": "trouble", "faults[0].with": [trouble]}]
    ran = simulate(arms=arms, until={"cycles": 3})
    assert {cycle.fault for cycle in ran.cycles} == {"recreate", "recreate+dns"}
    for number in (1, 2, 3):
        one, other = (cycle.t0_ns for cycle in ran.cycles if cycle.cycle == number)
        assert abs(one - other) < 100_000_000


def test_arms_of_one_run_are_compared_and_not_pooled(ran) -> None:
    directory = ran.directory
    found = compare(files.load(directory, arm="ours"), files.load(directory, arm="fast"))
    assert found.answer == "better"
    assert set(found.changed) == {key for key in ARMS[1] if key != "name"}
    # The report is as good as the directory.
    baseline = files.load(directory / "report.json", arm="ours")
    assert compare(baseline, files.load(directory, arm="fast")).answer == "better"
    with pytest.raises(ConfigError, match="several arms, which can't be pooled"):
        files.load(directory)
    with pytest.raises(ConfigError, match="has no arm `slow`"):
        files.load(directory, arm="slow")


def test_objectives_are_of_each_arm(simulate) -> None:
    ran = simulate(arms=ARMS, until={"cycles": 8}, slo={"recovery_p50": "800ms", "min_cycles": 5})
    names = [objective["name"] for objective in ran.report["objectives"]]
    assert names == ["ours: recovery_p50", "fast: recovery_p50"]
    results = [objective["result"] for objective in ran.report["objectives"]]
    assert results[1] == "ok"


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ([{"name": "a"}, {"name": "a"}], "arms[1].name: is called `a`, as [0] is"),
        ([{"name": "a", "probes": []}], "is shared by all arms (an arm may set proxy, app, dns"),
        ([{"name": "a", "faults[0].every": "1s"}], "all arms have one schedule"),
        ([{"name": "a", "faults[0].every.min": "1s"}], "all arms have one schedule"),
        ([{"name": "a", "faults[0]": {"type": "noop", "every": "1s"}}], "all arms have one sched"),
        ([{"name": "a", "proxy.server.inter": "fast"}], "proxy.server.inter: "),
        ([{"name": "a", "proxy.resolvers.timeout_resolv": "1s"}], "did you mean `timeout_resolve`"),
        ([{"name": "a", "faults[7].gap": "1s"}], "is a list without [7]"),
        ([{"proxy.version": "2.6"}], "arms[0].name: is missing"),
    ],
)
def test_mistakes_in_arms_are_said_in_a_line(simulate, arms, said) -> None:
    ran = simulate(arms=arms)
    assert ran.code == 2
    assert said in ran.said
    assert all(line.startswith("chaosd: t.yaml:") for line in ran.said.splitlines())


def test_run_json_has_its_format(ran) -> None:
    assert json.loads((ran.directory / "run.json").read_text())["format"] == 1
