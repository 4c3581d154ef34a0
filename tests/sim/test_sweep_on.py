"""A sweep on four workers, one of which is killed, has the answer of one on a single worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from sweep_design import BASE, design

pytestmark = [
    *(pytest.mark.slow, pytest.mark.timeout(900)),
    pytest.mark.skipif(find_spec("distributed") is None, reason="the extra `dask` is not here"),
]
LIMIT_S = 400


def start(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "chaosd", "sweep", "d.yaml", *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def children(pid: int) -> dict[int, str]:
    """What each child of a process was started with."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            words = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if parent == pid:
            found[int(path.parent.name)] = words
    return found


def kill_one_that_makes_a_round(sweep: subprocess.Popen[str]) -> int:
    """A worker with a round under way, and not one that only looks. Returns the round's process."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and sweep.poll() is None:
        for worker in children(sweep.pid):
            for child, words in children(worker).items():
                if "machines.child\0make" in words:
                    os.kill(worker, signal.SIGKILL)
                    return child
        time.sleep(0.2)
    raise AssertionError("no worker made a round")


def answer(directory: Path) -> dict:
    """Without what says where it was made."""
    found = json.loads((directory / "answer.json").read_text())
    del found["hosts"], found["words"]
    return found


def lines(directory: Path, what: str) -> list[dict]:
    every = map(json.loads, (directory / "blocks.jsonl").read_text().splitlines())
    return [line[what] for line in every if what in line]


def test_four_workers_of_which_one_is_killed_answer_as_one_does(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = BASE | {"probes": [{"type": "http", "rate": "20/s"}]}
    Path("base.yaml").write_text(yaml.safe_dump(base))
    Path("d.yaml").write_text(yaml.safe_dump(design([False, 1], 12), sort_keys=False))
    four, one = Path("four"), Path("one")
    with start("--on", "local:4", "--dir", "four") as running:
        child = kill_one_that_makes_a_round(running)
        said, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 0, said
    assert "is gone: round" in said
    assert not Path(f"/proc/{child}").exists()
    with start("--on", "local:1", "--dir", "one") as alone:
        alone.communicate(timeout=LIMIT_S)
    assert alone.returncode == 0
    assert answer(four) == answer(one)
    # Cycle by cycle, in the same files.
    for path in sorted(one.glob("rounds/*/cycles.jsonl")):
        assert (tmp_path / four / path.relative_to(one)).read_bytes() == path.read_bytes()
    begun, brought = lines(four, "round"), lines(four, "brought")
    assert len(begun) == len(brought) + 1
    assert len({each["host"] for each in begun}) > 1
    assert sorted({e["number"] for e in begun}) == sorted(e["number"] for e in brought)
    # What began on four workers goes on here.
    with start("--dir", "four", "--cycles", "14") as on:
        said, _ = on.communicate(timeout=LIMIT_S)
    assert on.returncode == 0, said
    assert "goes on:" in said
    assert {each["host"] for each in lines(four, "round")} > {each["host"] for each in begun}
