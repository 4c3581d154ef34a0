#!/usr/bin/env python3
"""A swarm in a box: several real Docker engines on one machine, each in a network namespace.

    swarm_box.py [--nodes 2] [--managers 1] [--haproxy 3.0] [COMMAND…]    # without one: a shell

Each node is an engine with its own images and state. A bridge in a namespace of its own, the hub,
joins them. The command runs in the hub, from where each node's address is reached, and with a
DOCKER_CONFIG in which the nodes are contexts (`node-1`, `node-2`, …). When it ends, everything is
taken down; what `kill -9` leaves goes with this process, but for the directory.

It needs root, `dockerd`, and chaosd's images on the engine of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import docker

from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.endpoint import from_environment

START_LIMIT_S, END_LIMIT_S, READY_LIMIT_S = 30, 30, 30
PROGRAMS = ("dockerd", "unshare", "nsenter", "setpriv", "ip", "umount")
DIES = ("setpriv", "--pdeathsig", "TERM")  # with this process, also by kill -9
NAMED = 'hostname "$0" && exec dockerd "$@"'
SUBNET = "10.99.0"  # of the hub: seen by nobody outside of the namespaces


class BoxError(Exception):
    """It can't be made here: why, in one line."""


def why_not() -> str | None:
    """Why there can't be one here, in one line."""
    if os.geteuid() != 0:
        return "a swarm in a box needs root"
    lacking = [name for name in PROGRAMS if not shutil.which(name)]
    return f"a swarm in a box needs {', '.join(lacking)}" if lacking else None


class Space:
    """A network namespace, kept by a process that ends with this one."""

    def __init__(self) -> None:
        keeper = [*DIES, "unshare", "--net", "sleep", "infinity"]
        ours = Path("/proc/self/ns/net").readlink()
        self._keeper = subprocess.Popen(keeper)
        limit = time.monotonic() + 5
        while Path(f"/proc/{self._keeper.pid}/ns/net").readlink() == ours:
            if self._keeper.poll() is not None or time.monotonic() > limit:
                raise BoxError("no network namespace can be made here")
            time.sleep(0.01)
        self.ip("link set lo up")

    @property
    def inside(self) -> list[str]:
        """What makes a command run in it. `ip netns exec` would hide the cgroups."""
        return ["nsenter", f"--net=/proc/{self._keeper.pid}/ns/net"]

    @property
    def pid(self) -> int:
        return self._keeper.pid

    def ip(self, words: str) -> None:
        made = subprocess.run(
            [*self.inside, "ip", *words.split()], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise BoxError(f"ip {words}: {made.stderr.strip()}")

    def close(self) -> None:
        self._keeper.kill()
        self._keeper.wait()


def is_up(sock: Path) -> bool:
    """Whether an engine takes connections; what it is asked then waits until it is ready."""
    with socket.socket(socket.AF_UNIX) as knock, suppress(OSError):
        knock.connect(str(sock))
        return True
    return False


def wait_until_up(engine: subprocess.Popen[bytes], sock: Path, log: Path, name: str) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit and engine.poll() is None:
        if is_up(sock):
            return
        time.sleep(0.1)
    raise BoxError(f"{name} does not start: {log.read_text()[-300:]}")


def unmount(root: Path) -> None:
    """What an engine has mounted in its state, such as images and containers."""
    for line in Path("/proc/mounts").read_text().splitlines():
        if (place := line.split()[1]).startswith(f"{root}/"):
            subprocess.run(["umount", "-l", place], check=False, stderr=subprocess.DEVNULL)


def load(api: Any, image: bytes) -> None:
    """Load a saved image, and wait until it is there. Raises BoxError."""
    for said in api.load_image(image):
        if "error" in said:
            raise BoxError(f"an image can't be loaded: {said['error']}")


class Node:
    """One engine in its namespace."""

    def __init__(self, number: int, root: Path, hub: Space) -> None:
        self.name = f"node-{number}"
        self.address = f"{SUBNET}.{10 + number}"
        self.root = root / str(number)
        self.url = f"unix://{self.root}/sock"
        self._hub, self._link = hub, f"n{number}"
        self._process: subprocess.Popen[bytes] | None = None
        self.root.mkdir()
        (self.root / "daemon.json").write_text("{}")
        self.space = Space()
        hub.ip(f"link add {self._link} type veth peer name eth0 netns {self.space.pid}")
        hub.ip(f"link set {self._link} master hub up")
        self.space.ip(f"addr add {self.address}/24 dev eth0")
        self.space.ip("link set eth0 up")
        self.space.ip(f"route add default via {SUBNET}.1")  # an engine looks for one

    def start(self, driver: str) -> None:
        own = [
            *("--data-root", self.root / "data", "--exec-root", self.root / "exec"),
            *("--pidfile", self.root / "pid", "--config-file", self.root / "daemon.json"),
            *("-H", self.url, "--bridge=none", "--log-level", "warn", "--storage-driver", driver),
        ]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                # A host name of its own, by which people tell nodes.
                [*DIES, *self.space.inside, "unshare", "--uts", "sh", "-c", NAMED, self.name, *own],
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the command alone
            )

    def wait(self) -> None:
        """Return when it answers."""
        assert self._process is not None
        wait_until_up(self._process, self.root / "sock", self.root / "log", self.name)

    @contextmanager
    def api(self) -> Iterator[Any]:
        client = docker.APIClient(self.url, version="auto", timeout=60)
        try:
            yield client
        finally:
            client.close()

    def cut(self) -> None:
        """Take its cable out."""
        self._hub.ip(f"link set {self._link} down")

    def mend(self) -> None:
        self._hub.ip(f"link set {self._link} up")

    def left(self) -> list[str]:
        """What it has of chaosd's."""
        with self.api() as api:
            names = [c["Names"][0].lstrip("/") for c in api.containers(all=True)]
            names += [n["Name"] for n in api.networks()]
            with suppress(docker.errors.APIError):  # a worker knows of no services
                names += [s["Spec"]["Name"] for s in api.services()]
        return [name for name in names if name.startswith("chaosd-")]

    def close(self) -> None:
        """End it with its containers."""
        with suppress(Exception), self.api() as api:
            for container in api.containers(all=True):
                api.remove_container(container["Id"], force=True, v=True)
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        unmount(self.root)
        self.space.close()


class Box:
    """Nodes that form one swarm: the first is its manager, or, of several, the last leads them."""

    def __init__(
        self,
        nodes: int = 2,
        haproxy: Sequence[str] = (images.DEFAULT_HAPROXY,),
        managers: int = 1,
    ) -> None:
        if (reason := why_not()) is not None:
            raise BoxError(reason)
        self.root = Path(
            tempfile.mkdtemp(prefix="chaosd-b-", dir="/tmp")
        )  # sockets' paths are short
        self.nodes: list[Node] = []
        self.hub: Space | None = None
        self._managers = managers
        try:
            self._make(nodes, [images.app_tag(), *map(images.haproxy_tag, haproxy)])
        except BaseException:
            self.close()
            raise

    def _make(self, count: int, tags: Sequence[str]) -> None:
        like = from_environment().client()
        if lacking := images.missing(like, tags):
            raise BoxError(f"this machine's engine has no image {', '.join(lacking)} (make images)")
        driver = like.info()["Driver"]
        self.hub = Space()
        self.hub.ip("link add hub type bridge")
        self.hub.ip(f"addr add {SUBNET}.1/24 dev hub")
        self.hub.ip("link set hub up")
        for number in range(1, count + 1):
            node = Node(number, self.root, self.hub)
            self.nodes.append(node)
            node.start(driver)
        for node in self.nodes:
            node.wait()
        saved = {tag: b"".join(like.get_image(tag)) for tag in tags}
        like.close()
        for node in self.nodes:
            with node.api() as api:
                for image in saved.values():
                    load(api, image)
        self._join()
        self._write_contexts()

    def _join(self) -> None:
        first, *others = self.nodes if self._managers == 1 else reversed(self.nodes)
        with first.api() as manager:
            manager.init_swarm(advertise_addr=first.address, listen_addr=f"{first.address}:2377")
            tokens = manager.inspect_swarm()["JoinTokens"]
            for count, node in enumerate(others, start=1):
                token = tokens["Manager" if count < self._managers else "Worker"]
                with node.api() as api:
                    api.join_swarm(
                        [f"{first.address}:2377"], token, f"{node.address}:2377", node.address
                    )
            limit = time.monotonic() + READY_LIMIT_S
            while sum(n["Status"]["State"] == "ready" for n in manager.nodes()) < len(self.nodes):
                if time.monotonic() > limit:
                    raise BoxError("its nodes don't find each other")
                time.sleep(0.1)

    def _write_contexts(self) -> None:
        for node in self.nodes:
            folder = self.root / "cli/contexts/meta" / sha256(node.name.encode()).hexdigest()
            folder.mkdir(parents=True)
            where = {"docker": {"Host": node.url, "SkipTLSVerify": False}}
            meta = {"Name": node.name, "Metadata": {}, "Endpoints": where}
            (folder / "meta.json").write_text(json.dumps(meta))
        (self.root / "cli/config.json").write_text("{}")  # without it the SDK sees no contexts

    @property
    def inside(self) -> list[str]:
        """What makes a command run in the hub."""
        assert self.hub is not None
        return self.hub.inside

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_CONFIG": str(self.root / "cli")}

    def left(self) -> list[str]:
        return [f"{node.name}: {what}" for node in self.nodes for what in node.left()]

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.close()
        if self.hub is not None:
            self.hub.close()
        shutil.rmtree(self.root, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--managers", type=int, default=1, help="how many nodes are managers")
    parser.add_argument("--haproxy", action="append", help="a version, of `chaosd images`")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        box = Box(asked.nodes, asked.haproxy or [images.DEFAULT_HAPROXY], asked.managers)
    except BoxError as error:
        print(f"swarm_box: {error}", file=sys.stderr)
        return 3
    try:
        for node in box.nodes:
            print(f"{node.name} at {node.address}: {node.url} (pid {node.space.pid})", flush=True)
        command = asked.command or [os.environ.get("SHELL", "sh")]
        running = subprocess.Popen([*box.inside, *command], env=os.environ | box.environment)
        while True:
            try:
                return running.wait()
            except KeyboardInterrupt:  # it is the command's
                continue
            except SystemExit:
                running.terminate()
                raise
    finally:
        box.close()


if __name__ == "__main__":
    sys.exit(main())
