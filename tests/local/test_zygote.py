"""The app forked from a warm process: a process like any other, to chaosd and to the sweep."""

import asyncio
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from random import SystemRandom

import uvloop

from chaosd.runtimes.local.loopback import claim, is_free
from chaosd.runtimes.local.zygote import Zygote, server_command
from chaosd.system import processes
from chaosd.system.clock import RealClock
from chaosd.system.processes import Child

WAIT_S = 15.0  # for what comes at once on an idle machine

# Starts the app as chaosd does, says its number and the zygote's, and waits to be killed.
OWNER = """
import asyncio, os, sys
from chaosd.runtimes.local.zygote import Zygote, server_command
from chaosd.system.clock import RealClock
from chaosd.system.processes import Child, labels
async def main():
    zygote = Zygote()
    await zygote.join(labels(sys.argv[1]), RealClock())
    app = Child("app", [*server_command(), "--listen", "127.0.0.1:0"], environment={},
                clock=RealClock(), start=zygote.start)
    await app.says("listening", 15)
    print(app.pid, zygote._child.pid, flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""


def stat(pid):
    """State, parent, process group and session of a process; None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None


def command_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


def gone(pid):
    deadline_s = time.monotonic() + WAIT_S
    while (found := stat(pid)) is not None and found[0] not in "ZX":
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return True


@asynccontextmanager
async def warm():
    zygote = Zygote()
    await zygote.join(processes.labels("warm"), RealClock())
    try:
        yield zygote
    finally:
        await zygote.leave()


def app(zygote, *options, **more):
    return Child(
        "app",
        [*server_command(), *options],
        environment=dict(os.environ),
        clock=RealClock(),
        start=zygote.start,
        **more,
    )


def run(scenario):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


def test_what_is_forked_is_a_child_of_ours_that_ends_as_it_is_told():
    async def scenario():
        network = await claim(SystemRandom(), 16)
        ip = network.fresh(8080)
        async with warm() as zygote:
            for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
                one = app(zygote, "--listen", f"{ip}:8080", "--identity", "r.c1.1")
                line = await one.says("listening", WAIT_S)
                assert line.startswith(f"listening {ip}:8080 ")
                pid = str(one.pid)
                assert stat(one.pid)[1:] == [str(os.getpid()), pid, pid]
                # The zygote's turns at the CPU are for the forking alone.
                assert os.sched_getscheduler(one.pid) == os.SCHED_OTHER
                reader, writer = await asyncio.open_connection(ip, 8080)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                assert b"\r\nX-Chaosd-Instance: r.c1.1\r\n" in await reader.read()
                writer.close()
                await one.end(number, WAIT_S)
                assert one.exit_status == status
                assert stat(one.pid) is None
            assert zygote._orders is not None  # it was it who has forked them
        network.close()

    run(scenario())


def test_its_complaint_and_exit_status_are_those_of_the_program():
    async def scenario():
        async with warm() as zygote:
            one = app(zygote, "--listen", "nonsense")
            assert await one.wait(WAIT_S)
            assert one.obituary() == (
                f"app (pid {one.pid}) died: exit status 1: cannot take nonsense: not an address "
                "(write it like 127.0.0.1:8080)"
            )

    run(scenario())


def test_a_placeholder_takes_its_order():
    async def scenario():
        network = await claim(SystemRandom(), 16)
        ip = network.fresh(8080)
        async with warm() as zygote:
            one = app(zygote, "--armed", "--mode", "refuse", stdin=subprocess.PIPE)
            await one.says("armed", WAIT_S)
            one.write(f"take {ip} 8080")
            assert (await one.says("holding", WAIT_S)).startswith(f"holding {ip}:8080 ")
            await one.end(signal.SIGKILL, WAIT_S)
        network.close()

    run(scenario())


def test_what_one_of_them_holds_open_no_other_one_does():
    async def scenario():
        async with warm() as zygote:
            first = app(zygote, "--armed", stdin=subprocess.PIPE)
            await first.says("armed", WAIT_S)
            second = app(zygote, "--armed", stdin=subprocess.PIPE)
            await second.says("armed", WAIT_S)
            # Its end is heard although the one that was forked later lives on.
            await first.end(signal.SIGKILL, WAIT_S)
            assert first.gone
            assert not second.gone
            await second.end(signal.SIGKILL, WAIT_S)

    run(scenario())


def test_without_a_zygote_the_program_is_started():
    async def scenario():
        async with warm() as zygote:
            os.kill(zygote._child.pid, signal.SIGKILL)
            await zygote._child.wait(WAIT_S)
            one = app(zygote, "--armed", stdin=subprocess.PIPE)
            await one.says("armed", WAIT_S)
            assert command_of(one.pid)[-3:] == [server_command()[-1], "--armed", ""]
            await one.end(signal.SIGKILL, WAIT_S)

    run(scenario())


def test_a_zygote_that_hangs_is_done_without():
    async def scenario():
        async with warm() as zygote:
            pid = zygote._child.pid
            os.kill(pid, signal.SIGSTOP)
            one = app(zygote, "--armed", stdin=subprocess.PIPE)
            os.kill(pid, signal.SIGCONT)
            await one.says("armed", WAIT_S)
            await zygote._child.wait(WAIT_S)
            assert zygote._child.gone
            await one.end(signal.SIGKILL, WAIT_S)

    run(scenario())


def test_what_is_forked_too_late_does_not_stay():
    async def scenario():
        network = await claim(SystemRandom(), 16)
        ip = network.fresh(8080)
        order = json.dumps([server_command()[-1], "--listen", f"{ip}:8080"]).encode()
        for late in (False, True):  # its answer is there but not taken, or comes when all is over
            async with warm() as zygote, asyncio.timeout(WAIT_S):
                nothing = os.open(os.devnull, os.O_RDWR)
                if late:
                    os.kill(zygote._child.pid, signal.SIGSTOP)
                    socket.send_fds(zygote._orders, [order], [nothing, nothing])
                else:
                    socket.send_fds(zygote._orders, [order], [nothing, nothing])
                    assert select.select([zygote._orders], [], [], WAIT_S)[0]
                zygote._give_up()
                os.kill(zygote._child.pid, signal.SIGCONT)
                os.close(nothing)
                await zygote._child.wait(WAIT_S)
                while not is_free(ip, 8080):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        network.close()

    run(scenario())


def test_what_a_killed_owner_has_forked_is_swept():
    run_id = secrets.token_hex(4)
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, run_id],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as owner:
        app_pid, zygote_pid = (int(word) for word in owner.stdout.readline().split())
        assert f"CHAOSD_RUN={run_id}".encode() in Path(f"/proc/{app_pid}/environ").read_bytes()
        owner.kill()
    assert gone(zygote_pid)  # by itself
    processes.sweep()  # or that of another test
    assert gone(app_pid)
