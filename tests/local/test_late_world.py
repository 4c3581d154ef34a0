"""Cycles in a world that was late: a real HAProxy, and processes that are really stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import budget
import pytest
import yaml

from chaosd.history.causes import DoubtKind, LagKind
from chaosd.history.codec import decode_cycle
from chaosd.history.cycles import Cycle, CycleOutcome

# These stop or starve processes of the whole machine: nothing else may run beside them.
pytestmark = [pytest.mark.haproxy, pytest.mark.quiet, pytest.mark.usefixtures("haproxy")]

CONFIG = {
    "name": "late",
    "runtime": "local",
    "metrics": None,
    "faults": [{"type": "recreate", "every": "4s", "jitter": "1s"}],
}
BEGUN_S = 40.0  # until the first cycle begins, on a busy machine
DELAY_S_MAX = 0.8  # after T0: the cycle goes on for at least a second more
PARTS = {
    "daemon": {LagKind.DAEMON_STOPPED},
    "haproxy": {LagKind.PROXY_STOPPED},
    "app": {LagKind.APP_STOPPED},
}


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

    def wait_for(self, what: str, limit_s: float = BEGUN_S, count: int = 1) -> str:
        """The last of them, once there are so many."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end and self.process.poll() is None:
            if len(found := self.events(what)) >= count:
                return found[-1]
            time.sleep(0.01)
        pytest.fail(f"no {what}: {(self.where / 'out').read_text()[-800:]}")

    def pid(self, part: str) -> int:
        if part == "daemon":
            return self.process.pid
        run = f"CHAOSD_RUN={json.loads((self.directory / 'run.json').read_text())['run']}".encode()
        socket = None if part == "haproxy" else f"socket:[{self._new_door()}]"
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and run in (entry / "environ").read_bytes().split(b"\0"):
                    if socket is None and b"haproxy" in (entry / "cmdline").read_bytes():
                        return int(entry.name)
                    if socket in (str(file.readlink()) for file in (entry / "fd").iterdir()):
                        return int(entry.name)
            except OSError:
                continue
        raise ProcessLookupError(part)

    def _new_door(self) -> str:
        """The inode of the socket on which the new instance listens."""
        new = json.loads(self.wait_for('"what":"begin"'))["data"]["new"]
        placed = [json.loads(x)["data"] for x in self.events('"what":"instance"') if new in x]
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


def stop(run: Run, part: str, delay_s: float, stop_s: float, nth: int = 1) -> None:
    """Stop this part for a while, so long after the nth T0; it goes on whatever happens here."""
    run.wait_for('"what":"begin"', count=nth)
    time.sleep(delay_s)
    limit, pid = time.monotonic() + 5, None
    while pid is None and time.monotonic() < limit:
        try:
            pid = run.pid(part)
        except ProcessLookupError:  # the new app has not been started yet
            time.sleep(0.01)
    assert pid is not None, part
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(stop_s)
    finally:
        os.kill(pid, signal.SIGCONT)


def stopped_at(where: Path, part: str, delay_s: float, stop_s: float) -> tuple[Cycle, str]:
    with running(where) as run:
        stop(run, part, delay_s, stop_s)
        [cycle] = run.wait()
        return cycle, run.said


def check(cycle: Cycle, said: str, part: str, stop_s: float) -> None:
    assert cycle.outcome in (CycleOutcome.RECOVERED, CycleOutcome.CENSORED), cycle
    assert cycle.doubt is not None, cycle
    assert cycle.doubt.kind is DoubtKind.WORLD_LATE, cycle
    assert cycle.doubt.lag in PARTS[part], cycle
    assert 0.1 < cycle.doubt.seconds <= stop_s + 0.5, cycle
    assert "poor: " in said
    assert "verdict: unknown" in said


def test_a_part_that_is_stopped_in_a_cycle_makes_it_poor_and_is_named(tmp_path) -> None:
    """Each in a cycle of its own."""
    faults = [{"type": "recreate", "every": "5s", "jitter": "500ms"}]
    with running(tmp_path / "d", cycles=len(PARTS), faults=faults) as run:
        for nth, part in enumerate(PARTS, start=1):
            stop(run, part, delay_s=0.3, stop_s=2.0, nth=nth)
        cycles = [cycle for cycle in run.wait() if cycle.outcome is not CycleOutcome.SKIPPED]
    assert len(cycles) == len(PARTS)
    for cycle, part in zip(cycles, PARTS, strict=True):
        check(cycle, run.said, part, 2.0)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_forty_stops_at_random_instants_of_a_cycle(tmp_path) -> None:
    rng = random.Random(12)
    for number in range(40):
        part, delay_s = rng.choice(list(PARTS)), rng.uniform(0, DELAY_S_MAX)
        stop_s = rng.choice([1.0, 2.0, 2.0, 15.0])
        cycle, said = stopped_at(tmp_path / str(number), part, delay_s, stop_s)
        check(cycle, said, part, stop_s)


@pytest.mark.sized
def test_what_computes_beside_it_makes_no_cycle_poor(tmp_path) -> None:
    """Plain busy loops, four for each core: those cycles are right, and stay good."""
    loop, count = [sys.executable, "-I", "-S", "-c", "while True: pass"], budget.of(3, 8)
    with ExitStack() as stack:
        run = stack.enter_context(running(tmp_path / "d", cycles=count, cells=2))
        run.wait_for('"what":"begin"')
        for _ in range(4 * (os.cpu_count() or 1)):
            busy = subprocess.Popen(loop, start_new_session=True)
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        cycles = [c for c in run.wait() if c.outcome is not CycleOutcome.SKIPPED]
    assert sum(c.doubt is not None for c in cycles) <= 1, [c.doubt for c in cycles]
    assert len(cycles) >= count


# Runs chaosd, and fills the connection-tracking table of its namespace once a cycle has begun.
FILL = """
import pathlib, socket, subprocess, sys, time
run = subprocess.Popen([sys.executable, "-m", "chaosd", "run", "c.yaml", "--cycles", "1"])
try:
    events, number = pathlib.Path("runs/latest/events.jsonl"), 0
    most = int(pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    out = socket.socket(type=socket.SOCK_DGRAM)

    def add(count):
        global number
        for number in range(number, number + count):
            where = f"127.{200 + number // 65536 % 50}.{number // 256 % 256}.{number % 256}", 9
            try:
                out.sendto(b"", where)
            except OSError:  # it is full: whatever is new is dropped
                return

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
TRACK = "ip link set lo up && iptables -A OUTPUT -m conntrack --ctstate NEW -j ACCEPT"


def _can_track() -> bool:
    try:
        tried = subprocess.run(
            ["unshare", "-n", "sh", "-c", TRACK], capture_output=True, check=False
        )
    except OSError:
        return False
    return tried.returncode == 0 and Path("/proc/sys/net/netfilter/nf_conntrack_max").exists()


@pytest.mark.slow
def test_a_full_connection_tracking_table_makes_a_cycle_poor_and_is_named(tmp_path) -> None:
    if not _can_track():
        pytest.skip("no network namespace with connection tracking can be made here")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "fill.py").write_text(FILL)
    script = f"{TRACK} && exec '{sys.executable}' fill.py"
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True,
        timeout=115, check=False,
    )  # fmt: skip
    [line] = (tmp_path / "runs/latest/cycles.jsonl").read_text().splitlines()
    cycle = decode_cycle(line)
    assert cycle.doubt is not None, done.stderr[-500:]
    assert cycle.doubt.lag is LagKind.CONNTRACK_FULL, cycle
    assert cycle.world_lost["conntrack-full"] > 0
    assert "connection-tracking table is full" in done.stdout + done.stderr
