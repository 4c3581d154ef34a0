"""`chaosd compare` on run directories, reports and baselines: what is read, said and answered."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import fake
import pytest
import yaml
from compared import LIMIT, MANIFEST, cycle, longer, uniform

from chaosd import report as reports
from chaosd.analysis.compare import compare
from chaosd.analysis.summary import summarise
from chaosd.cli import main
from chaosd.errors import ConfigError
from chaosd.history.codec import encode_cycle
from chaosd.history.cycles import CycleKind, CycleOutcome
from chaosd.history.reader import RunReader
from chaosd.history.writer import RunStore
from chaosd.report import compare as files
from chaosd.report import json as report_json
from chaosd.report.settings import files as texts
from chaosd.report.settings import settings

# --- files and exit codes ---


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """Three run directories: two alike, and one that is half as long again."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The same for all tests, each of which has a copy."""
    tmp_path, random = tmp_path_factory.mktemp("made"), Random(4)
    for name, factor in (("a", 1.0), ("b", 1.0), ("slow", 1.5)):
        (directory := tmp_path / name).mkdir()
        cycles = longer(uniform(random, 0.2), lambda s, factor=factor: factor * s)
        (directory / "cycles.jsonl").write_text("".join(f"{encode_cycle(c)}\n" for c in cycles))
        manifest = MANIFEST | LIMIT | {"run": name}
        (directory / "run.json").write_text(json.dumps(manifest))
        report = summarise(f"made {name}", manifest, cycles, (), {})
        slow = {"timeout_resolve": "200ms"} if name == "slow" else {"timeout_resolve": "1s"}
        config = {"name": name, "proxy": {"resolvers": slow}, "faults": [{"type": "recreate"}]}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        said = report_json.render(report, settings(RunReader(directory)))
        (directory / "report.json").write_text(said)
    return tmp_path


def test_exit_codes(runs, capsys) -> None:
    def code(*arguments: str) -> int:
        return main(["compare", *(str(runs / a) if a[0] != "-" else a for a in arguments)])

    assert code("a", "b") == 0
    out = capsys.readouterr().out
    assert "\nsettings: the same\n" in out
    assert "\nsame: recovery p95 is, to within 20%" in out
    assert code("a", "slow") == 1
    out = capsys.readouterr().out
    assert out.startswith(
        "A: made a, 100 failovers\nB: made slow, 100 failovers\n"
        "proxy.resolvers.timeout_resolve: 1s → 200ms\n"
    )
    assert "\nworse: in recovery p95, recovery p50, recovery mean, failed\n" in out
    assert code("slow", "a") == 0
    assert "\nbetter: in recovery p95" in capsys.readouterr().out
    assert code("a", "b", "--margin=2%") == 4
    assert code("a", "nothing") == 2
    assert code("a", "b", "--margin=2") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "chaosd: --margin: not a share (write it like 99.9% or 0.1%, or 0 for none)"
    )


def test_a_baseline_knows_its_settings(runs) -> None:
    """A committed report.json has them, and an own file counts by what is in it."""
    for name, text in (("a", "one"), ("b", "other")):
        config = {"name": name, "proxy": {"type": "haproxy", "config": "/etc/own.cfg"}}
        (runs / name / "config.yaml").write_text(yaml.safe_dump(config))
        (runs / name / "c1").mkdir()
        (runs / name / "c1/haproxy.cfg").write_text(text)  # its name where run.json says none
    reports.write(runs / "a")
    baseline = runs / "baseline.json"
    (runs / "a/report.json").rename(baseline)
    found = compare(files.load(baseline), files.load(runs / "b"))
    assert list(found.changed) == ["proxy.config"]
    assert found.changed["proxy.config"][0] != found.changed["proxy.config"][1]
    told = "proxy.config: two different files (not every setting of both is known)"
    assert told in files.lines(found)
    assert compare(files.load(baseline), files.load(runs / "a")).changed == {}


def test_cycles_alone_are_not_pooled_either(tmp_path) -> None:
    """Of several arms, and of DNS cycles among failovers: as of the whole run directory."""
    path = tmp_path / "cycles.jsonl"
    several = [replace(cycle(1.0), cell=f"{arm}-1", arm=arm) for arm in ("a", "b")]
    path.write_text("".join(f"{encode_cycle(c)}\n" for c in several))
    with pytest.raises(ConfigError, match="has several arms, which can't be pooled"):
        files.load(path)
    assert files.load(path, arm="b").failovers == 1
    still = [cycle(1.0), cycle(9.0, kind=CycleKind.DNS)]
    path.write_text("".join(f"{encode_cycle(c)}\n" for c in still))
    found = files.load(path)
    assert (found.failovers, found.numbers["recovery p50"].value) == (1, 1.0)


OWN = {"server": {"inter": "2s", "slowstart": "10s"}, "retries": 3}


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (
            OWN,
            OWN | {"server": {"inter": "500ms"}},
            [
                "proxy.server.inter: 2s → 500ms",
                "proxy.server.slowstart: 10s → not set",
                "proxy.config: two different files (their settings that differ are above)",
            ],
        ),
        (OWN, OWN, ["proxy.config: two different files (with the same settings)"]),
        (OWN, {}, ["proxy.config: two different files (not every setting of both is known)"]),
    ],
)
def test_two_own_files_differ_by_their_settings(runs, a, b, said) -> None:
    for name, stored in (("a", a), ("b", b)):
        directory = runs / name
        config = {"name": name, "proxy": {"type": "haproxy", "config": "/etc/own.cfg"}}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        (directory / "c1").mkdir()
        (directory / "c1/haproxy.cfg").write_text(name)
        manifest = json.loads((directory / "run.json").read_text()) | {"proxy_settings": stored}
        (directory / "run.json").write_text(json.dumps(manifest))
    told = list(files.lines(compare(files.load(runs / "a"), files.load(runs / "b"))))
    settings_told = [line for line in told if line.startswith("proxy.")]
    assert settings_told[-len(said) :] == said


@pytest.mark.parametrize(
    ("digests", "said"),
    [
        (("text 1", "text 1"), []),
        (
            ("text 1", "text 2"),
            ["proxy.config: two different files (with the same settings)"],
        ),
    ],
)
def test_copies_of_one_file_are_one_file(runs, digests, said) -> None:
    """Each run's copy has other addresses in it."""
    for name, digest in zip(("a", "b"), digests, strict=True):
        directory = runs / name
        config = {"name": name, "proxy": {"type": "haproxy", "config": [f"/{name}/own.cfg"]}}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        (directory / "c1").mkdir()
        (directory / "c1/haproxy.cfg").write_text(f"bind {name}")
        stored = {**OWN, "config": digest}
        manifest = json.loads((directory / "run.json").read_text()) | {"proxy_settings": stored}
        (directory / "run.json").write_text(json.dumps(manifest))
    told = list(files.lines(compare(files.load(runs / "a"), files.load(runs / "b"))))
    assert [line for line in told if line.startswith("proxy.config")] == said


def test_of_two_arms_one_may_have_a_file_of_its_own(runs) -> None:
    """What differs is said by settings, and not by a path; from a report.json as well."""
    directory = runs / "a"
    config = {"name": "a", "proxy": {"type": "haproxy", "server": {"inter": "2s"}, "retries": 3}}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    common = LIMIT | {"proxy": "haproxy", "proxy_version": "3.0.11", "proxy_config": "haproxy.cfg"}
    arms = {
        "yaml": {**common, "cells": ["c1"], "proxy_settings": {}, "differs": {}},
        "own": {
            **common,
            "cells": ["c2"],
            "proxy_settings": {"server": {"inter": "500ms"}, "retries": 3},
            "differs": {"proxy.config": "/etc/own.cfg"},
        },
    }
    (directory / "c2").mkdir()
    (directory / "c2/haproxy.cfg").write_text("own")
    manifest = json.loads((directory / "run.json").read_text()) | {"arms": arms}
    (directory / "run.json").write_text(json.dumps(manifest | {"cells": ["c1", "c2"]}))
    reports.write(directory)
    for source in (directory, directory / "report.json"):
        found = compare(files.load(source, arm="yaml"), files.load(source, arm="own"))
        assert list(found.changed) == ["proxy.server.inter", "proxy.config"]
        assert "proxy.server.inter: 2s → 500ms" in files.lines(found)
        assert "proxy.config: not set → a file of your own" in files.lines(found)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, ["c1/haproxy.cfg"]),
        ({"proxy_config": "nginx.conf"}, ["c1/nginx.conf"]),
        ({"proxy_config": None}, []),
        ({"proxy_config": "../b/config.yaml"}, []),
    ],
)
def test_a_run_directory_says_what_its_proxys_file_is_called(runs, said, found) -> None:
    (runs / "a/c1").mkdir()
    for name in ("haproxy.cfg", "nginx.conf"):
        (runs / "a/c1" / name).write_text("text")
    manifest = json.loads((runs / "a/run.json").read_text())
    manifest.pop("proxy_config", None)
    (runs / "a/run.json").write_text(json.dumps(manifest | said))
    shown = texts(RunReader(runs / "a"))
    assert [name for name in shown if name != "config.yaml"] == found
    assert compare(files.load(runs / "slow/cycles.jsonl"), files.load(runs / "a")).changed is None


def test_json_is_for_programs(runs, capsys) -> None:
    assert main(["compare", str(runs / "a"), str(runs / "slow"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    keys = ["a", "b", "margin", "tolerance", "rows", "answer", "reasons", "changed", "why"]
    assert list(found) == keys
    assert found["reasons"][0] == found["why"][0]["number"] == "recovery p95"
    assert found["why"][0]["kind"] == "number"
    assert found["changed"] == {"proxy.resolvers.timeout_resolve": ["1s", "200ms"]}
    assert (found["answer"], found["margin"]) == ("worse", 0.2)
    row = found["rows"][0]
    assert (row["name"], row["unit"], row["answer"]) == ("recovery p95", "s", "worse")
    assert row["difference"]["value"] == pytest.approx(row["b"]["value"] - row["a"]["value"])


def test_a_run_that_was_killed_and_its_report_are_one(runs) -> None:
    """What was going on when it was killed is in neither's cycles.jsonl, and counts in both."""
    directory = runs / "killed"
    settings_ = {"settings": asdict(fake.settings())}
    store = RunStore(directory, MANIFEST | settings_, "", threads=False)
    store.event(fake.stream())
    store.event(fake.instance(fake.OLD, fake.OLD_IP))
    for place in range(99):
        store.cycle(cycle(0.5 + place / 1000, cycle=place + 1))
    store.event(fake.begin(cycle=100))
    answer = fake.failover(60 * fake.SECOND)
    store.samples(fake.row(fake.T0 - fake.SECOND, fake.T0 + 29 * fake.SECOND, answer))
    store.tick()
    reports.write(directory)
    here, there = files.load(directory), files.load(directory / "report.json")
    assert here.numbers == there.numbers
    assert here.numbers["recovery mean"].value is None


def test_a_baseline_may_be_one_file(runs) -> None:
    """Of a run directory in a repository, report.json is enough; or its cycles."""
    expected = files.load(runs / "a")
    assert files.load(runs / "a" / "run.json") == expected
    assert files.load(runs / "a" / "report.json") == expected
    (runs / "b" / "report.json").write_text("{}")  # of a run, its cycles count, not an old report
    assert files.load(runs / "b").failovers == 100
    (kept := runs / "kept").mkdir()
    shutil.copy(runs / "a" / "report.json", kept)
    assert files.load(kept) == expected
    cycles = files.load(runs / "a" / "cycles.jsonl")
    assert cycles.numbers == expected.numbers
    assert (cycles.limit_s, cycles.doubts) == (None, ())


def test_a_report_of_another_shape_is_told_by_its_key(runs) -> None:
    """Keys may come in addition within a version; wrong ones are named."""
    report = json.loads((runs / "a/report.json").read_text())
    other = runs / "other.json"
    more = {**report, "news": 1, "total": {**report["total"], "more": {}}}
    more["total"]["recovery_s"]["p95"]["sd"] = 0.1
    other.write_text(json.dumps(more))
    assert files.load(other) == files.load(runs / "a")
    for path, value in (("version", 2), ("total.recovery_s.p95.value", "x"), ("doubts", None)):
        wrong = json.loads((runs / "a/report.json").read_text())
        *parents, last = path.split(".")
        place = wrong
        for key in parents:
            place = place[key]
        place[last] = value
        other.write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match=rf"this version of chaosd \({path}: "):
            files.load(other)


def test_what_is_torn_at_the_end_of_a_ledger_is_left_out(runs) -> None:
    ledger = runs / "a/cycles.jsonl"
    with ledger.open("a") as file:
        file.write('{"cycle":101,"cell":"c1"')
    assert files.load(ledger).failovers == 100
    with ledger.open("a") as file:
        file.write("\n")
    with pytest.raises(ConfigError, match=r"cycles.jsonl:101: "):
        files.load(ledger)


def test_one_fault_or_one_cell_can_be_compared(runs, capsys) -> None:
    random = Random(9)
    for name, factor in (("a", 1.0), ("b", 1.3)):
        cycles = [replace(c, fault="blue") for c in uniform(random, 0.2)]
        cycles += [replace(cycle(factor * c.recovery_s), fault="green") for c in cycles]
        lines = "".join(f"{encode_cycle(c)}\n" for c in cycles)
        (runs / name / "cycles.jsonl").write_text(lines)
    here, there = str(runs / "a"), str(runs / "b")
    assert main(["compare", here, there, "--fault", "blue"]) in (0, 4)
    assert "A: made a (fault blue), 100 failovers\n" in capsys.readouterr().out
    assert main(["compare", here, there, "--fault", "green", "--cell", "c1"]) == 1
    assert "B: made b (cell c1, fault green), 100 failovers\n" in capsys.readouterr().out
    assert main(["compare", here, there, "--fault", "red"]) == 2
    assert "has no fault `red` (there: blue, green)" in capsys.readouterr().err


def test_a_control_has_nothing_to_compare(runs, capsys) -> None:
    for name in ("a", "b"):
        with (runs / name / "cycles.jsonl").open("a") as file:
            undone = cycle(0.001, fault="noop", outcome=CycleOutcome.CONTROL)
            file.write(f"{encode_cycle(undone)}\n")
    here, there = str(runs / "a"), str(runs / "b")
    assert main(["compare", here, there]) == 0
    assert main(["compare", here, there, "--fault", "noop"]) == 2
    said = "fault `noop` is a control and makes no failovers: no run of it can tell"
    assert capsys.readouterr().err == f"chaosd: {here}: {said}\n"


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/nowhere", "there is no such file or directory ("),
        ("/dev/zero", "can't be read: it is no regular file"),
        ("/dev/null", "can't be read: it is no regular file"),
        ("/proc/self/mem", "can't be read: Input/output error"),
    ],
)
def test_what_is_no_file_is_not_read(path, what) -> None:
    with pytest.raises(ConfigError) as caught:
        files.load(Path(path))
    assert str(caught.value).startswith(f"{path}: {what}")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.json", "{}", "not a report of this version of chaosd (version: Field required)"),
        ("x.json", "[]", "not a report of this version of chaosd (: Input should be"),
        ("x.json", "{", "is neither a run directory, nor a report.json, nor a cycles.jsonl"),
        ("README.md", "# x\n", "is neither a run directory, nor a report.json, nor a cycles.jsonl"),
        ("x.jsonl", "{}\n", "can't be compared: "),
        ("run.json", "{", "can't be compared: "),
    ],
)
def test_what_can_not_be_compared_is_said(tmp_path, name, content, what) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as caught:
        files.load(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: {what}")
