"""Private places in the temporary directory: whose they are, and what becomes of them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from chaosd.errors import MachineError
from chaosd.system import scratch

DYING = """\
import os, signal
from chaosd.system import scratch
with scratch.directory() as place:
    (place / "haproxy.cfg").write_text("secret")
    print(place, scratch.shortcut(place), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "ELSEWHERE", tmp_path / "elsewhere")
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_a_directory_is_private_and_goes_away(tmp_path) -> None:
    with scratch.directory() as place:
        assert place.parent == tmp_path
        assert place.stat().st_mode & 0o777 == 0o700
        (place / "x").write_text("y")
        assert scratch.sweep() == []  # its owner lives
        assert (place / "x").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_owner_left_is_swept_and_nothing_else(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DYING], capture_output=True, text=True, check=False, timeout=60
    )
    place, link = done.stdout.split()
    others = [Path(place[:-6] + "zzzzzz"), tmp_path / "chaosd-check-abc", tmp_path / "chaosd-1-2"]
    for other in others:
        other.mkdir()
    file = Path(place[:-6] + "abcdef")
    file.write_text("of nobody we know")
    assert sorted(scratch.sweep()) == [f"directory {place}", f"shortcut {link}"]
    assert sorted(tmp_path.iterdir()) == sorted([*others, file])


def test_a_new_directory_sweeps_what_was_left(tmp_path) -> None:
    subprocess.run([sys.executable, "-c", DYING], capture_output=True, check=False, timeout=60)
    assert len(list(tmp_path.iterdir())) == 2
    with scratch.directory() as place:
        assert list(tmp_path.iterdir()) == [place]


def test_a_temporary_directory_that_is_no_plain_path_is_not_used(tmp_path, monkeypatch) -> None:
    odd = tmp_path / "a $b, c"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    scratch.ELSEWHERE.mkdir()
    assert scratch.shortcut(odd).parent == scratch.ELSEWHERE


def test_where_nothing_can_be_made_is_said_in_a_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(MachineError, match="can't be written: No such file"), scratch.directory():
        pass
