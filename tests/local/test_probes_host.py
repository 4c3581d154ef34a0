"""The prober's process: on time whatever the target does, and gone when it should be."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from probing import Server, closed_port, probing

from chaosd.errors import MachineError
from chaosd.history.values import Address, Outcome, StreamSpec
from chaosd.probes.host import ProbeHost
from chaosd.probes.http import HttpProbe
from chaosd.probes.wire import Reader

WAIT_S = 20.0


def gone(pid, limit_s=WAIT_S):
    """Whether this process ends within the limit; a zombie has ended."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def environment(pid):
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def memory_kb(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.quiet
def test_a_target_that_hangs_does_not_stop_the_probes():
    """Open loop: hundreds are in flight, each slot has its sample, latency is from the schedule."""

    async def main():
        async with Server().listening() as here, probing() as prober:
            stream = prober.add(HttpProbe, path="/hang", rate="500/s", timeout="500ms")
            prober.aim(stream, here)
            await prober.count(stream, 750)
            (samples,) = await prober.pause(stream)
        assert set(prober.gaps(stream)) == {1}
        assert {sample.outcome for sample in samples} == {Outcome.TIMEOUT}
        for sample in samples:
            assert sample.done_ns - sample.scheduled_ns >= 500_000_000
            assert 0 <= sample.sent_ns - sample.scheduled_ns <= 15_000_000
        # More than one at a time: a closed loop would have sent three.
        assert samples[0].done_ns > samples[100].sent_ns

    asyncio.run(main())


def test_what_could_not_be_sent_in_time_is_dropped_and_counted():
    async def main():
        async with Server().listening() as here, probing() as prober:
            stream = prober.add(HttpProbe, path="/ok", rate="100/s")
            prober.aim(stream, here)
            await prober.count(stream, 20)
            os.kill(prober.host.pid, signal.SIGSTOP)
            await asyncio.sleep(1)
            os.kill(prober.host.pid, signal.SIGCONT)
            await prober.count(stream, 150)
            await prober.pause(stream)
        assert set(prober.gaps(stream)) == {1}
        dropped = [sample for sample in prober.samples[stream] if sample.outcome == Outcome.DROPPED]
        assert len(dropped) >= 90
        assert all(sample.done_ns - sample.scheduled_ns > 10_000_000 for sample in dropped)

    asyncio.run(main())


def test_a_stream_that_idles_keeps_its_grid_and_its_promises():
    async def main():
        async with Server().listening() as here, probing() as prober:
            stream = prober.add(HttpProbe, path="/ok", rate="100/s", idle_rate="20/s")
            prober.aim(stream, here)
            for dense, count in ((False, 10), (True, 30), (False, 10), (True, 30)):
                if dense or prober.samples:
                    prober.host.pace(stream, dense=dense)
                await prober.count(stream, len(prober.samples.get(stream, ())) + count)
            await prober.pause(stream)
        gaps = prober.gaps(stream)
        assert {1, 5} <= set(gaps) <= {1, 2, 3, 4, 5}
        assert gaps.count(5) >= 15
        assert gaps.count(1) >= 55
        assert not prober.broken

    asyncio.run(main())


def test_pausing_and_aiming_again_keeps_the_grid():
    async def main():
        one, two = Server(), Server()
        async with one.listening() as here, two.listening() as there, probing() as prober:
            stream = prober.add(HttpProbe, path="/ok", rate="100/s")
            for target in (here, there, None, there, here):
                before = len(prober.samples.get(stream, ()))
                prober.aim(stream, target)
                if target is None:
                    await prober.pause(stream)
                else:
                    await prober.count(stream, before + 20)
            (samples,) = await prober.pause(stream)
        gaps = prober.gaps(stream)
        assert min(gaps) == 1  # no slot twice
        assert sum(gap > 1 for gap in gaps) == 1  # the pause
        assert one.requests + two.requests == len(samples)
        assert min(one.requests, two.requests) >= 20

    asyncio.run(main())


def test_shots_in_flight_end_by_themselves_when_the_aim_changes():
    async def main():
        server = Server()
        async with server.listening() as here, probing() as prober:
            stream = prober.add(HttpProbe, path="/slow", rate="100/s", timeout="3s")
            prober.aim(stream, here)
            await prober.until(lambda: server.requests > 10)
            prober.aim(stream, closed_port())
            await prober.count(stream, 60)
            (samples,) = await prober.pause(stream)
        assert {Outcome(s.outcome) for s in samples} == {Outcome.OK, Outcome.REFUSED}
        slow = [sample for sample in samples if sample.outcome == Outcome.OK]
        assert len(slow) == server.requests
        assert all(sample.who == "app-1" for sample in slow)

    asyncio.run(main())


def test_many_streams_share_a_process_without_firing_together():
    async def main():
        async with Server().listening() as here, probing() as prober:
            streams = [prober.add(HttpProbe, path="/ok", rate="10/s") for _ in range(10)]
            for stream in streams:
                prober.aim(stream, here)
            for stream in streams:
                await prober.count(stream, 10)
            await prober.pause(*streams)
        phases = sorted(prober.sent(s)[0].scheduled_ns % 100_000_000 for s in streams)
        gaps = [b - a for a, b in pairwise(phases)]
        assert min(gaps) > 3_000_000
        assert all(set(prober.gaps(stream)) == {1} for stream in streams)

    asyncio.run(main())


def test_it_says_what_it_is_and_carries_the_labels():
    async def main():
        async with probing() as prober:
            assert prober.host.priority in {"fifo", "nice", "normal"}
            assert b"CHAOSD_RUN=a-test" in environment(prober.host.pid)
            assert prober.host.facts["loop"] == "uvloop"
            pid = prober.host.pid
        assert gone(pid)

    asyncio.run(main())


def test_a_prober_that_is_killed_is_told_once_with_a_reason():
    async def main():
        failures = []
        host = ProbeHost({})
        await host.start(lambda samples, complete: None, failures.append)
        os.kill(host.pid, signal.SIGKILL)
        for _ in range(500):
            if failures:
                break
            await asyncio.sleep(0.02)
        host.aim(1, None)  # goes nowhere, and hurts nobody
        await host.close()
        await host.close()
        (failure,) = failures
        assert isinstance(failure, MachineError)
        assert str(failure) == "the prober died (exit status -9)"

    asyncio.run(main())


def test_what_the_prober_can_not_do_is_told_in_its_own_words():
    async def main():
        failures = []
        host = ProbeHost({})
        await host.start(lambda samples, complete: None, failures.append)
        host._command(
            do="add",
            stream=1,
            probe="htttp",
            config={},
            identity_header="",
            interval_ns=10**9,
            timeout_ns=10**9,
        )
        for _ in range(500):
            if failures:
                break
            await asyncio.sleep(0.02)
        await host.close()
        (failure,) = failures
        assert str(failure) == (
            "the prober died (exit status 1): "
            "LookupError: unknown name `htttp` (did you mean `http`?)"
        )

    asyncio.run(main())


def test_a_listener_that_fails_is_told_and_does_not_hang():
    async def main():
        failures = []
        host = ProbeHost({})

        def deliver(samples, complete):
            raise ZeroDivisionError

        async with Server().listening() as here:
            await host.start(deliver, failures.append)
            prober_config = HttpProbe.Config(path="/ok")
            host.add(StreamSpec(1, "c", "p", "proxy", 10_000_000), "http", prober_config, "x")
            host.aim(1, here)
            for _ in range(500):
                if failures:
                    break
                await asyncio.sleep(0.02)
            await host.close()
        assert [type(failure) for failure in failures] == [ZeroDivisionError]

    asyncio.run(main())


def test_a_prober_that_does_not_come_up_is_an_error_at_once(monkeypatch):
    async def main():
        monkeypatch.setattr(sys, "executable", "/bin/false")
        host = ProbeHost({})
        with pytest.raises(MachineError, match=r"the prober died \(exit status 1\)"):
            await host.start(lambda samples, complete: None, lambda error: None)
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        with pytest.raises(MachineError, match="the prober can't be started"):
            await ProbeHost({}).start(lambda samples, complete: None, lambda error: None)

    asyncio.run(main())


def test_it_ends_when_its_stdin_closes_and_not_by_signals():
    command = [sys.executable, "-P", "-m", "chaosd.probes.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.read(1)  # it is up
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(WAIT_S) == 0


def test_a_parent_that_does_not_read_stops_the_sending_and_loses_no_slot():
    program = "import chaosd.probes.worker as w; w.BACKLOG_MAX = 20_000; w.main()"
    add = {"do": "add", "stream": 1, "probe": "http", "config": {}, "identity_header": "x"}
    add |= {"interval_ns": 500_000, "timeout_ns": 10**9}
    aim = {"do": "aim", "stream": 1, "target": closed_port()}
    reader, samples, complete_ns = Reader(), [], 0
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        for command in (add, aim):
            process.stdin.write(json.dumps(command).encode() + b"\n")
        process.stdin.flush()
        time.sleep(4)  # the pipe is full after one second or two
        stopped_ns = time.monotonic_ns()
        while complete_ns < stopped_ns + 500_000_000:
            for batch, complete in reader.feed(os.read(process.stdout.fileno(), 65536)):
                assert all(sample.scheduled_ns >= complete_ns for sample in batch)
                samples += batch
                complete_ns = complete.get(1, 0)
        process.stdin.close()
        process.stdout.close()
    scheduled = sorted(sample.scheduled_ns for sample in samples)
    assert all(b - a == 500_000 for a, b in pairwise(scheduled))
    outcomes = [sample.outcome for sample in sorted(samples)]
    assert outcomes[0] == outcomes[-1] == Outcome.REFUSED
    assert outcomes.count(Outcome.DROPPED) > 1000


def test_it_ends_when_its_parent_is_killed(tmp_path):
    parent = """
import asyncio
from chaosd.probes.host import ProbeHost
async def main():
    host = ProbeHost({})
    await host.start(lambda samples, complete: None, print)
    print(host.pid, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        process.kill()
    assert gone(pid)


def test_memory_stays_flat():
    async def main():
        async with Server().listening() as here, probing() as prober:
            stream = prober.add(HttpProbe, path="/ok", rate="1000/s")
            prober.aim(stream, here)
            await prober.count(stream, 1000)
            before_kb = memory_kb(prober.host.pid)
            await prober.count(stream, 5000)
            after_kb = memory_kb(prober.host.pid)
            await prober.pause(stream)
        # 4,000 probes that each left a socket or a parser behind would be more than this.
        assert after_kb - before_kb < 1500

    asyncio.run(main())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_parent_may_run_on_either_loop(loop):
    async def main():
        async with Server().listening() as here, probing() as prober:
            stream = prober.add(HttpProbe, path="/ok")
            prober.aim(stream, Address(*here))
            await prober.count(stream, 10)

    factory = asyncio.new_event_loop
    if loop == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
