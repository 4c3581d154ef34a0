"""An engine of the tests' own, that may be ended: in a network namespace where nobody else is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import pytest

from chaosd.runtimes.docker import images

START_LIMIT_S, END_LIMIT_S = 30, 30
SCRIPT = """\
ip link set lo up
exec dockerd --data-root {root}/data --exec-root {root}/exec --pidfile {root}/pid \
  -H unix://{root}/sock --bridge=none --config-file {root}/daemon.json --log-level warn {driver}
"""


class OwnEngine:
    """A `dockerd` with its own images and state in a directory with a short path."""

    def __init__(self, root: Path, like: docker.APIClient) -> None:
        self.root = root
        self.url = f"unix://{root}/sock"
        self._version = like.api_version
        (root / "daemon.json").write_text("{}")
        driver = f"--storage-driver {like.info()['Driver']}"
        (root / "start.sh").write_text(SCRIPT.format(root=root, driver=driver))
        # It keeps the namespace while there is no engine in it.
        self._keeper = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        self._process: subprocess.Popen[bytes] | None = None
        time.sleep(0.2)
        self.start()
        for tag in (images.app_tag(), images.haproxy_tag(images.DEFAULT_HAPROXY)):
            with self._api() as api:
                api.load_image(b"".join(like.get_image(tag)))

    @property
    def inside(self) -> list[str]:
        """What makes a command run in its namespace, where its containers can be reached."""
        return ["nsenter", f"--target={self._keeper.pid}", "--net"]

    def start(self) -> None:
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.inside, "sh", self.root / "start.sh"], stdout=log, stderr=log
            )
        limit = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit and self._process.poll() is None:
            with socket.socket(socket.AF_UNIX) as knock, suppress(OSError):
                knock.connect(f"{self.root}/sock")
                return  # what is asked now waits until it is ready
            time.sleep(0.1)
        pytest.skip(f"a second engine does not start: {(self.root / 'log').read_text()[-300:]}")

    def stop(self) -> None:
        """End it as `systemctl stop docker` does, with its containers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(END_LIMIT_S)
        self._process = None

    def left(self) -> list[str]:
        with self._api() as api:
            containers, networks = api.containers(all=True), api.networks()
        names = [c["Names"][0] for c in containers] + [n["Name"] for n in networks]
        return [name for name in names if "chaosd" in name]

    def close(self) -> None:
        """End everything of it."""
        if self._process is None:
            self.start()
        with self._api() as api:
            for container in api.containers(all=True):
                api.remove_container(container["Id"], force=True, v=True)
        self.stop()
        subprocess.run(["umount", self.root / "data"], check=False, stderr=subprocess.DEVNULL)
        self._keeper.kill()
        self._keeper.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    @contextmanager
    def _api(self) -> Iterator[docker.APIClient]:
        api = docker.APIClient(self.url, version=self._version, timeout=20)
        try:
            yield api
        finally:
            api.close()


def why_not() -> str | None:
    """Why there can't be one here."""
    if os.geteuid() != 0:
        return "a second Docker engine needs root"
    lacking = [name for name in ("dockerd", "unshare", "nsenter", "ip") if not shutil.which(name)]
    return f"a second Docker engine needs {', '.join(lacking)}" if lacking else None
