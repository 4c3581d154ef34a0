"""What comes over the network is taken only as what it should be, and where it should go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path

import pytest

from chaosd.errors import ConfigError, MachineError
from chaosd.sweep.arms import Program
from chaosd.sweep.machines import bring, joining, task, worker


def test_a_directory_comes_back_as_it_was(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "flight").mkdir(parents=True)
    (there / "run.json").write_text('{"a": 1}')
    (there / "flight" / "1.json").write_bytes(bytes(range(256)) * 100)
    (there / "link").symlink_to("/etc/passwd")
    os.mkfifo(there / "pipe")
    packed = bring.pack(there)
    assert sorted(packed) == ["flight/1.json", "run.json"]
    before = os.umask(0o077)
    try:
        bring.unpack(packed, tmp_path / "here")
    finally:
        os.umask(before)
    here = tmp_path / "here"
    assert (here / "flight" / "1.json").read_bytes() == bytes(range(256)) * 100
    assert (here / "run.json").stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "there"]


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a/../../x", "", "a//b", ".hidden", "a/b/c/d/e/f/g", "a\n", "a\0b", 7],
)
def test_a_strange_name_is_refused(tmp_path: Path, name: object) -> None:
    packed = {"run.json": zlib.compress(b"{}"), name: zlib.compress(b"x")}
    with pytest.raises(MachineError, match="strange name"):
        bring.unpack(packed, tmp_path / "rounds" / "one")  # type: ignore[arg-type]
    assert not any(p.is_file() for p in tmp_path.rglob("*"))
    assert not (tmp_path / "rounds" / "one").exists()


def test_what_has_no_end_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bring, "BYTES_MAX", 1 << 20)
    half = zlib.compress(bytes(600_000))
    for packed in ({"a": zlib.compress(bytes(2_000_000))}, {"a": half, "b": half}):
        with pytest.raises(MachineError, match="more than 1 MB"):
            bring.unpack(packed, tmp_path / "one")
    for damaged in (b"", b"no", half[:-5]):
        with pytest.raises(MachineError, match="damaged"):
            bring.unpack({"a": damaged}, tmp_path / "one")
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "x").write_bytes(bytes(2_000_000))
    with pytest.raises(MachineError, match="more than 1 MB"):
        bring.pack(tmp_path / "big")
    assert not (tmp_path / "one").exists()


def test_a_task_is_plain_data_both_ways() -> None:
    one = task.Task(
        data={"name": "x"},
        called="/somewhere/base.yaml",
        programs={"baseline": Program(version="3.2", sha256=None)},
        files={"/somewhere/haproxy.cfg": "12ab"},
        said={"baseline": {"config": ["/somewhere/haproxy.cfg"]}},
        isolated=True,
    )
    assert task.Task.of(one.tree()) == one
    for error in (ConfigError("a", "b"), MachineError("c")):
        found = task.raised(task.problem(error))
        assert type(found) is type(error)
        assert found.problems == error.problems


@pytest.mark.parametrize(
    "text", ["", "local", "local:0", "local:65", "local:999", "tcp://a:1", "dask://a", "dask://"]
)
def test_where_is_said_in_one_of_two_ways(text: str) -> None:
    with pytest.raises(ConfigError, match="--on"):
        joining.on(text)


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(joining, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"pip install 'chaosd\[dask\]'"):
        joining.on("local:4")
    monkeypatch.setattr(joining, "find_spec", lambda _: object())
    assert joining.on("local:4") == joining.On(workers=4, scheduler="")
    assert joining.on("dask://a.b:8786").scheduler == "tcp://a.b:8786"
    for text in ("dask+tls://[::1]:8786", "tls://[::1]:8786"):
        assert joining.on(text).scheduler == "tls://[::1]:8786"


def test_a_process_that_does_nothing_is_killed(monkeypatch) -> None:
    monkeypatch.setattr(worker, "HANGS_S", 0.1)
    monkeypatch.setattr(worker, "_LOOK_S", 0.02)
    hangs = [sys.executable, "-c", "print('begun', flush=True); input()"]
    started = partial(subprocess.Popen, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with started(hangs, start_new_session=True) as process:
        assert worker._said(process) == (b"", True)
    assert process.returncode == -signal.SIGKILL
    with started([sys.executable, "-c", "print('done')"], start_new_session=True) as process:
        assert worker._said(process) == (b"done\n", False)
