"""The command as a process: locales, and an output that is closed, full or has gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

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
