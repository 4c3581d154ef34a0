"""What /proc says of the machine as a whole, and of any one process on it.

What chaosd itself uses of the machine, and may use, is in usage.py.

How to use it. All readings are cumulative or momentary: read twice and subtract. What a machine or
kernel does not have is None or left out, and then nothing may be claimed.

    gauge = ProcessGauge(pid)             # of a process and its threads; keeps files open
    before, after = gauge.read(), …       # Scheduled(ran_ns, waited_ns, turns); None: it ended
    after.waited_ns - before.waited_ns    # waited for a CPU: the world was late, not the process
    gauge.is_stopped()                    # by SIGSTOP, a debugger or a frozen control group
    tracking()                            # Tracking(entries, entries_max, …): conntrack, or None
    dropped()                             # {Counter.CONNTRACK_DROP: 0, …}: packets thrown away
    busy_s()                              # of all CPUs, since the machine started
    memory()                              # Memory(available_bytes, total_bytes), or None
    open_files_max()                      # what a program may raise its limit to, or None
    descriptors()                         # Descriptors(used, used_max) of all processes, or None
    ports(), time_wait(), own_descriptors()
    has_ipv6_route(), nameservers()       # what resolving goes by; no route and 0 where unknown
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
THREADS_MAX = 256  # of one process that are looked at
SCHEDSTAT_BYTES_MAX = GROUP_BYTES_MAX = 128
CPU_STAT_BYTES_MAX = 1024
RESOLV_CONF = Path("/etc/resolv.conf")
ROUTE_FIELDS, ROUTE_REJECTS = 10, 0x200  # of /proc/net/ipv6_route; RTF_REJECT of its flags
CAP_SYS_RESOURCE = 24  # the number of this capability
STOPPED_STATES = "Tt"  # by a signal, by a tracer
WAITING_STATES = "D"  # in a frozen control group of the first version; of the second it is S
STAT_BYTES_MAX = 64  # of a line that begins with a number, a name of 15 bytes, and the state
CONTROL_GROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


class Scheduled(NamedTuple):
    """What the scheduler has given to a process since it started: all of its threads together."""

    ran_ns: int  # on a CPU: what it burned
    waited_ns: int  # ready to run, and no CPU for it
    turns: int  # how often it was given one
    throttled_ns: int = 0  # kept from it because its control group had used up what it may use

    def held_ns(self, before: Scheduled) -> int:
        """For how long there was no CPU for it since then; some kernels count one in the other."""
        return max(self.waited_ns - before.waited_ns, self.throttled_ns - before.throttled_ns)


class ProcessGauge:
    """Reads one process's turns on the CPU again and again, at some microseconds a thread.

    Threads that start later than the gauge are not seen: HAProxy starts all of its own at once.
    With `first_only` it is the thread that the process began with, such as an event loop's.
    Raises OSError if there is no such process, or no schedstat in this kernel.
    """

    def __init__(
        self,
        pid: int,
        proc: Path = PROC,
        *,
        first_only: bool = False,
        groups: Sequence[Path] = CONTROL_GROUPS,
    ) -> None:
        self.pid = pid
        self._proc = proc
        self._files: list[int] = []
        own = _groups(proc / str(pid), groups)
        self._group, self._stat = _opened(own, "cgroup.events"), -1
        self._throttled = [file for place in own if (file := _throttles(place)) >= 0]
        threads_max = 1 if first_only else THREADS_MAX
        try:
            self._stat = os.open(proc / str(pid) / "stat", os.O_RDONLY | os.O_CLOEXEC)
            tasks = [int(task.name) for task in (proc / str(pid) / "task").iterdir()]
            for task in (proc / str(pid) / "task" / str(name) for name in sorted(tasks)):
                if len(self._files) == threads_max:
                    break
                self._files.append(os.open(task / "schedstat", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self.close()
            raise

    def read(self) -> Scheduled | None:
        """What it was given so far; None if it has ended."""
        ran_ns = waited_ns = turns = 0
        try:
            for file in self._files:
                ran, waited, times = os.pread(file, SCHEDSTAT_BYTES_MAX, 0).split()
                ran_ns, waited_ns, turns = (
                    ran_ns + int(ran),
                    waited_ns + int(waited),
                    turns + int(times),
                )
        except (OSError, ValueError):
            return None
        throttled_ns = sum(map(_throttled_ns, self._throttled))
        return Scheduled(ran_ns, waited_ns, turns, throttled_ns) if self._files else None

    def is_stopped(self, *, has_run: bool = False) -> bool:
        """Whether somebody has stopped it; False if that can't be known.

        One that `has_run` since the last look may wait in the kernel for a moment, for a disk.
        """
        state = self._state()
        if state in STOPPED_STATES or has_run:
            return state in STOPPED_STATES
        return state in WAITING_STATES or self._is_frozen()

    def _state(self) -> str:
        with suppress(OSError):
            stat = os.pread(self._stat, STAT_BYTES_MAX, 0).decode(errors="replace")
            # The command's name, in brackets, may have blanks and brackets of its own.
            return stat.rpartition(")")[2].lstrip()[:1] or "?"
        return "?"

    def _is_frozen(self) -> bool:
        with suppress(OSError):
            return self._group >= 0 and b"frozen 1" in os.pread(self._group, GROUP_BYTES_MAX, 0)
        return False

    def close(self) -> None:
        """May be called twice."""
        for file in (*self._files, *self._throttled, self._stat, self._group):
            if file >= 0:
                os.close(file)
        self._files, self._throttled, self._stat, self._group = [], [], -1, -1


def _groups(process: Path, roots: Sequence[Path]) -> list[Path]:
    """The control groups that say when it is frozen and how much CPU it may use, and all above."""
    found: list[Path] = []
    with suppress(OSError, UnicodeDecodeError):
        for line in (process / "cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            for root in (each / controllers for each in roots):
                place = root / path.strip("/")
                found += [x for x in (place, *place.parents) if x.is_relative_to(root)]
    return found


def _opened(places: Sequence[Path], name: str) -> int:
    """The first file of this name, open; -1 if there is none."""
    for place in places:
        with suppress(OSError):
            return os.open(place / name, os.O_RDONLY | os.O_CLOEXEC)
    return -1


def _throttles(place: Path) -> int:
    """What says for how long this group was throttled, open; -1 if it may use all there is."""
    for name, unlimited in (("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")):
        with suppress(OSError, UnicodeDecodeError):
            if (place / name).read_text(encoding="utf-8").split()[:1] != [unlimited]:
                return _opened([place], "cpu.stat")
    return -1


def _throttled_ns(file: int) -> int:
    """The second version counts microseconds, the first one nanoseconds; of all CPUs together."""
    words = os.pread(file, CPU_STAT_BYTES_MAX, 0).split()
    said = dict(zip(words[::2], words[1::2], strict=False))
    return int(said.get(b"throttled_usec", 0)) * 1000 + int(said.get(b"throttled_time", 0))


# --- what the machine throws away -----------------------------------------------------------------


class Counter(StrEnum):
    """Counters of packets that were dropped, in this network namespace. The names are stored."""

    CONNTRACK_DROP = "conntrack_drop"  # no room in the table
    CONNTRACK_EARLY_DROP = "conntrack_early_drop"  # another connection was forgotten to make room
    CONNTRACK_INSERT_FAILED = "conntrack_insert_failed"
    LISTEN_OVERFLOW = "listen_overflow"  # a connection came to a full queue
    LISTEN_DROP = "listen_drop"  # … or was not taken for any other reason


_CONNTRACK = {
    "drop": Counter.CONNTRACK_DROP,
    "early_drop": Counter.CONNTRACK_EARLY_DROP,
    "insert_failed": Counter.CONNTRACK_INSERT_FAILED,
}
_NETWORK = {
    ("netstat", "TcpExt", "ListenOverflows"): Counter.LISTEN_OVERFLOW,
    ("netstat", "TcpExt", "ListenDrops"): Counter.LISTEN_DROP,
}


def dropped(proc: Path = PROC) -> dict[Counter, int]:
    """How many were dropped since the machine started, without the counters that it lacks."""
    found = dict(_conntrack_drops(proc))
    for (file, group, name), counter in _NETWORK.items():
        with suppress(OSError, ValueError):
            lines = (proc / "net" / file).read_text(encoding="utf-8").splitlines()
            names, values = [x.split()[1:] for x in lines if x.startswith(f"{group}:")][:2]
            found[counter] = int(values[names.index(name)])
    return found


def _conntrack_drops(proc: Path) -> Iterator[tuple[Counter, int]]:
    """The sum over all CPUs, a line each, in hexadecimal digits."""
    try:
        text = (proc / "net/stat/nf_conntrack").read_text(encoding="utf-8")
        head, *rows = [line.split() for line in text.splitlines()]
        for name, counter in _CONNTRACK.items():
            place = head.index(name)
            yield counter, sum(int(row[place], 16) for row in rows)
    except (OSError, ValueError, IndexError):
        return


# --- what there is, and what of it is taken -------------------------------------------------------


class Tracking(NamedTuple):
    """Connection tracking: an entry for each connection, for a while after it has ended."""

    entries: int
    entries_max: int
    time_wait_s: int  # how long one stays that was closed in order


def tracking(proc: Path = PROC) -> Tracking | None:
    """How full its table is; None where nothing is tracked."""
    where = proc / "sys/net/netfilter"
    names = ("nf_conntrack_count", "nf_conntrack_max", "nf_conntrack_tcp_timeout_time_wait")
    try:
        return Tracking(*(_number(where / name) for name in names))
    except (OSError, ValueError):
        return None


def busy_s(proc: Path = PROC) -> float:
    """Time that was not idle, on all cores, without what gives way to us.

    That is what runs at nice > 0, unless the kernel shares its CPUs between sessions first.
    """
    with suppress(OSError, ValueError):
        first = (proc / "stat").read_text(encoding="utf-8").split("\n", 1)[0]
        user, nice, system, _idle, _wait, irq, softirq, *_ = (int(n) for n in first.split()[1:])
        gives_way = 0 if shared_by_session(proc) else nice
        return (user + nice - gives_way + system + irq + softirq) / TICKS_PER_S
    return 0.0


def shared_by_session(proc: Path = PROC) -> bool:
    """Whether the kernel shares its CPUs between sessions first (`sched_autogroup_enabled`)."""
    with suppress(OSError, ValueError):
        return _number(proc / "sys/kernel/sched_autogroup_enabled") != 0
    return False


class Memory(NamedTuple):
    """Of the machine; a container's own limit is in neither."""

    available_bytes: int
    total_bytes: int


def memory(proc: Path = PROC) -> Memory | None:
    """What can be had without swapping; None if it is not said."""
    try:
        text = (proc / "meminfo").read_text(encoding="utf-8")
        found = {
            key: value.split() for key, _, value in (x.partition(":") for x in text.splitlines())
        }
        return Memory(*(int(found[key][0]) * 1024 for key in ("MemAvailable", "MemTotal")))
    except (OSError, ValueError, KeyError, IndexError):
        return None


class Descriptors(NamedTuple):
    """Open files of the whole machine."""

    used: int
    used_max: int


def descriptors(proc: Path = PROC) -> Descriptors | None:
    try:
        used, _, most = (proc / "sys/fs/file-nr").read_text(encoding="utf-8").split()
        return Descriptors(int(used), int(most))
    except (OSError, ValueError):
        return None


def open_files_max(proc: Path = PROC) -> int | None:
    """How many descriptors a program that chaosd starts may ask for; None: not known, or no end."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if _may_raise_limits(proc):
        with suppress(OSError, ValueError):
            limit = _number(proc / "sys/fs/nr_open")
    return None if limit == resource.RLIM_INFINITY else limit


def _may_raise_limits(proc: Path) -> bool:
    try:
        status = (proc / "self/status").read_text(encoding="utf-8")
        (effective,) = (line for line in status.splitlines() if line.startswith("CapEff:"))
        return bool(int(effective.split()[1], 16) >> CAP_SYS_RESOURCE & 1)
    except (OSError, ValueError, IndexError):
        return False


class Ports(NamedTuple):
    """Ports that this machine may call from."""

    free_max: int
    reused: bool  # one that waits for late packets may be used again, on loopback at least


def ports(proc: Path = PROC) -> Ports | None:
    where = proc / "sys/net/ipv4"
    try:
        first, last = (where / "ip_local_port_range").read_text(encoding="utf-8").split()
        return Ports(int(last) - int(first) + 1, _number(where / "tcp_tw_reuse") != 0)
    except (OSError, ValueError):
        return None


def time_wait(proc: Path = PROC) -> int | None:
    """TCP connections that were closed first from here, and wait for late packets."""
    try:
        text = (proc / "net/sockstat").read_text(encoding="utf-8")
        words = next(line.split() for line in text.splitlines() if line.startswith("TCP:"))
        return int(words[words.index("tw") + 1])
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def own_descriptors(proc: Path = PROC) -> int:
    """Open files of this process; 0 if it can't be known."""
    try:
        return sum(1 for _ in (proc / "self/fd").iterdir())
    except OSError:
        return 0


def has_ipv6_route(proc: Path = PROC) -> bool:
    """Whether packets to the IPv6 internet have a route: a default one that is not a rejection."""
    with suppress(OSError):
        for line in (proc / "net/ipv6_route").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if len(fields) != ROUTE_FIELDS or int(fields[8], 16) & ROUTE_REJECTS:
                continue
            if fields[1] == "00" and set(fields[0]) == {"0"} and fields[9] != "lo":
                return True
    return False


def nameservers(file: Path = RESOLV_CONF) -> int:
    """How many nameservers the machine's own resolver has, each address once."""
    with suppress(OSError, UnicodeDecodeError):
        lines = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
        return len({line[1] for line in lines if line[:1] == ["nameserver"] and line[1:]})
    return 0


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))
