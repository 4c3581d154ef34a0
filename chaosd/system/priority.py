"""Turns at the processor before whatever is under test, as far as this user may have them.

Real-time turns (SCHED_FIFO), and not only a better `nice`: where the kernel shares its CPUs between
sessions first (`sched_autogroup_enabled`), `nice` counts within one session, and each process that
chaosd starts has one of its own. See docs/decisions/0047-admission.md.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from chaosd.system import machine

Got = Literal["fifo", "nice", "normal"]

DAEMON, PROBER = 1, 2  # of SCHED_FIFO: the higher one goes first
SESSION_NICE = -15  # of sessions that chaosd starts, if the kernel shares CPUs between sessions
_NICE = {DAEMON: -10, PROBER: -15}  # where real-time turns are not to be had
# What is started from here, and threads that begin later, have the usual turns (but see `share`).
_OURS_ONLY = os.SCHED_RESET_ON_FORK
_GIVING_WAY = (os.SCHED_BATCH, os.SCHED_IDLE)
UNBROKEN_US = 2_000_000  # of CPU without a wait: who works on has lost its way, or has too much


def take(level: int) -> Got:
    """Take the best turns that this user may have, until the process ends; say which."""
    if level == PROBER:  # it may have a lot to do; what the daemon's bound is, it has inherited
        _, hard_us = resource.getrlimit(resource.RLIMIT_RTTIME)
        resource.setrlimit(resource.RLIMIT_RTTIME, (hard_us, hard_us))
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | _OURS_ONLY, os.sched_param(level))
    except OSError:
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER | _OURS_ONLY, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, _NICE[level])
        except OSError:
            return "normal"
        return "nice"
    return "fifo"


def share() -> None:
    """Give this thread the turns of the first one, which waits for it in the interpreter's lock.

    A thread of usual turns that holds the lock and gets no CPU would hold up the event loop.
    """
    with suppress(OSError):
        first = os.getpid()
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, first))
        os.sched_setscheduler(0, os.sched_getscheduler(first), os.sched_getparam(first))


def raise_session(pid: int) -> None:
    """Let this process's session go before others where the kernel shares its CPUs between them.

    It must be one that chaosd started: the rise ends with it. Nothing is done where that is not
    allowed, where sessions do not count, or where chaosd was itself started to give way.
    """
    gives_way = os.getpriority(os.PRIO_PROCESS, 0) > 0 or _policy() in _GIVING_WAY
    if gives_way or not machine.shared_by_session():
        return
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(SESSION_NICE), encoding="ascii")


def _policy() -> int:
    return os.sched_getscheduler(0) & ~_OURS_ONLY


@contextmanager
def before_others() -> Iterator[None]:
    """The daemon's turns while it answers DNS and does the deeds, and the usual ones afterwards.

    Who has started us with less than usual (nice, `chrt --batch`) gets that. If it computes for
    `UNBROKEN_US` without a wait it has the usual turns from then on, so that others go on.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice > 0 or _policy() != os.SCHED_OTHER:
        yield
        return
    with _given_up_if_unbroken():
        take(DAEMON)
        try:
            yield
        finally:
            _give_up()
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, nice)


def _give_up() -> None:
    """Have the usual turns. Who has no privileges may not take the flag away again."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER | _OURS_ONLY, os.sched_param(0))


@contextmanager
def _given_up_if_unbroken() -> Iterator[None]:
    """The kernel counts real-time turns without a wait, and tells by SIGXCPU."""
    before = resource.getrlimit(resource.RLIMIT_RTTIME)
    soft_us, hard_us = UNBROKEN_US, before[1]
    if hard_us != resource.RLIM_INFINITY:
        soft_us = min(soft_us, hard_us)
    heard = signal.signal(signal.SIGXCPU, lambda *_: _give_up())
    resource.setrlimit(resource.RLIMIT_RTTIME, (soft_us, hard_us))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_RTTIME, before)
        signal.signal(signal.SIGXCPU, heard)
