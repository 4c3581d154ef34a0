"""report.md and report.html of several arms: side by side, then each by itself; nothing pooled."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from chaosd.analysis.remarks import Remark, RemarkKind
from chaosd.analysis.samples import KINDS
from chaosd.analysis.summary import summarise
from chaosd.history.causes import Cause, CauseKind
from chaosd.history.cycles import CycleOutcome
from chaosd.history.reader import RunReader
from chaosd.report import analyse, junit, text, words
from chaosd.report import json as report_json
from chaosd.report.settings import files

ARMS = [
    {"name": "ours"},
    {"name": "fast", "proxy.resolvers": {"timeout_resolve": "200ms", "timeout_retry": "200ms"}},
]
CYCLES = 4
CELLS = {"ours": ("c1", "c3"), "fast": ("c2", "c4")}


@pytest.fixture(scope="module")
def ran(simulate_once):
    return simulate_once(
        arms=ARMS, cells=2, until={"cycles": CYCLES}, probes=[{"type": "http", "rate": "50/s"}]
    )


def test_of_two_arms_nothing_is_pooled(ran) -> None:
    found = analyse(ran.directory)
    markdown = (ran.directory / "report.md").read_text(encoding="utf-8")
    page = (ran.directory / "report.html").read_text(encoding="utf-8")
    pooled = text.quantile_words(found.report.total)
    for name, arm in found.report.arms.items():
        own = text.quantile_words(arm.total)
        assert own != pooled
        assert own in markdown
        assert f"<h2>Arm {name}</h2><ul>" in page
        assert own in page
    for file in (markdown, page, ran.said):
        assert pooled not in file
        assert text.share(found.report.availability) not in file
        assert text.in_band(found.report.total.in_band) not in file
        assert f"(n {2 * 2 * CYCLES}," not in file

    titles = [line for line in markdown.splitlines() if line.startswith("#")]
    parts = ["Recovery", "Where the seconds went", "What users saw", "How good these numbers are"]
    own = [f"### {part}" for part in parts]
    assert titles == [
        f"# {found.report.run}",
        "## Arms side by side",
        *("## Arm ours", *own, "## Arm fast", *own),
        *("## What was run", "## How to read this", "## Settings"),
    ]
    assert "\n* fast vs ours: " in markdown
    changes = "`proxy.resolvers.timeout_resolve: 200ms`, `proxy.resolvers.timeout_retry: 200ms`"
    assert f"* ours: nothing\n* fast: {changes}\n" in markdown
    assert f"* changes: {changes}\n" in markdown


def test_each_arm_has_its_own_pictures_and_worst_cycles(ran) -> None:
    page = (ran.directory / "report.html").read_text(encoding="utf-8")
    top, *arms = re.split('<section class="arm">', page)
    assert top.count("<figure>") == 1
    assert top.count('<path class="line arm-') == 2 * 2  # a curve and its key
    for (name, cells), rest in zip(CELLS.items(), arms, strict=True):
        section, _, _ = rest.partition("</section>")
        assert section.count("<figure>") == 4
        assert f"Distribution of {2 * CYCLES} recovery times" in section
        assert f"n {2 * CYCLES} failovers, a row for each" in section
        worst = re.findall(r"<summary>(\S+) (\S+) cycle", section)
        assert len(worst) == 5
        assert {arm for arm, _ in worst} == {name}
        assert {cell for _, cell in worst} <= set(cells)


def test_the_heat_is_of_one_arm(ran) -> None:
    found = analyse(ran.directory)
    assert list(found.heats) == ["ours", "fast"]
    failed = KINDS.index("failed")
    for name, heat in found.heats.items():
        assert heat.cycles == 2 * CYCLES
        assert heat.counts[:, :, failed].sum() == found.report.arms[name].total.failed


def test_a_note_or_a_doubt_says_of_which_arm_it_is(ran) -> None:
    """Of one arm's cycles; what is of the run as a whole is said once."""
    reader = RunReader(ran.directory)
    manifest = {key: v for key, v in reader.manifest.items() if key not in ("end_unix", "exit")}
    cycles = list(reader.cycles())
    spoilt = {"outcome": CycleOutcome.INVALID, "cause": Cause(kind=CauseKind.NEVER_BEGAN)}
    cells = CELLS["fast"]
    cycles = [replace(c, **spoilt) if c.cell == cells[0] else c for c in cycles]
    report = summarise("x", manifest, cycles, (), {})
    invalid = Remark(kind=RemarkKind.INVALID, arm="fast", count=CYCLES)
    doubted = Remark(kind=RemarkKind.INVALID_CYCLES, arm="fast", count=CYCLES, total=2 * CYCLES)
    assert report.notes == (Remark(kind=RemarkKind.NOT_ENDED), invalid)
    assert doubted in report.doubts
    assert all(doubt.arm == "fast" for doubt in report.doubts)
    assert "fast: 4 cycles invalid: not counted in any number" in words.notes(report)
    said = f"fast: {words.remark(replace(doubted, arm=None))}"
    assert said in words.reasons(report)
    assert f"; {said}" in junit.render(report)

    stored = json.loads(report_json.render(report, {}))
    assert {doubt["arm"] for doubt in stored["remarks"]["doubts"]} == {"fast"}
    assert [note["arm"] for note in stored["remarks"]["notes"]] == [None, "fast"]
    assert stored["arms"]["ours"]["remarks"]["doubts"] == []
    of_arm = stored["arms"]["fast"]["remarks"]["notes"]
    assert [(note["kind"], note["arm"]) for note in of_arm] == [
        ("not-ended", None),
        ("invalid", None),
    ]


def test_the_proxys_configuration_of_each_arm_is_shown(tmp_path) -> None:
    arms = {
        "a": {"cells": ["c1", "c3"], "proxy_config": "haproxy.cfg"},
        "b": {"cells": ["c2", "c4"], "proxy_config": "nginx.conf"},
        "c": {"cells": ["../c1"], "proxy_config": "haproxy.cfg"},
    }
    (tmp_path / "run.json").write_text(json.dumps({"run": "x", "arms": arms}))
    (tmp_path / "config.yaml").write_text("name: x\n")
    for cell, name in (("c1", "haproxy.cfg"), ("c3", "haproxy.cfg"), ("c2", "nginx.conf")):
        (tmp_path / cell).mkdir()
        (tmp_path / cell / name).write_text(cell)
    assert files(RunReader(tmp_path)) == {
        "config.yaml": "name: x\n",
        "c1/haproxy.cfg": "c1",
        "c2/nginx.conf": "c2",
    }
