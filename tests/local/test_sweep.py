"""A sweep on real HAProxy builds: a few cycles, a kill, and an answer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from chaosd.history.codec import decode_cycle
from chaosd.proxies.haproxy import builds

pytestmark = [pytest.mark.haproxy, pytest.mark.slow]
VERSIONS = [version for version in ("2.6", "3.0", "3.2", "3.4") if builds.find(version)][:2]
PATH = Path("sweeps/real")
LIMIT_S = 90


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chaosd", "sweep", "real.yaml", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def cycles() -> int:
    """Whole cycles in the files by now."""
    found = 0
    for path in PATH.glob("rounds/*/cycles.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            found += decode_cycle(line.decode()).outcome in ("recovered", "censored")
    return found


@pytest.mark.skipif(len(VERSIONS) < 2, reason="needs two builds (chaosd haproxy install 2.6 3.4)")
def test_a_sweep_on_two_versions_goes_on_after_a_kill(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = {"name": "b", "runtime": "local", "probes": [{"type": "http", "rate": "50/s"}]}
    Path("base.yaml").write_text(yaml.safe_dump(base))
    resolve, retry = "proxy.resolvers.timeout_resolve", "proxy.resolvers.timeout_retry"
    design = {
        "name": "real",
        "base": "base.yaml",
        "vary": {"proxy.version": VERSIONS, resolve: ["200ms", "1s"], retry: {"same_as": resolve}},
        "baseline": {"proxy.version": VERSIONS[0], resolve: "1s", retry: "1s"},
        "faults": ["recreate"],
        "until": {"cycles": 2},
        "seed": 7,
    }
    Path("real.yaml").write_text(yaml.safe_dump(design))
    with start() as running:
        deadline = time.monotonic() + LIMIT_S
        while cycles() < 2 and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        running.send_signal(signal.SIGKILL)
    there = cycles()
    assert there >= 2
    with start() as running:
        said, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode in (0, 4), said
    assert "goes on: " in said
    arms = json.loads((PATH / "sweep.json").read_text())["arms"]
    assert len(arms) == 4
    assert cycles() >= 4 * 2 + 2 * 2
    # What was whole when it was killed counts: of the first round that many less are made again.
    answer = json.loads((PATH / "answer.json").read_text())
    found = {arms[key]["name"]: each for key, each in answer["arms"].items()}
    assert len(found) == 4
    for arm in arms.values():
        assert arm["program"]["sha256"]
        assert any("timeout resolve" in line for line in arm["lines"])
    # The sessions of what was killed are gone, and so are those of the second start.
    assert not [place for place in Path("/proc").glob("[0-9]*") if is_of(place, tmp_path)]


def is_of(process: Path, directory: Path) -> bool:
    try:
        return str(directory).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False
