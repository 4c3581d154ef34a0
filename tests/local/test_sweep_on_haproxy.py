"""A sweep on two workers with real HAProxy: each in namespaces of its own; Ctrl-C; and going on."""

from __future__ import annotations

import contextlib
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

from chaosd.history.codec import decode_cycle

pytestmark = [
    *(pytest.mark.haproxy, pytest.mark.slow, pytest.mark.timeout(900)),
    pytest.mark.skipif(find_spec("distributed") is None, reason="the extra `dask` is not here"),
]
LIMIT_S = 400
PATH = Path("sweeps/real")


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chaosd", "sweep", "real.yaml", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def rounds(sweep: subprocess.Popen[str]) -> dict[str, Path]:
    """By network namespace: the directory of each round that its workers make now."""
    parents, words = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[path] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words[path] = (path / "cmdline").read_text().split("\0")
    workers = {int(path.name) for path, parent in parents.items() if parent == sweep.pid}
    found = {}
    for path, parent in parents.items():
        if parent in workers and "make" in words.get(path, ()):
            with contextlib.suppress(OSError):
                found[str((path / "ns" / "net").readlink())] = Path(words[path][-2])
    return found


def has_begun(directory: Path) -> bool:
    events = directory / "events.jsonl"
    return events.exists() and events.stat().st_size > 0


def test_two_workers_with_real_haproxy(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = {"name": "b", "runtime": "local", "probes": [{"type": "http", "rate": "50/s"}]}
    Path("base.yaml").write_text(yaml.safe_dump(base))
    resolve, retry = "proxy.resolvers.timeout_resolve", "proxy.resolvers.timeout_retry"
    design = {
        "name": "real",
        "base": "base.yaml",
        "vary": {resolve: ["200ms", "1s"], retry: {"same_as": resolve}},
        "faults": ["recreate"],
        "until": {"cycles": 6},
        "seed": 7,
    }
    Path("real.yaml").write_text(yaml.safe_dump(design))
    with start("--on", "local:2") as running:
        deadline = time.monotonic() + LIMIT_S
        while len([each for each in rounds(running).values() if has_begun(each)]) < 2:
            assert running.poll() is None, running.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        seen = rounds(running)
        assert len(seen) == 2
        if os.geteuid() == 0:
            assert str(Path("/proc/self/ns/net").readlink()) not in seen
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode in (0, 4), said
    assert "stopping (SIGINT)" in said
    assert not any(directory.parent.exists() for directory in seen.values())
    with start("--on", "local:2") as on:
        said, _ = on.communicate(timeout=LIMIT_S)
    assert on.returncode in (0, 4), said
    answer = json.loads((PATH / "answer.json").read_text())
    assert answer["cycles"] >= 2 * 6
    assert all(each["facts"]["meter_n"] >= 8 for each in answer["hosts"])
    cycles = [
        decode_cycle(line)
        for path in PATH.glob("rounds/*/cycles.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert sum(cycle.outcome == "recovered" for cycle in cycles) >= 2 * 6
