"""A run's directory: no secret in what people read, and as private as what went into it."""

from __future__ import annotations

import json
import os
import stat
from functools import partial
from pathlib import Path

import pytest
import yaml

from chaosd import report
from chaosd.cli import main

SECRET, OTHER = "hunter2-and-more", "correct-horse-9"


def tell(*words: str) -> dict:
    """A fault whose program says its secret, and ends badly."""
    script = "echo logged in with $2; echo; exit 3"
    inject = ["/bin/sh", "-c", script, "sh", "--password", *words]
    return {"type": "command", "inject": inject, "every": "5s", "name": "told"}


def faults(secret: str = SECRET) -> list[dict]:
    return [{"type": "recreate", "every": "5s"}, tell(secret)]


def modes(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.lstat().st_mode) for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def simulate(simulate):
    """A few cycles say it all."""
    return partial(simulate, until={"cycles": 3})


@pytest.fixture(autouse=True)
def _umask():
    before = os.umask(0o022)
    yield
    assert os.umask(before) == 0o022, "a run leaves the process as it was"


def test_no_secret_is_in_any_file_nor_said(simulate, capsys) -> None:
    ran = simulate(faults=faults())
    assert main(["check", "t.yaml"]) == 0
    assert main(["report", "runs/latest"]) in (0, 4)
    said = ran.said + "".join(capsys.readouterr())
    assert "(not shown)" in said
    assert SECRET not in said
    for path in ran.directory.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert "(not shown)" in (ran.directory / "report.md").read_text()
    assert "logged in with (not shown)" in (ran.directory / "events.jsonl").read_text()


def test_a_run_with_a_secret_is_private_and_stays_so(simulate) -> None:
    ran = simulate(faults=faults())
    assert stat.S_IMODE(ran.directory.stat().st_mode) == 0o700
    assert modes(ran.directory) == {0o600}
    assert stat.S_IMODE(ran.directory.parent.stat().st_mode) == 0o755, "other runs are not"
    (ran.directory / "report.html").unlink()
    report.write(ran.directory)
    assert modes(ran.directory) == {0o600}


def test_a_run_without_secrets_is_as_umask_says(simulate) -> None:
    ran = simulate(until={"cycles": 1})
    assert stat.S_IMODE(ran.directory.stat().st_mode) == 0o755
    assert modes(ran.directory) == {0o644}
    assert json.loads((ran.directory / "run.json").read_text())["secrets"] is None


@pytest.mark.parametrize(
    ("mode", "directory", "file"), [(0o600, 0o700, 0o600), (0o640, 0o750, 0o640)]
)
def test_a_run_is_as_private_as_its_config(simulate, mode, directory, file) -> None:
    Path("t.yaml").touch()
    Path("t.yaml").chmod(mode)
    ran = simulate(until={"cycles": 1})
    assert stat.S_IMODE(ran.directory.stat().st_mode) == directory
    assert modes(ran.directory) == {file}


@pytest.mark.slow
def test_compare_sees_that_a_secret_differs_and_says_neither(simulate, capsys) -> None:
    one = simulate(faults=faults()).directory
    two = simulate(faults=faults(OTHER)).directory
    three = simulate(faults=faults()).directory
    settings = [report.settings(report.RunReader(each)) for each in (one, two, three)]
    assert settings[0] == settings[2]
    assert settings[0] | {"secrets": settings[1]["secrets"]} == settings[1] != settings[0]
    main(["compare", str(one), str(two)])
    said = capsys.readouterr().out
    assert "secrets" in said
    assert SECRET not in said
    assert OTHER not in said


def test_secrets_that_older_versions_stored_are_not_said(simulate) -> None:
    directory = simulate(until={"cycles": 1}).directory
    path = directory / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["app"]["env"] = {"DB_PASSWORD": SECRET}
    path.write_text(yaml.safe_dump(config))
    report.write(directory)
    for name in ("report.md", "report.html", "report.json"):
        assert SECRET not in (directory / name).read_text(), name
        assert "DB_PASSWORD" in (directory / name).read_text(), name
