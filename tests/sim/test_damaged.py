"""Run directories that came to harm, and places that take no report: a line, and an exit code."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from chaosd.cli import main
from chaosd.errors import MachineError
from chaosd.history.writer import write_whole


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
