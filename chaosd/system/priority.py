"""Turns at the processor before whatever is under test, as far as this user may have them.

Real-time turns (SCHED_FIFO), and not only a better `nice`: where the kernel shares its CPUs between
sessions first (`sched_autogroup_enabled`), `nice` counts within one session, and each process that
chaosd starts has one of its own. See docs/decisions/0047-admission.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Got = Literal["fifo", "nice", "normal"]

DAEMON, PROBER = 1, 2  # of SCHED_FIFO: the higher one goes first
_NICE = {DAEMON: -10, PROBER: -15}  # where real-time turns are not to be had
# What is started from here, and threads that begin later, have the usual turns.
_OURS_ONLY = os.SCHED_RESET_ON_FORK


def take(level: int) -> Got:
    """Take the best turns that this user may have, until the process ends; say which."""
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


@contextmanager
def before_others() -> Iterator[None]:
    """The daemon's turns while it answers DNS and does the deeds, and the usual ones afterwards.

    Who has started us with less than usual (nice) gets that.
    """
    if os.getpriority(os.PRIO_PROCESS, 0) > 0:
        yield
        return
    take(DAEMON)
    try:
        yield
    finally:
        with suppress(OSError):
            # Who has no privileges may not take the flag away again.
            os.sched_setscheduler(0, os.SCHED_OTHER | _OURS_ONLY, os.sched_param(0))
