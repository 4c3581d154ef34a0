"""A sweep on real HAProxy builds that is killed five times, at other moments, and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from chaosd.history.codec import decode_cycle
from chaosd.proxies.haproxy import builds

pytestmark = [pytest.mark.haproxy, pytest.mark.slow, pytest.mark.timeout(900)]
VERSIONS = [version for version in ("2.6", "3.0", "3.2", "3.4") if builds.find(version)][:2]
RESOLVE, RETRY = "proxy.resolvers.timeout_resolve", "proxy.resolvers.timeout_retry"
PATH = Path("sweeps/real")
ARMS, CYCLES = 4, 6
LIMIT_S = 180.0  # until a moment comes, and until the rest is done
GOOD = ("recovered", "censored")
MARK = f"CHAOSD_TEST={uuid4().hex}"  # in the environment of all that is started here

Key = tuple[str, str, int]  # round, cell, cycle


def start() -> subprocess.Popen[str]:
    name, _, value = MARK.partition("=")
    return subprocess.Popen(
        [sys.executable, "-m", "chaosd", "sweep", "real.yaml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {name: value},
    )


def there() -> dict[Key, bool]:
    """Whole cycles in the files by now; whether each is of fresh blocks."""
    found = {}
    for path in PATH.glob("rounds/*/cycles.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            cycle = decode_cycle(line.decode())
            if cycle.outcome in GOOD and cycle.doubt is None:
                key = (path.parent.name, cycle.cell, cycle.cycle)
                found[key] = path.parent.name.endswith("-fresh")
    return found


def looked_at() -> int:
    return list(there().values()).count(False)


def is_planned() -> bool:
    return (PATH / "sweep.json").exists()


def is_begun() -> bool:
    """A round is said, and its processes are starting."""
    return any(PATH.glob("rounds/*/events*"))


def is_in_a_block() -> bool:
    return looked_at() >= ARMS + 1


def is_near_the_end() -> bool:
    return looked_at() >= ARMS * CYCLES - 2


def is_fresh() -> bool:
    return any(there().values())


MOMENTS = (is_planned, is_begun, is_in_a_block, is_near_the_end, is_fresh)


def killed_when(moment: Callable[[], bool]) -> None:
    with start() as running:
        deadline = time.monotonic() + LIMIT_S
        while not moment() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running.poll() is None, f"it ended before {moment.__name__}"
        running.send_signal(signal.SIGKILL)
    assert moment()


def left() -> list[str]:
    """Processes that this test has started, and what they start; no address outlives them."""
    here, found = str(Path.cwd()).encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if here in command or MARK.encode() in (process / "environ").read_bytes():
                found.append(f"{process.name} {command.decode()}")
        except OSError:
            continue
    return found


@pytest.mark.skipif(len(VERSIONS) < 2, reason="needs two builds (chaosd haproxy install 2.6 3.4)")
def test_a_sweep_loses_nothing_that_was_whole_however_often_it_is_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = {"name": "b", "runtime": "local", "probes": [{"type": "http", "rate": "50/s"}]}
    Path("base.yaml").write_text(yaml.safe_dump(base))
    design = {
        "name": "real",
        "base": "base.yaml",
        "vary": {"proxy.version": VERSIONS, RESOLVE: ["200ms", "1s"], RETRY: {"same_as": RESOLVE}},
        "baseline": f"v{VERSIONS[0].replace('.', '-')}-1s",
        "faults": ["recreate"],
        "until": {"cycles": CYCLES},
        "seed": 7,
    }
    Path("real.yaml").write_text(yaml.safe_dump(design, sort_keys=False))
    before: dict[Key, bool] = {}
    for moment in MOMENTS:
        killed_when(moment)
        now = there()
        assert before.items() <= now.items()
        before = now
    with start() as running:
        said, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode in (0, 4), said
    assert f"goes on: {len(before)} cycles" in said
    now = there()
    assert before.items() <= now.items()
    answer = json.loads((PATH / "answer.json").read_text())
    assert answer["cycles"] == len(now)  # all of them count
    arms = json.loads((PATH / "sweep.json").read_text())["arms"]
    assert {arm["name"] for arm in answer["arms"].values()} == {a["name"] for a in arms.values()}
    assert len(answer["arms"]) == ARMS
    stopped = [arm for arm in answer["arms"].values() if arm["stopped"]]
    assert all(arm["cycles"] >= CYCLES for arm in answer["arms"].values() if arm not in stopped)
    # Of each kill, what had run in a block that was not whole is made again, and no more.
    poor = answer["poor_blocks"] * ARMS
    assert looked_at() <= ARMS * CYCLES + (ARMS - 1) * len(MOMENTS) + poor
    for arm in arms.values():
        assert arm["program"]["sha256"]
        assert any("timeout resolve" in line for line in arm["lines"])
    assert left() == []
    # Nothing is left to do: it says the same again.
    rounds = (PATH / "blocks.jsonl").read_bytes()
    with start() as running:
        again, _ = running.communicate(timeout=LIMIT_S)
    assert (PATH / "blocks.jsonl").read_bytes() == rounds
    assert again[again.index("\nreal: ") :] == said[said.index("\nreal: ") :]
