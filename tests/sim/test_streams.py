"""The command as a process: locales, outputs that take nothing, and an early Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
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
    "until": {"cycles": 1},
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """Where there is a config, and a run directory that only `report` touches."""
    where = tmp_path_factory.mktemp("streams")
    (where / "t.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return where


def call(where: Path, command: str, *arguments: str, **environment: str):
    """Have a shell run chaosd, as `"$@"`."""
    done = subprocess.run(
        ["sh", "-c", command, "sh", sys.executable, "-m", "chaosd", *arguments],
        cwd=where,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def ran_in_ascii(directory) -> tuple[int, bytes, bytes]:
    """A run where the locale has no letter beyond ASCII."""
    return call(directory, '"$@"', "run", "t.yaml", **ASCII)


@pytest.fixture
def chaosd(directory):
    """Have a shell run chaosd, as `"$@"`, where there is a config."""
    return partial(call, directory)


@pytest.mark.slow
def test_a_locale_of_ascii_changes_no_file_and_loses_no_report(
    chaosd, directory, ran_in_ascii
) -> None:
    code, out, err = ran_in_ascii
    assert (code, err) == (0, b"")
    assert rb"[?\u2013?]" in out
    names = ("report.json", "report.md", "report.html", "junit.xml", "run.json", "config.yaml")
    written = {name: (directory / "runs/latest" / name).read_bytes() for name in names}
    assert "[?–?]" in written["report.md"].decode()
    for environment in (ASCII, {}):
        code, out, err = chaosd('"$@"', "report", "runs/latest", **environment)
        assert (code, err) == (0, b"")
        assert (rb"[?\u2013?]" if environment else "[?–?]".encode()) in out
        assert {name: (directory / "runs/latest" / name).read_bytes() for name in names} == written


@pytest.mark.slow  # of each stream below
def test_what_is_closed_is_dev_null(chaosd, directory) -> None:
    code, _, err = chaosd('"$@" <&- >&- 2>&-', "run", "t.yaml")
    assert (code, err) == (0, b"")
    assert (directory / "runs/latest/report.html").exists()


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_no_file_gets_the_number_of_a_stream_that_is_closed(closed) -> None:
    """What is printed would get into it."""
    script = "import os, sys; from chaosd.cli import main; main(['version']); "
    script += "sys.exit(not all(os.path.exists(f'/proc/self/fd/{n}') for n in range(3)) "
    script += f"or not os.path.samefile('/proc/self/fd/{closed}', os.devnull))"
    command = f'"$@" {closed}>&-'
    subprocess.run(["sh", "-c", command, "sh", sys.executable, "-c", script], check=True)


def test_a_full_output_is_said_in_a_line(chaosd, directory) -> None:
    """All commands print in one way."""
    full = b"chaosd: standard output: can't be written: No space left on device\n"
    code, _, err = chaosd('"$@" > /dev/full', "run", "t.yaml")
    assert (code, err) == (3, full)
    assert (directory / "runs/latest/report.html").exists()
    assert chaosd('"$@" 2> /dev/full', "report", "nothing")[0] == 2


def test_a_reader_that_has_gone_changes_no_exit_code(chaosd) -> None:
    code, out, err = chaosd('{ "$@"; echo $? >&2; } | sleep 0', "run", "t.yaml")
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
