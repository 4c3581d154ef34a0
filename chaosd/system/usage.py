"""What chaosd and all that it has started use, and how much they may use.

Their limits are those of this process (ulimit, affinity), of its control group, and what is left.
What the machine says of itself and of any one process is in machine.py.
"""

from __future__ import annotations

import os
import resource
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chaosd.system import machine

PAGE_BYTES = os.sysconf("SC_PAGESIZE")
CGROUP = Path("/sys/fs/cgroup")  # of version 2, as a container sees its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a process and its descendants have used up to now, or hold now."""

    cpu_s: float
    memory_bytes: int
    processes: int
    descriptors: int  # of the process itself: each has its own limit
    machine_cpu_s: float  # of everybody on this machine that does not give way to us


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What they may use."""

    cores: float
    memory_bytes: int  # that are not in use
    processes: int
    descriptors: int


def used() -> Used:
    """Read what we use now. What can't be read counts as nothing."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    cpu: dict[int, float] = {}
    memory: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError, IndexError, ValueError):
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            fields = text.rpartition(")")[2].split()
            pid = int(entry.name)
            children[int(fields[1])].append(pid)
            # Its own, and that of its children that have ended.
            cpu[pid] = sum(int(field) for field in fields[11:15]) / machine.TICKS_PER_S
            memory[pid] = int(fields[21]) * PAGE_BYTES
    ours, left = [os.getpid()], [os.getpid()]
    while left:
        found = children[left.pop()]
        ours += found
        left += found
    return Used(
        cpu_s=sum(cpu.get(pid, 0.0) for pid in ours),
        memory_bytes=sum(memory.get(pid, 0) for pid in ours),
        processes=len(ours),
        descriptors=machine.own_descriptors(),
        machine_cpu_s=machine.busy_s(),
    )


def limits() -> Limits:
    """Read what we may use. What can't be read is no limit."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    pids = _number(CGROUP / "pids.max")
    if processes == resource.RLIM_INFINITY or os.geteuid() == 0:  # no limit for root
        processes = 1 << 22
    return Limits(
        cores=_cores(),
        memory_bytes=_memory_bytes(),
        processes=processes if pids is None else min(processes, pids),
        descriptors=1 << 30 if descriptors == resource.RLIM_INFINITY else descriptors,
    )


def _cores() -> float:
    cores = float(len(os.sched_getaffinity(0)))
    with suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text(encoding="utf-8").split()
        cores = min(cores, int(quota) / int(period))
    return cores


def _memory_bytes() -> int:
    known = machine.memory()
    free = 1 << 50 if known is None else known.available_bytes
    most, current = _number(CGROUP / "memory.max"), _number(CGROUP / "memory.current")
    return free if most is None or current is None else min(free, max(0, most - current))


def _number(path: Path) -> int | None:
    """What stands there; None if it can't be read, or is `max`."""
    with suppress(OSError, ValueError):
        return int(path.read_text(encoding="utf-8"))
    return None
