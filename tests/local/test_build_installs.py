"""A build of HAProxy for real: fetched without root, killed half-way, installed, and started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaosd.errors import MachineError
from chaosd.proxies.haproxy.builds import debian

LINE = "3.0"
NOBODY = 65534
CONFIG = """\
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
listen l
    bind unix@/nowhere/socket
    server s localhost:1
"""


@pytest.fixture
def cache() -> Iterator[Path]:
    """A place that another user may read, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="chaosd-builds-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def ordinary_user() -> list[str]:
    """What makes a command another user's, where we are root and that user may start our Python."""
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if os.getuid() != 0:
        return []
    done = subprocess.run([*drop, sys.executable, "-c", ""], capture_output=True, check=False)
    return drop if done.returncode == 0 else []


def start(cache: Path) -> subprocess.Popen[str]:
    command = [*ordinary_user(), sys.executable, "-m", "chaosd", "haproxy", "install", LINE]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "HOME": str(cache)}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_build_is_installed_without_root_and_starts(cache: Path) -> None:
    try:
        debian.mirror()
    except MachineError as error:
        pytest.skip(str(error))
    place = cache / "chaosd" / "haproxy"

    with start(cache) as killed:
        lines = [line for line in killed.stdout or () if _kill_at_fetching(killed, line)]
        error = killed.communicate()[1]
    if "apt-get update" in error:
        pytest.skip(f"the mirror does not answer: {error.strip()}")
    assert lines, error
    assert not (place / LINE).exists()

    with start(cache) as again:
        said, error = again.communicate()
    assert again.returncode == 0, error
    assert "installed" in said
    assert [path.name for path in place.iterdir()] == [LINE]
    description = json.loads((place / LINE / "build.json").read_text())
    assert description["version"].startswith(f"{LINE}.")
    assert all(len(file["sha256"]) == 64 for file in description["files"])

    (cache / "haproxy.cfg").write_text(CONFIG)
    (cache / "haproxy.cfg").chmod(0o644)
    command = [place / LINE / "haproxy", "-c", "-f", cache / "haproxy.cfg"]
    user = NOBODY if os.getuid() == 0 else None
    done = subprocess.run(command, capture_output=True, text=True, check=False, user=user)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([command[0], "-v"], capture_output=True, check=True).stdout


def _kill_at_fetching(process: subprocess.Popen[str], line: str) -> bool:
    """Kill an install, and what it started, once it has begun to fetch packages."""
    if "fetching" not in line:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    return True
