"""Why a cycle is no sample, and why its numbers are doubtful: values. report/ has the words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CauseKind(StrEnum):
    """Why a cycle is invalid or was skipped: a closed list."""

    STOPPED = "stopped"  # chaosd was stopped in the middle of it
    RUN_FAILED = "run-failed"  # the run ended with an error in the middle of it
    NOT_STEADY = "not-steady"  # the app did not answer steadily before it; `detail`: what was seen
    NEVER_BEGAN = "never-began"
    NOT_FRESH = "not-fresh"  # `detail` is the address: it was in use lately
    NOT_UNDONE = "not-undone"  # `detail` says why
    TOO_LONG = "too-long"  # the fault took more than `seconds`
    NO_BEGINNING = "no-beginning"  # the fault never said when it began
    NO_SAMPLES = "no-samples"  # the prober delivers nothing any more
    ENTRY_SHARED = "entry-shared"  # another process listens at `detail`, the proxy's address, too
    ENGINE_AWAY = "engine-away"
    ENGINE_RESTARTED = "engine-restarted"
    MACHINE = "machine"  # `detail` is the machine's own complaint
    BUG = "bug"  # `detail` is the exception
    NOT_SETTLED = "not-settled"  # its time came while `cycle` had not settled
    MACHINE_LATE = "machine-late"  # fewer cycles were made, because this machine was short of CPU
    TIME_PASSED = "time-passed"  # its time had passed by `seconds` before the plan began


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a cycle is no sample."""

    kind: CauseKind
    detail: str = ""
    seconds: float | None = None
    cycle: int | None = None


class LagKind(StrEnum):
    """What was late in the world of a cycle, or was lost there: a closed list."""

    PROXY_STOPPED = "proxy-stopped"  # by a signal, a debugger or a frozen control group
    APP_STOPPED = "app-stopped"
    DNS_STOPPED = "dns-stopped"  # a nameserver or a cache that is a process of its own
    ENTRY_STOPPED = "entry-stopped"  # what carries connections from a published port to the proxy
    DAEMON_STOPPED = "daemon-stopped"  # chaosd neither ran nor waited: stopped, or the machine was
    ENGINE_SILENT = "engine-silent"  # the Docker engine did not answer
    CONNTRACK_FULL = "conntrack-full"  # `count` packets were dropped: the table was full
    UDP_DROPPED = "udp-dropped"  # … because a socket's buffer was full
    LISTEN_DROPPED = "listen-dropped"  # `count` connections came to a full queue
    PROXY_WAITED = "proxy-waited"  # for a CPU
    APP_WAITED = "app-waited"
    DNS_WAITED = "dns-waited"
    ENTRY_WAITED = "entry-waited"
    APP_START_WAITED = "app-start-waited"  # … from its start until it listened
    DAEMON_WAITED = "daemon-waited"
    DAEMON_BUSY = "daemon-busy"  # with other work of chaosd's own
    DNS_UNREAD = "dns-unread"  # a question had come, and nobody read it
    LOG_UNREAD = "log-unread"  # lines of the proxy's log: they have the kernel's stamp
    DEED_LATE = "deed-late"  # what chaosd was due to do
    PROXY_SILENT = "proxy-silent"  # it did not answer its API, and did not compute either


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Something was late, or was lost, in the `seconds` from this instant on."""

    kind: LagKind
    from_ns: int
    seconds: float
    count: int | None = None  # what was lost


class DoubtKind(StrEnum):
    """Why the numbers of a valid cycle can't be trusted much: a closed list."""

    NO_PROBES = "no-probes"  # none was sent
    PROBES_DROPPED = "probes-dropped"  # `count` of `total` could not be sent in time
    PROBES_LATE = "probes-late"  # 1 % were sent late by more than `seconds`
    WORLD_LATE = "world-late"  # `lag` of `seconds`, or of a `count` that was lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why a cycle is poor."""

    kind: DoubtKind
    count: int | None = None
    total: int | None = None
    seconds: float | None = None
    lag: LagKind | None = None
