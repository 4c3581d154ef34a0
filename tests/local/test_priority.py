"""Who has which turns at the processor: the daemon before others, what it starts not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import stages

from chaosd.system import machine, priority

SAYS = """
import os, subprocess, sys, threading
from chaosd.system import priority

NAMES = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo"}
CHILD = "import os; print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))"

def mine():
    policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    return NAMES[policy], os.sched_getparam(0).sched_priority, os.getpriority(os.PRIO_PROCESS, 0)

if sys.argv[1:]:
    os.nice(int(sys.argv[1]))
with priority.before_others():
    during = mine()
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True).stdout
    found = []
    thread = threading.Thread(target=lambda: found.append(mine()))
    thread.start()
    thread.join()
    sharing = threading.Thread(target=lambda: (priority.share(), found.append(mine())))
    sharing.start()
    sharing.join()
print((during, child.split(), *found, mine()))
"""


def says(*arguments: str):
    done = subprocess.run(
        [sys.executable, "-c", SAYS, *arguments], capture_output=True, text=True, check=True
    )
    return eval(done.stdout)


def test_the_daemon_comes_first_while_it_runs_and_what_it_starts_does_not() -> None:
    during, child, thread, sharing, after = says()
    if during[0] == "other":
        pytest.skip("this user may have no real-time turns, or was told to give way")
    assert during == ("fifo", 1, 0)
    assert child == ["0", "0"]
    assert thread == after == ("other", 0, 0)
    assert sharing == during


THREADS = """
import os
import urllib.request
from chaosd.history.values import Address
from chaosd.live.outlet import Outlet
from chaosd.live.page import Page
from chaosd.runtimes.docker.presence import in_thread
from chaosd.system import priority

turns = lambda: os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
found = []

def write(_, data):
    found.append(turns())
    return len(data)

def metrics(_, start):
    start("200 OK", [])
    return [str(turns()).encode()]

outlet = Outlet(1, "utf-8", write)
outlet.write("before the measuring")
outlet.finish()
page = Page(Address("127.0.0.1", 0), metrics)
with priority.before_others():
    outlet.write("during it")
    outlet.finish()
    found.append(in_thread(turns).result())
    with urllib.request.urlopen(f"http://{page.address}/metrics") as answer:
        found.append(int(answer.read()))
    found.append(turns())
page.close()
print(found)
"""


def test_no_thread_that_the_event_loop_may_have_to_wait_for_has_less_than_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True, timeout=60
    )
    before, *during = eval(done.stdout)
    if os.SCHED_FIFO not in during:
        pytest.skip("this user may have no real-time turns, or was told to give way")
    assert before == os.SCHED_OTHER
    assert during == [os.SCHED_FIFO] * 4


def test_who_is_started_to_give_way_gives_way() -> None:
    during, child, thread, sharing, after = says("5")
    _, _, nice = during
    assert nice >= 5
    assert during == thread == sharing == after == ("other", 0, nice)
    assert child == ["0", str(nice)]


SPINS = """
import os, time
from chaosd.system import priority

def policy():
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO

priority.UNBROKEN_US = 200_000
with priority.before_others():
    first = policy()
    time.sleep(0.01)
    ends_s = time.monotonic() + 20
    while policy() and time.monotonic() < ends_s:
        pass
    print((first, policy()))
"""


def test_a_daemon_that_never_waits_gives_its_turns_up() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPINS], capture_output=True, text=True, check=True, timeout=60
    )
    first, last = eval(done.stdout)
    if not first:
        pytest.skip("this user may have no real-time turns, or was told to give way")
    assert not last


LESS = """
import os
from chaosd.system import priority

os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
with priority.before_others():
    print(os.sched_getscheduler(0) == os.SCHED_BATCH)
"""


def test_who_is_started_for_batch_work_stays_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LESS], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "True"


NICE = """
import os
from chaosd.system import priority

real = os.sched_setscheduler

def refused(pid, policy, param):
    if policy & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
        raise PermissionError
    real(pid, policy, param)

os.sched_setscheduler = refused
with priority.before_others():
    during = os.getpriority(os.PRIO_PROCESS, 0)
print((during, os.getpriority(os.PRIO_PROCESS, 0)))
"""


def test_nice_is_as_before_afterwards() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NICE], capture_output=True, text=True, check=True, timeout=60
    )
    during, after = eval(done.stdout)
    if during > 0:
        pytest.skip("was told to give way")
    assert after == 0


def session_nice(pid: int) -> int | None:
    """What its session has; None where it is in none that the kernel shares with, as init is."""
    told = Path(f"/proc/{pid}/autogroup").read_text().split()
    return int(told[-1]) if told else None


def test_what_is_tested_goes_before_others_where_the_kernel_shares_between_sessions(
    tmp_path,
) -> None:
    """HAProxy, and apps whether they are forked or started; not what else chaosd starts."""
    if not machine.shared_by_session():
        pytest.skip("this kernel does not share its CPUs between sessions")
    if os.geteuid() or os.getpriority(os.PRIO_PROCESS, 0):
        pytest.skip("this user may raise no session, or was told to give way")
    if stages.BINARY is None:
        pytest.skip("there is no haproxy on this machine")
    own = session_nice(os.getpid())

    async def scenario() -> None:
        for app in ({}, {"env": {"OWN": "1"}}):
            async with stages.World(tmp_path / str(len(app)), app=app).standing() as world:
                found = {pid: session_nice(pid) for pid in world.processes()}
                raised = [pid for pid, nice in found.items() if nice == priority.SESSION_NICE]
                assert len(raised) == 2, found

    asyncio.run(scenario())
    assert session_nice(os.getpid()) == own
