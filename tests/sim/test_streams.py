"""The command as a process: locales, outputs that take nothing, and an early Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import pytest
import yaml

import chaosd.__main__ as entry

ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CONFIG = {
    "name": "t",
    "runtime": "sim",
    "seed": 1,
    "metrics": None,
    "faults": [{"type": "recreate", "every": "5s"}],
    "until": {"cycles": 2},
}


@pytest.fixture
def chaosd(tmp_path):
    """Have a shell run chaosd, as `"$@"`."""
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")

    def chaosd(command: str, *arguments: str, **environment: str) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            ["sh", "-c", command, "sh", sys.executable, "-m", "chaosd", *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return chaosd


def test_a_locale_of_ascii_changes_no_file_and_loses_no_report(chaosd, tmp_path) -> None:
    code, out, err = chaosd('"$@"', "run", "t.yaml", **ASCII)
    assert (code, err) == (0, b"")
    assert rb"[?\u2013?]" in out
    names = ("report.json", "report.md", "report.html", "junit.xml", "run.json", "config.yaml")
    written = {name: (tmp_path / "runs/latest" / name).read_bytes() for name in names}
    assert "[?–?]" in written["report.md"].decode()
    for environment in (ASCII, {}):
        code, out, err = chaosd('"$@"', "report", "runs/latest", **environment)
        assert (code, err) == (0, b"")
        assert (rb"[?\u2013?]" if environment else "[?–?]".encode()) in out
        assert {name: (tmp_path / "runs/latest" / name).read_bytes() for name in names} == written


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_is_dev_null(chaosd, tmp_path, closed) -> None:
    code, _, err = chaosd(f'"$@" {closed}', "run", "t.yaml")
    assert (code, err) == (0, b"")
    assert (tmp_path / "runs/latest/report.html").exists()


def test_a_full_output_is_said_in_a_line(chaosd, tmp_path) -> None:
    full = b"chaosd: standard output: can't be written: No space left on device\n"
    for command in (("run", "t.yaml"), ("report", "runs/latest"), ("check", "t.yaml")):
        code, _, err = chaosd('"$@" > /dev/full', *command)
        assert (code, err) == (3, full)
    assert (tmp_path / "runs/latest/report.html").exists()
    assert chaosd('"$@" 2> /dev/full', "report", "nothing")[0] == 2


def test_a_reader_that_has_gone_changes_no_exit_code(chaosd) -> None:
    for command in (("run", "t.yaml"), ("report", "runs/latest")):
        code, out, err = chaosd('{ "$@"; echo $? >&2; } | sleep 0', *command)
        assert (code, out, err) == (0, b"", b"0\n")


def test_a_ctrl_c_during_the_imports_is_quiet(monkeypatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "chaosd.cli", Interrupted("chaosd.cli"))
    assert entry.start() == 130
    # And there is next to nothing before that.
    script = "import sys; old = {*sys.modules}; import chaosd.__main__; print({*sys.modules} - old)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert eval(done.stdout) == {"chaosd", "chaosd.__main__"}
