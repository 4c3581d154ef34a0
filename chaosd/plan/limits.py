"""What a run will keep of a machine's limits, or has come to: a line for each, with its cause."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from chaosd.plan.arms import Plan
from chaosd.plan.work import Work
from chaosd.plugins.bases import ProbeConfig
from chaosd.plugins.probe import MayKeepConnections
from chaosd.system import machine
from chaosd.system.clock import VirtualClock

REACHED_SHARE = 0.9  # of a limit, while a run goes on
SHARE_MAX = 0.5  # of a limit that others use too, before it is worth a line
CONNECTIONS_PER_PROBE = 2  # to the proxy, and from the proxy to the app
TIME_WAIT_S = 60  # how long a port that was closed first is not used again
CELL_BYTES = 48 << 20  # a proxy, and the app twice while it moves
CELL_FILES, OWN_FILES = 24, 64


class Limit(Enum):
    """Of a machine, or of this process."""

    CONNTRACK = auto()
    PORTS = auto()
    MEMORY = auto()
    FILES = auto()
    OWN_FILES = auto()


class Load(NamedTuple):
    """What all probes of a run do together."""

    connections_hz: float  # new connections from probers, on average
    in_flight: float  # if no probe is answered before its timeout


def load(plan: Plan) -> Load:
    """Of all cells, as their configs ask for it."""
    connections_hz = in_flight = 0.0
    for cell in plan.cells:
        work = Work.of(cell.arm)
        for probe in cell.arm.config.probes:
            if _connects_anew(probe):
                connections_hz += work.average(probe)
            in_flight += probe.rate * probe.timeout.s
    return Load(connections_hz, in_flight)


def _connects_anew(probe: ProbeConfig) -> bool:
    return not (isinstance(probe, MayKeepConnections) and probe.connection == "keep-alive")


def warnings(plan: Plan, proc: Path = machine.PROC) -> Iterator[str]:
    """What comes near a limit of this machine: the cause and the remedy, a line each.

    Nothing is said of what the machine does not tell, nor of a simulated world.
    """
    if isinstance(plan.runtime.clock(), VirtualClock):
        return
    wanted, cells = load(plan), len(plan.cells)
    hops = CONNECTIONS_PER_PROBE if plan.runtime.makes_topology else 1
    yield from _tracked(wanted, machine.tracking(proc), hops)
    ports = machine.ports(proc)
    kept = wanted.connections_hz * TIME_WAIT_S
    if ports is not None and not ports.reused and kept > SHARE_MAX * ports.free_max:
        yield (
            f"{_rate(wanted)} keep some {kept:,.0f} of this machine's {ports.free_max:,} ports "
            "(set net.ipv4.tcp_tw_reuse=1, or connection: keep-alive)"
        )
    files = round(wanted.in_flight) + cells * CELL_FILES + OWN_FILES
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max != resource.RLIM_INFINITY and files > files_max:
        yield (
            f"probes that all time out, and {cells} cells, take some {files:,} descriptors; this "
            f"process may have {files_max:,} (raise `ulimit -Hn`, or lower the rate or the timeout)"
        )
    memory = machine.memory(proc)
    if memory is not None and plan.runtime.makes_topology:
        bytes_wanted, has = cells * CELL_BYTES, memory.available_bytes
        if bytes_wanted > has:
            yield (
                f"{cells} cells take some {bytes_wanted >> 20:,} MB of memory, and {has >> 20:,} "
                "MB are left on this machine (run fewer cells)"
            )


def _tracked(wanted: Load, found: machine.Tracking | None, hops: int) -> Iterator[str]:
    """Where nothing is in the table, this machine tracks nothing."""
    if found is None or not found.entries:
        return
    kept = wanted.connections_hz * hops * found.time_wait_s
    total, most = found.entries + kept, found.entries_max
    if total <= SHARE_MAX * most:
        return
    full = ", and packets are dropped once it is full" if total > most else ""
    yield (
        f"{_rate(wanted)} keep some {kept:,.0f} of this machine's {most:,} connection-tracking "
        f"entries, of which {found.entries:,} are taken{full} (probe with connection: keep-alive, "
        "or raise net.netfilter.nf_conntrack_max)"
    )


def _rate(wanted: Load) -> str:
    return f"{wanted.connections_hz:,.0f} probes/s by new connections"


# --- while a run goes on --------------------------------------------------------------------------


def reached(proc: Path = machine.PROC) -> Iterator[tuple[Limit, str]]:
    """What this machine or this process has nearly used up, other programs included."""
    found = machine.tracking(proc)
    if found is not None and found.entries > REACHED_SHARE * found.entries_max:
        yield (
            Limit.CONNTRACK,
            (
                f"this machine's connection-tracking table is nearly full ({found.entries:,} of "
                f"{found.entries_max:,} entries): packets are dropped once it is (raise "
                "net.netfilter.nf_conntrack_max)"
            ),
        )
    ports, waiting = machine.ports(proc), machine.time_wait(proc)
    if ports and waiting and not ports.reused and waiting > REACHED_SHARE * ports.free_max:
        yield (
            Limit.PORTS,
            (
                f"{waiting:,} closed connections wait for late packets, and this machine has "
                f"{ports.free_max:,} ports to call from (set net.ipv4.tcp_tw_reuse=1)"
            ),
        )
    memory = machine.memory(proc)
    if memory is not None and memory.available_bytes < (1 - REACHED_SHARE) * memory.total_bytes:
        left, total = memory.available_bytes >> 20, memory.total_bytes >> 20
        yield Limit.MEMORY, f"{left:,} of {total:,} MB of memory are left on this machine"
    files = machine.descriptors(proc)
    if files is not None and files.used > REACHED_SHARE * files.used_max:
        yield (
            Limit.FILES,
            (
                f"{files.used:,} of {files.used_max:,} descriptors are open on this machine (raise "
                "fs.file-max)"
            ),
        )
    own, (own_max, _) = machine.own_descriptors(proc), resource.getrlimit(resource.RLIMIT_NOFILE)
    if own_max != resource.RLIM_INFINITY and own > REACHED_SHARE * own_max:
        yield (
            Limit.OWN_FILES,
            f"chaosd has {own:,} descriptors open and may have {own_max:,} (raise `ulimit -n`)",
        )
