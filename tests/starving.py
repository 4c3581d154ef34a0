"""A real run whose parts are stopped, or whose machine is starved, from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import yaml

from chaosd.history.codec import decode_cycle
from chaosd.history.cycles import Cycle

CONFIG = {
    "name": "late",
    "runtime": "local",
    "metrics": None,
    "faults": [{"type": "recreate", "every": "4s", "jitter": "1s"}],
}
BEGUN_S = 40.0  # until the first cycle begins, on a busy machine
BEGIN, PLACED = '"what":"begin"', '"what":"instance"'
CACHES = ("unbound", "dnsmasq")  # `dns.cache`
PROBER = b"chaosd.probes.worker"  # in its command line
# A plain loop; it ends with who has started it, however that ends.
LOOP = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(10**6):
        pass
"""


class NeverError(Exception):
    """What was waited for did not come."""


class Run:
    """A `chaosd run` of some cycles, in a directory of its own."""

    def __init__(self, where: Path, cycles: int = 1, **keys) -> None:
        where.mkdir(parents=True)
        (where / "c.yaml").write_text(yaml.safe_dump(CONFIG | keys))
        self.where = where
        self.out = (where / "out").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chaosd", "run", "c.yaml", "--cycles", str(cycles)],
            cwd=where,
            stdout=self.out,
            stderr=subprocess.STDOUT,
        )

    @property
    def directory(self) -> Path:
        return (self.where / "runs/latest").resolve()

    def events(self, what: str) -> list[str]:
        file = self.directory / "events.jsonl"
        return [x for x in file.read_text().splitlines() if what in x] if file.exists() else []

    def wait_for(self, what: str, limit_s: float = BEGUN_S) -> str:
        end = time.monotonic() + limit_s
        while time.monotonic() < end and self.process.poll() is None:
            if found := self.events(what):
                return found[-1]
            time.sleep(0.01)
        raise NeverError(f"no {what}: {self.said[-800:]}")

    def pid(self, part: str) -> int:
        if part == "daemon":
            return self.process.pid
        if part == "dns":  # chaosd's DNS in a container
            return _container_pid(f"chaosd-{self.run_id}-c1-dns")
        if part == "prober":  # a child without a label: it ends with its parent
            return self._child(PROBER)
        program = part in ("haproxy", *CACHES)
        socket = None if program else f"socket:[{self._new_door()}]"
        for entry in self.processes():
            try:
                if program and part.encode() in (entry / "cmdline").read_bytes().split(b"\0")[0]:
                    return int(entry.name)
                if not program and socket in (
                    str(file.readlink()) for file in (entry / "fd").iterdir()
                ):
                    return int(entry.name)
            except OSError:
                continue
        raise ProcessLookupError(part)

    def _child(self, says: bytes) -> int:
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            for pid in (thread / "children").read_text().split():
                if says in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
        raise ProcessLookupError(says.decode())

    @property
    def run_id(self) -> str:
        return str(json.loads((self.directory / "run.json").read_text())["run"])

    def processes(self) -> Iterator[Path]:
        """What this run has started and is still there, in /proc."""
        label = f"CHAOSD_RUN={self.run_id}".encode()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and label in (entry / "environ").read_bytes().split(b"\0"):
                    yield entry
            except OSError:
                continue

    def next_cycle(self, after: int, limit_s: float = BEGUN_S) -> int:
        """Wait until a later cycle than this one has begun, and say which."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end and self.process.poll() is None:
            begun = self.events(BEGIN)
            if begun and (number := int(json.loads(begun[-1])["cycle"])) > after:
                return number
            time.sleep(0.01)
        raise NeverError(f"no cycle after {after}: {self.said[-800:]}")

    def _new_door(self) -> str:
        """The inode of the socket on which the new instance listens."""
        new = json.loads(self.wait_for(BEGIN))["data"]["new"]
        placed = [json.loads(x)["data"] for x in self.events(PLACED) if new in x]
        if not placed:
            raise ProcessLookupError(new)
        ip = bytes(map(int, placed[0]["ip"].split(".")))[::-1].hex().upper()
        where = f"{ip}:{placed[0]['port']:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[1] == where and words[3] == "0A":
                return words[9]
        raise ProcessLookupError(new)

    def wait(self, limit_s: float = 120) -> list[Cycle]:
        self.process.wait(limit_s)
        lines = (self.directory / "cycles.jsonl").read_text().splitlines()
        return [decode_cycle(line) for line in lines]

    @property
    def said(self) -> str:
        return (self.where / "out").read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.out.close()


@contextmanager
def running(*args, **keys) -> Iterator[Run]:
    run = Run(*args, **keys)
    try:
        yield run
    finally:
        run.close()


class Stop(NamedTuple):
    """When a part was stopped: in this cycle, or when that had just ended."""

    cycle: int
    from_ns: int


def stop(run: Run, part: str, delay_s: float, stop_s: float, after: int = 0) -> Stop:
    """Stop this part for a while, so long after the next T0; it goes on whatever happens here.

    The cycle is one after `after`. Events are read with a delay, on a busy machine of a second.
    """
    cycle = run.next_cycle(after)
    time.sleep(delay_s)
    limit, pid = time.monotonic() + 5, None
    while pid is None and time.monotonic() < limit:
        try:
            pid = run.pid(part)
        except ProcessLookupError:  # the new app has not been started yet
            time.sleep(0.01)
    assert pid is not None, part
    from_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(stop_s)
    finally:
        with suppress(ProcessLookupError):  # it was killed meanwhile, as an app may be
            os.kill(pid, signal.SIGCONT)
    return Stop(cycle, from_ns)


def _container_pid(name: str) -> int:
    done = subprocess.run(
        ["docker", "inspect", "-f", "{{.State.Pid}}", name],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or int(done.stdout) == 0:
        raise ProcessLookupError(name)
    return int(done.stdout)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many plain loops beside it, each in a session of its own."""
    with ExitStack() as stack:
        for _ in range(count):
            command = [sys.executable, "-I", "-S", "-c", LOOP, str(os.getpid())]
            loop = subprocess.Popen(command, start_new_session=True)
            stack.callback(loop.wait)
            stack.callback(loop.kill)
        yield


# What goes on for so long is still going on when its beginning was read, a second late at times.
LASTING = {"measure": {"stable_for": "4s"}}
# Runs chaosd, and fills the connection-tracking table of its namespace once a cycle has begun.
FILL = """
import pathlib, socket, subprocess, sys, time
run = subprocess.Popen([sys.executable, "-m", "chaosd", "run", "c.yaml", "--cycles", "1"])
try:
    events, number = pathlib.Path("runs/latest/events.jsonl"), 0
    about = pathlib.Path("/proc/sys/net/netfilter")
    most = int((about / "nf_conntrack_max").read_text())
    out = socket.socket(type=socket.SOCK_DGRAM)

    def add(count):
        global number
        for number in range(number, number + count):
            where = f"127.{200 + number // 65536 % 50}.{number // 256 % 256}.{number % 256}", 9
            try:
                out.sendto(b"", where)
            except OSError:  # it is full: whatever is new is dropped, this too
                break
        if int((about / "nf_conntrack_count").read_text()) > most - 1000:
            pathlib.Path("full").touch()

    end = time.monotonic() + 40
    while time.monotonic() < end and not (events.exists() and '"begin"' in events.read_text()):
        add(2000 if number < most - 10000 else 0)
        time.sleep(0.005)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        add(2000)
    run.wait(90)
finally:
    if run.poll() is None:
        run.terminate()
        run.wait(30)
"""
# Entries stay until the table is full, however long that takes.
TRACK = (
    "ip link set lo up && iptables -A OUTPUT -m conntrack --ctstate NEW -j ACCEPT && "
    "echo 600 > /proc/sys/net/netfilter/nf_conntrack_udp_timeout"
)


def can_track() -> bool:
    try:
        tried = subprocess.run(
            ["unshare", "-n", "sh", "-c", TRACK], capture_output=True, check=False
        )
    except OSError:
        return False
    return tried.returncode == 0 and Path("/proc/sys/net/netfilter/nf_conntrack_max").exists()
