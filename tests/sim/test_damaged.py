"""Run directories that came to harm, and places that take no report: a line, and an exit code."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import budget
import pytest

from chaosd.cli import main
from chaosd.errors import MachineError
from chaosd.history.writer import write_whole

sys.path.insert(0, str(Path(__file__).parents[1] / "attack"))
import damaged


@pytest.fixture(scope="module")
def whole(simulate_once) -> Path:
    """A run directory that nothing has happened to."""
    return simulate_once(until={"cycles": 2}).directory


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / whole.name))


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00 nothing that anybody wrote \xfe" * 9)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def middle(path: Path) -> None:
    """Whole at its end, where Parquet keeps its table of contents."""
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\xff" * (len(data) // 2) + data[len(data) // 2 + 4 :])


def unreadable(path: Path) -> None:
    """For root may read whatever its mode."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "harm", "what"),
    [
        ("samples.00001.parquet", half, "can't be read: "),
        ("samples.00001.parquet", empty, "can't be read: "),
        ("samples.00001.parquet", garbage, "can't be read: "),
        ("samples.00001.parquet", middle, "can't be read: "),
        ("samples.00001.parquet", unreadable, "can't be read: "),
        ("cycles.jsonl", unreadable, "can't be read: Is a directory"),
        ("events.jsonl", unreadable, "can't be read: Is a directory"),
        ("run.json", unreadable, "can't be read: Is a directory"),
    ],
)
def test_a_damaged_file_is_named_in_a_line(run, capsys, name, harm, what) -> None:
    harm(run / name)
    assert main(["report", str(run)]) == 3
    out = capsys.readouterr()
    assert out.out == ""
    (line,) = out.err.splitlines()
    assert line.startswith(f"chaosd: {run / name}: {what}")


def test_a_tail_that_can_not_be_read_is_named_too(run, capsys) -> None:
    (run / "samples.00002.tail").write_bytes(b"")
    (run / "samples.00002.who").mkdir()
    assert main(["report", str(run)]) == 3
    said = f"chaosd: {run}/samples.00002.who: can't be read: Is a directory\n"
    assert capsys.readouterr().err == said


def test_what_is_only_shown_may_be_lost(run, capsys) -> None:
    before = (run / "report.md").read_text(encoding="utf-8")
    assert "name: t\n" in before
    garbage(run / "config.yaml")
    (run / "c1/haproxy.cfg").mkdir(parents=True)
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().err == ""
    assert "name: t\n" not in (run / "report.md").read_text(encoding="utf-8")
    (run / "config.yaml").write_text("since: 2001-99-99\n")  # YAML, and no date
    assert main(["report", str(run)]) == 0


def test_a_manifest_that_is_none_is_no_run(run, capsys) -> None:
    (run / "run.json").write_text("[]\n")
    assert main(["report", str(run)]) == 3
    assert "not a run directory (a whole run.json is missing)" in capsys.readouterr().err


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_where_nothing_can_be_written_the_report_is_shown_all_the_same(run, capsys, option) -> None:
    assert main(["report", str(run), *option]) == 0
    before = capsys.readouterr().out
    (run / "report.json").unlink()
    (run / "report.json.tmp").mkdir()  # for root may write whatever its mode
    assert main(["report", str(run), *option]) == 3
    out = capsys.readouterr()
    assert out.out == before.replace(f"report: {run}/report.html\n", "")
    (line,) = out.err.splitlines()
    assert line.startswith(f"chaosd: {run}/report.json: can't be written: Is a directory (")
    assert ("verdict: ok" in out.out) != bool(option)


def test_what_does_not_fit_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="No space left"):
        write_whole(tmp_path / "report.json", "{}")
    assert not list(tmp_path.iterdir())


def test_a_path_that_can_not_be_looked_at_is_said_in_a_line(capsys) -> None:
    name = "x" * 300
    assert main(["report", name]) == 2
    assert capsys.readouterr().err == f"chaosd: {name}: can't be read: File name too long\n"


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    os.truncate(path, 20 << 30)


def one_line(path: Path) -> None:
    path.write_bytes(b"[" * (3 << 20))


@pytest.mark.parametrize("name", ["run.json", "cycles.jsonl", "events.jsonl"])
@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (a_fifo, "can't be read: it is no regular file"),
        (endless, "can't be read: it is no regular file"),
        (sparse, "can't be read: it has "),
    ],
)
def test_only_regular_files_of_bounded_size_are_read(run, capsys, name, harm, what) -> None:
    harm(run / name)
    assert main(["report", str(run)]) == 3
    assert capsys.readouterr().err.startswith(f"chaosd: {run / name}: {what}")


@pytest.mark.parametrize("harm", [a_fifo, endless, sparse, one_line])
def test_what_is_only_shown_is_bounded_too(run, capsys, harm) -> None:
    harm(run / "config.yaml")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().err == ""


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(10))}]\n"
    for a, b in itertools.pairwise("abcdefgh")
)


def test_a_config_of_a_run_that_is_a_bomb_is_shown_and_not_lit(run, capsys) -> None:
    (run / "config.yaml").write_text(BOMB)
    assert main(["report", str(run)]) == 0
    assert json.loads((run / "report.json").read_text())["config"] == {}


@pytest.mark.parametrize(
    ("name", "key", "value", "what"),
    [
        ("cycles.jsonl", "recovery_s", '"' + "9" * 100 + '"', "recovery_s can't be '9999"),
        ("cycles.jsonl", "recovery_s", "NaN", "NaN is no number"),
        ("cycles.jsonl", "recovery_s", "-1", "recovery_s can't be -1"),
        ("cycles.jsonl", "recovery_s", "1e300", "recovery_s can't be 1e+300"),
        ("cycles.jsonl", "end_ns", "1", "its end or its cell can't be so"),
        ("cycles.jsonl", "cell", '"../../etc/x"', "its end or its cell can't be so"),
        ("cycles.jsonl", "samples", "true", "samples can't be True"),
        ("cycles.jsonl", "dropped", str(2**61), f"dropped can't be {2**61}"),
        ("cycles.jsonl", "phases", "[" * 9999 + "]" * 9999, "nested too deep"),
        (
            "cycles.jsonl",
            "predicted",
            '{"lower_s":1.0,"mean_s":1.0,"upper_s":1.0,"quantiles_s":{"zz":1.0}}',
            "a quantile can't be called 'zz'",
        ),
        ("events.jsonl", "at_ns", '"1"', "at_ns can't be '1'"),
        ("events.jsonl", "at_ns", "1e400", "at_ns can't be inf"),
        ("events.jsonl", "cycle", "9" * 30, "cycle can't be 9999"),
    ],
)
def test_a_value_that_nobody_measured_is_named(run, capsys, name, key, value, what) -> None:
    lines = (run / name).read_text().splitlines()
    wanted = '"what":"begin"' if name == "events.jsonl" else ""
    place = next(number for number, line in enumerate(lines) if wanted in line)
    before = json.dumps(json.loads(lines[place])[key], separators=(",", ":"))
    lines[place] = lines[place].replace(f'"{key}":{before}', f'"{key}":{value}', 1)
    (run / name).write_text("".join(f"{line}\n" for line in lines))
    assert main(["report", str(run)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"chaosd: {run / name}:{place + 1}: damaged: ")
    assert what in line
    assert len(line) < 500


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"cells": 7}, "cells can't be 7"),
        ({"start_unix": 1e300}, "start_unix can't be 1e+300"),
        ({"settings": {"interval_ns": 0}}, "settings.interval_ns can't be 0"),
        ({"slo": {"failed": {"target": "x", "min_cycles": 1}}}, "slo.failed.target can't be 'x'"),
        ({"arms": {"a": {"settings": {}}}}, "'arms.a.cells' is missing"),
    ],
)
def test_a_manifest_with_nonsense_in_it_is_named(run, capsys, change, what) -> None:
    manifest = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(manifest | change))
    assert main(["report", str(run)]) == 3
    said = f"chaosd: {run}/run.json: can't be read: damaged: {what}\n"
    assert capsys.readouterr().err == said


def test_a_directory_that_knows_no_instance_is_read(run) -> None:
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"what":"instance"' not in line]
    (run / "events.jsonl").write_text("".join(kept))
    assert main(["report", str(run)]) in (0, 4)


def test_seconds_of_requests_have_a_bound(run) -> None:
    lines = map(json.loads, (run / "cycles.jsonl").read_text().splitlines())
    text = "".join(json.dumps(line | {"interval_s": 5e10}) + "\n" for line in lines)
    (run / "cycles.jsonl").write_text(text)
    assert main(["report", str(run)]) in (0, 4)


@pytest.mark.sized
@pytest.mark.slow  # the harms above are of each kind
@pytest.mark.timeout(600)
def test_no_harm_makes_a_traceback_a_hang_or_much_memory() -> None:
    cases = range(budget.of(2, 1500))
    wrong = [f"{o.number}: {o.harm}: {o.wrong}" for o in damaged.outcomes(1, cases) if o.wrong]
    assert wrong == []


def test_what_a_config_may_say_is_no_damage(simulate) -> None:
    ran = simulate(seed=10**25, until={"cycles": 1})
    assert ran.code == 0
    assert main(["report", str(ran.directory)]) == 0
