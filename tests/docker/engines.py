#!/usr/bin/env python3
"""Failovers on another Docker engine: that of a Debian suite, unpacked and run in a chroot.

    engines.py trixie [COMMAND…]      # without one: eight failovers

The engine has network and mount namespaces of its own, and its own images and state. The command
runs in its network namespace, with a DOCKER_HOST. When it ends, all is taken down. It needs root,
mmdebstrap, a Debian mirror (apt's own), and chaosd's images on the engine of this machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import docker
from swarm_box import (
    DIES,
    END_LIMIT_S,
    BoxError,
    Space,
    is_up,
    load,
    unmount,
    wait_until_up,
    why_not,
)

from chaosd.errors import MachineError
from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.endpoint import from_environment

SUITES = {"bookworm": "20.10", "trixie": "26.1", "sid": "28.5"}  # and their engines
PACKAGES = "docker.io,iptables"
UNPACK_LIMIT_S = 600
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "chaosd/engines"
FAILOVERS = ["run", str(Path(__file__).parents[2] / "configs/docker.yaml"), "--cycles", "8"]
# In mount and network namespaces of its own; $0 is the root, $1 where its state is. Its root has to
# be a mount, or it can load no image.
START = """
mount --bind "$0" "$0" && cd "$0" && mkdir -p proc sys dev run tmp ".$1" || exit
for each in proc sys dev; do mount --rbind /$each $each || exit; done
mount -t tmpfs tmpfs run && mount --bind "$1" ".$1" || exit
for each in iptables ip6tables; do ln -sf $each-nft usr/sbin/$each; done  # no package set it up
exec chroot . dockerd -H unix://$1/sock --data-root $1/data --exec-root $1/exec --pidfile $1/pid \
  --config-file $1/daemon.json --log-level warn --storage-driver vfs
"""


def unpacked(suite: str) -> Path:
    """The suite's engine with what it needs, unpacked once. Raises BoxError."""
    root = CACHE / suite
    if root.is_dir():
        return root
    if shutil.which("mmdebstrap") is None:
        raise BoxError("mmdebstrap is not here (apt install mmdebstrap)")
    half = root.with_name(f"{suite}-half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        images.unpack(suite, PACKAGES, images.debian_mirror(), half, limit_s=UNPACK_LIMIT_S)
    except MachineError as error:
        shutil.rmtree(half, ignore_errors=True)
        raise BoxError(str(error)) from None
    half.rename(root)
    return root


class Engine:
    """An engine of another Debian suite, with chaosd's images."""

    def __init__(self, suite: str) -> None:
        if (reason := why_not()) is not None:
            raise BoxError(reason)
        self.root = unpacked(suite)
        self.state = Path(tempfile.mkdtemp(prefix="chaosd-n-", dir="/tmp"))
        self.url = f"unix://{self.state}/sock"
        (self.state / "daemon.json").write_text("{}")
        self.space = Space()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
            self._load()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        log = self.state / "log"
        started = [*DIES, *self.space.inside, "unshare", "--mount", "sh", "-c", START]
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                [*started, self.root, self.state], stdout=said, stderr=said, start_new_session=True
            )
        wait_until_up(self._process, self.state / "sock", log, "the engine")

    def _load(self) -> None:
        with from_environment().client() as like, self.api() as api:
            for tag in (images.app_tag(), images.haproxy_tag(images.DEFAULT_HAPROXY)):
                load(api, b"".join(like.get_image(tag)))
            self.version = api.version()["Version"]

    def api(self) -> docker.APIClient:
        return docker.APIClient(self.url, version="auto", timeout=120)

    def close(self) -> None:
        if self._process is not None and is_up(self.state / "sock"):
            with self.api() as api:
                for container in api.containers(all=True):
                    api.remove_container(container["Id"], force=True, v=True)
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(END_LIMIT_S)
        self.space.close()
        unmount(self.state)
        shutil.rmtree(self.state, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    try:
        engine = Engine(asked.suite)
    except BoxError as error:
        print(f"engines: {error}", file=sys.stderr)
        return 3
    try:
        print(f"Docker {engine.version} of Debian {asked.suite}", flush=True)
        command = asked.command or [sys.executable, "-m", "chaosd", *FAILOVERS]
        where = os.environ | {"DOCKER_HOST": engine.url}
        return subprocess.run([*engine.space.inside, *command], env=where, check=False).returncode
    finally:
        engine.close()


if __name__ == "__main__":
    sys.exit(main())
