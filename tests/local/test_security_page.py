"""docs/security.md says all that listens during a run, and with which capabilities."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import listening
import pytest
import yaml
from listening import Socket

pytestmark = [pytest.mark.haproxy, pytest.mark.usefixtures("haproxy")]

CONFIG = {
    "name": "t",
    "runtime": "local",
    "metrics": {"listen": "127.0.0.1:0"},
    "proxy": {"resolvers": {"timeout_resolve": "200ms"}, "type": "haproxy"},
    "faults": [{"type": "recreate", "every": "4s", "old_ip": "imposter", "gap": "1s"}],
    "until": {"time": "20s"},
}


def whose(pid: int, daemon: int) -> str:
    said = listening.command(pid)
    if pid == daemon or "chaosd.probes" in said or "multiprocessing" in said:
        return "chaosd"
    if "haproxy" in said.split(" ")[0] or "/haproxy" in said:
        return "proxy"
    return "placeholder" if said == "chaosd holder" else "app"


def watch(where: Path, *before: str) -> tuple[dict[str, set[Socket]], dict[str, set[int]]]:
    """All that listens while a run lasts, and the capabilities of each kind of process."""
    (where / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    found: dict[str, set[Socket]] = {}
    masks: dict[str, set[int]] = {}
    with subprocess.Popen(
        [*before, sys.executable, "-m", "chaosd", "run", "c.yaml", "--cycles", "2"],
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as daemon:
        try:
            deadline = time.monotonic() + 60
            while daemon.poll() is None and time.monotonic() < deadline:
                pids = [daemon.pid, *listening.children(daemon.pid) - {daemon.pid}]
                for pid, sockets in listening.listening(pids).items():
                    kind = whose(pid, daemon.pid)
                    found.setdefault(kind, set()).update(sockets)
                    try:
                        masks.setdefault(kind, set()).add(listening.capabilities(pid))
                    except OSError:
                        continue
                time.sleep(0.05)
        finally:
            daemon.terminate()
            said, _ = daemon.communicate()
    assert {"chaosd", "proxy", "app", "placeholder"} <= found.keys(), said.decode()
    return found, masks


def test_what_listens_is_what_the_page_says_and_no_capability_is_needed(tmp_path: Path) -> None:
    """It says so of every process. If it is root that runs this, it gives all of them up before."""
    bare = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    gives_up = os.geteuid() == 0 and shutil.which("setpriv") is not None
    found, masks = watch(tmp_path, *(bare if gives_up else []))
    assert listening.undocumented(found, "local") == ([], [])
    assert set(listening.privileges("local")) == set(masks)
    assert {what for _, what in listening.privileges("local").values()} == {"none needed"}
    has = 0 if gives_up else listening.capabilities(os.getpid())
    for kind, seen in masks.items():
        assert seen <= {has}, f"{kind} has other capabilities than who started chaosd"
