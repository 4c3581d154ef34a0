"""Children, and finding the ones that a dead run left behind."""

import asyncio
import errno
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from chaosd.errors import MachineError
from chaosd.system import processes, scratch
from chaosd.system.clock import RealClock
from chaosd.system.processes import Child

WAIT_S = 15.0  # for what comes at once on an idle machine

# Starts some children as chaosd does, says their numbers, and waits to be killed.
OWNER = """
import asyncio, os, sys
from pathlib import Path
from chaosd.system.clock import RealClock
from chaosd.system.processes import Child, labels
from chaosd.system.scratch import shortcut
async def main():
    environment = os.environ | labels(sys.argv[1])
    # One by itself, one that leaves the session of its parent, and one that is stopped.
    nested = 'setsid sleep 300 & echo $!; wait'
    pids = []
    one = Child("one", ["sleep", "300"], environment=environment, clock=RealClock())
    two = Child("two", ["sh", "-c", nested], environment=environment, clock=RealClock(),
                heard=lambda line, at_ns: pids.append(line))
    three = Child("three", ["sleep", "300"], environment=environment, clock=RealClock())
    three.signal(19)
    while not pids:
        await asyncio.sleep(0.01)
    print(one.pid, two.pid, pids[0], three.pid, shortcut(Path(sys.argv[2])), flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""


@contextmanager
def owning(run_id, target):
    """Somebody who runs chaosd: its process, its children's numbers, and its shortcut."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, run_id, str(target)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    children = []
    with process:
        try:
            *children, shortcut = process.stdout.readline().split()
            children = [int(pid) for pid in children]
            assert all(lives(pid) for pid in children)
            assert Path(shortcut).is_symlink()
            yield process, children, Path(shortcut)
        finally:
            process.kill()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            Path(shortcut).unlink(missing_ok=True)


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def bystander(**environment):
    with subprocess.Popen(["sleep", "300"], env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def dead_pid():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def run(scenario):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


# --- sweeping -------------------------------------------------------------------------------------


def test_only_what_a_dead_owner_left_is_swept(tmp_path):
    dead_run, live_run = secrets.token_hex(4), secrets.token_hex(4)
    with (
        owning(dead_run, tmp_path) as (dead, orphans, shortcut),
        owning(live_run, tmp_path) as (_, children, other_shortcut),
        bystander() as unlabelled,
        bystander(CHAOSD_RUN=dead_run) as half_labelled,
    ):
        dead.kill()
        dead.wait()
        swept = "\n".join(processes.sweep() + scratch.sweep())
        assert not any(lives(pid) for pid in orphans)
        assert not shortcut.is_symlink()
        assert all(lives(pid) for pid in children)
        assert other_shortcut.is_symlink()
        assert lives(unlabelled.pid)
        assert lives(half_labelled.pid)
        assert live_run not in swept
        assert dead_run not in "\n".join(processes.sweep())


def test_what_a_users_program_lets_go_of_is_not_swept():
    """As a fault `command` that starts the user's next backend by `setsid`, and is killed."""
    code = (
        "import os, subprocess; from chaosd.system.processes import labels, within_session\n"
        "lets_go = 'setsid sleep 300 & echo $!; sleep 300 & echo $!; echo $$; wait'\n"
        "environment = os.environ | labels('gone')\n"
        "subprocess.run(within_session(['sh', '-c', lets_go]), env=environment,"
        " start_new_session=True)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with owner:
        free, child, program = (int(owner.stdout.readline()) for _ in range(3))
        try:
            owner.kill()
            owner.wait()
            processes.sweep()
            assert not lives(child)
            assert not lives(program)
            assert lives(free)
        finally:
            os.kill(free, signal.SIGKILL)


def test_a_sweep_says_what_it_has_removed(tmp_path):
    # Another test's sweep may be quicker once, but not each time.
    for _ in range(5):
        run_id = secrets.token_hex(4)
        with owning(run_id, tmp_path) as (dead, orphans, shortcut):
            dead.kill()
            dead.wait()
            swept = processes.sweep() + scratch.sweep()
        said = [f"(pid {pid}) of run {run_id}" for pid in orphans] + [f"shortcut {shortcut}"]
        if all(words in "\n".join(swept) for words in said):
            assert f"sleep (pid {orphans[0]}) of run {run_id}" in swept
            return
    pytest.fail(f"not said: {said}, but {swept}")


def test_an_owner_that_is_not_buried_yet_is_dead(tmp_path):
    with owning("zombie", tmp_path) as (dead, orphans, _):
        dead.send_signal(signal.SIGKILL)
        deadline_s = time.monotonic() + WAIT_S
        while lives(dead.pid):  # it stays a zombie until somebody waits for it
            assert time.monotonic() < deadline_s
        processes.sweep()
        assert not any(lives(pid) for pid in orphans)


def test_an_owner_is_known_by_more_than_its_number():
    me = processes.owner()
    pid, start_time, where = me.split(":", 2)
    namespace, boot = where.split(":")
    assert not processes.is_dead(me)
    assert processes.is_dead(f"{pid}:{int(start_time) - 1}:{where}")  # its number was used again
    gone = dead_pid()
    assert processes.is_dead(f"{gone}:{start_time}:{where}")
    # What can't be judged from here is left alone.
    assert not processes.is_dead(f"{gone}:{start_time}:{int(namespace) + 1}:{boot}")
    assert not processes.is_dead(f"{gone}:{start_time}:{namespace}:another")
    for nonsense in ("", "x", f"-1:{start_time}:{where}", f":{start_time}:{where}"):
        assert not processes.is_dead(nonsense)


def test_what_can_t_be_judged_from_here_is_not_swept():
    _, start_time, where = processes.owner().split(":", 2)
    gone = dead_pid()
    namespace, boot = where.split(":")
    labels = [f"{gone}:{start_time}:1:{boot}", f"{gone}:{start_time}:{namespace}:other", "nonsense"]
    for label in labels:
        with bystander(CHAOSD_RUN="elsewhere", CHAOSD_OWNER=label) as process:
            assert "elsewhere" not in "\n".join(processes.sweep())
            assert lives(process.pid)


# --- a child --------------------------------------------------------------------------------------


def child(script, **options):
    return Child(
        "child", ["sh", "-c", script], environment=dict(os.environ), clock=RealClock(), **options
    )


def test_a_child_s_lines_and_its_end_are_heard_in_order():
    async def scenario():
        heard = []
        one = child(
            "echo first; printf 'sec'; sleep 0.1; printf 'ond\\nlast without an end'; exit 3",
            heard=lambda line, at_ns: heard.append(line),
            ended=lambda child: heard.append(child.obituary()),
        )
        assert await one.wait(WAIT_S)
        assert heard == [
            "first",
            "second",
            "last without an end",
            f"child (pid {one.pid}) died: exit status 3: last without an end",
        ]
        one.signal(signal.SIGKILL)
        one.write("to nobody")
        await one.end(signal.SIGTERM, 1.0)

    run(scenario())


def test_what_a_child_says_is_bounded(tmp_path):
    async def scenario():
        longest = 0

        def heard(line, _):
            nonlocal longest
            longest = max(longest, len(line))

        output = tmp_path / "output"
        one = child(
            "head -c 1000000 /dev/zero | tr '\\0' x; yes 'a line of some length' | head -n 40000",
            heard=heard,
            output=output,
        )
        assert await one.wait(WAIT_S)
        assert longest <= processes.LINE_BYTES_MAX
        sizes = [file.stat().st_size for file in tmp_path.iterdir()]
        assert len(sizes) == 2
        assert sum(sizes) <= 2 * processes.OUTPUT_FILE_BYTES_MAX

    run(scenario())


def test_a_child_is_killed_after_its_grace_and_takes_its_own_children_along():
    async def scenario():
        pids = []
        script = "trap '' TERM; sleep 300 & echo up; echo $!; wait; wait"
        one = child(script, heard=lambda line, at_ns: pids.append(line))
        await one.says("up", WAIT_S)
        await one.end(signal.SIGTERM, 0.1)
        nested = int(pids[-1])
        assert one.obituary() == f"child (pid {one.pid}) died: signal SIGKILL: {nested}"
        deadline_s = time.monotonic() + WAIT_S
        while lives(nested):
            assert time.monotonic() < deadline_s

    run(scenario())


def test_a_child_that_ends_by_itself_takes_its_own_children_along():
    async def scenario():
        one = child("sleep 300 & echo $!")
        assert await one.wait(WAIT_S)
        nested = int(one.last_line)
        deadline_s = time.monotonic() + WAIT_S
        while lives(nested):
            assert time.monotonic() < deadline_s

    run(scenario())


def test_a_child_that_can_t_be_watched_is_not_left_running(monkeypatch):
    async def scenario():
        started = []

        def out_of_descriptors(pid):
            started.append(pid)
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(os, "pidfd_open", out_of_descriptors)
        with pytest.raises(MachineError, match="child can't be watched: Too many open files"):
            child("sleep 300")
        assert not lives(started[0])

    run(scenario())


def test_a_child_has_a_session_of_its_own():
    async def scenario():
        one = child("sleep 300")
        assert os.getsid(one.pid) == one.pid != os.getsid(0)
        await one.end(signal.SIGKILL, 1.0)

    run(scenario())


def test_a_word_that_is_waited_for_comes_or_it_is_told_why_not():
    async def scenario():
        talking = child("echo ready or not; echo ready now; sleep 300")
        assert await talking.says("ready", WAIT_S) == "ready or not"
        with pytest.raises(MachineError, match=r"child .* has not said `more` in 0\.1 s"):
            await talking.says("more", 0.1)
        await talking.end(signal.SIGKILL, 1.0)
        with pytest.raises(MachineError, match="died: exit status 4: oh dear"):
            await child("echo oh dear; exit 4").says("ready", WAIT_S)
        with pytest.raises(MachineError, match=r"nobody can't be started: .*no-such-program"):
            Child("nobody", ["no-such-program"], environment={}, clock=RealClock())

    run(scenario())
