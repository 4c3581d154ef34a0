"""What a probe costs and how late it is, beside plain httpx and a C tool, in one run.

    python tests/bench/probes.py

All go through a real HAProxy on loopback to the same small app (another HAProxy, so that nothing
written in Python stands behind it), a new connection for each request. The ways take turns, and
medians over the rounds are shown: compare them with each other, not with another machine. Then a
whole `chaosd run` asks, and wrk asks beside one that hardly does: the CPU of all processes together
for each request, HAProxy's and the app's too. It takes about two minutes and always ends with 0;
its last lines say in words whether the targets are met.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from failovers import usage

from chaosd.history.values import Address, Outcome, StreamSpec
from chaosd.probes.host import ProbeHost
from chaosd.probes.http import HttpProbe
from chaosd.proxies.haproxy import builds

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
ROUNDS = 3
SECONDS = 2.0
HANG_S = 2.0
TIMEOUT_S = 2.0
CPU_RATIO_MAX = 1.2
WHOLE_RATE, WHOLE_S, START_S, END_S = 1000, 8.0, 60.0, 60.0
LAG_P99_MAX_US = 1000.0
CELLS_LAG_P99_MAX_US = 5000.0

CONFIG = """
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
{role}
"""
DOOR = """
frontend door
    bind {listen}
    default_backend app
backend app
    server app {app}
"""
APP = """
frontend app
    bind {listen} backlog 4096
    http-request return status 200 content-type text/plain string "hello" hdr X-Instance app
"""
# One request each millisecond, as the prober asks: connections take the next free one. Where
# they rest by chance, several requests share one of wrk's ticks, and wake HAProxy and the app once.
PACED_CONNECTIONS = 16
PACE = """
local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } instant; int clock_gettime(int, instant *);")
local instant, slot = ffi.new("instant"), 0
function delay()
    ffi.C.clock_gettime(1, instant)
    local now = tonumber(instant.s) * 1000 + math.floor(tonumber(instant.ns) / 1e6)
    slot = math.max(slot + 1, now)
    return slot - now
end
"""


@dataclass
class Row:
    """One way of asking; a list has one value per round."""

    name: str
    cpu_us: list[float] = field(default_factory=list)
    lag_p50_us: list[float] = field(default_factory=list)
    lag_p99_us: list[float] = field(default_factory=list)
    parts_us: dict[str, list[float]] = field(default_factory=dict)  # CPU, by process
    note: str = ""

    def add(self, cpu_us, lags_us=()):
        self.cpu_us.append(cpu_us)
        if lags_us:
            self.lag_p50_us.append(quantile(lags_us, 0.5))
            self.lag_p99_us.append(quantile(lags_us, 0.99))


class Measured(NamedTuple):
    """Every row of the table, in its order."""

    ours: Row
    cells: Row
    kept: Row
    hung: Row
    plain: Row
    fast: Row
    beside: Row
    paced: Row
    flat: Row
    whole: Row
    whole_wrk: Row


def quantile(values, q):
    return sorted(values)[min(int(len(values) * q), len(values) - 1)]


def free_address():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Address(*sock.getsockname())


def cpu_s(pid):
    """Processor seconds of a process; the scheduler's own count where there is one."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def haproxy(binary, directory, name, role):
    config = directory / f"{name}.cfg"
    config.write_text(CONFIG.format(role=role))
    process = subprocess.Popen([binary, "-db", "-q", "-f", config], stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def wait_for(address):
    for _ in range(200):
        with socket.socket() as sock:
            if sock.connect_ex(address) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"nothing came up at {address}")


# --- chaosd's own probes ------------------------------------------------------------------------


class Ours:
    """chaosd's prober; many phases in one process, as in a daemon."""

    def __init__(self):
        self.host = ProbeHost({})
        self.samples = []
        self.streams = 0

    async def start(self):
        await self.host.start(
            lambda samples, _: self.samples.extend(samples),
            lambda error: print(f"the prober failed: {error}"),
        )

    async def phase(self, target, rate, seconds, *, streams=1, connection="new", meanwhile=None):
        """Ask for a while. Returns the samples, and the processor time per probe of both sides."""
        first, self.streams = self.streams, self.streams + streams
        mine = range(first, self.streams)
        config = HttpProbe.Config(rate=f"{rate}/s", timeout=f"{TIMEOUT_S}s", connection=connection)
        for stream in mine:
            spec = StreamSpec(stream, "bench", "http", "proxy", config.rate.interval_ns)
            self.host.add(spec, "http", config, "X-Instance")
        await asyncio.sleep(0.3)
        self.samples.clear()
        worker_s, parent_s = cpu_s(self.host.pid), time.process_time()
        for stream in mine:
            self.host.aim(stream, target)
        if meanwhile is not None:
            await meanwhile
        await asyncio.sleep(seconds)
        worker_s, parent_s = cpu_s(self.host.pid) - worker_s, time.process_time() - parent_s
        for stream in mine:
            self.host.aim(stream, None)
        await asyncio.sleep(0.3 if meanwhile is None else TIMEOUT_S + 0.3)
        samples = list(self.samples)
        return samples, worker_s / len(samples) * 1e6, parent_s / len(samples) * 1e6


def lags_us(samples):
    return [(s.sent_ns - s.scheduled_ns) / 1e3 for s in samples if s.outcome != Outcome.DROPPED]


async def hang(pid):
    await asyncio.sleep(1)
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(HANG_S)
    finally:
        os.kill(pid, signal.SIGCONT)


def in_flight_max(samples):
    edges = sorted([(s.sent_ns, 1) for s in samples] + [(s.done_ns, -1) for s in samples])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


# --- plain httpx --------------------------------------------------------------------------------


async def plain_httpx(url, rate, seconds):
    """What one would write: a client without limits, a task per request, open loop."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT_S, trust_env=False) as client:
        await client.get(url)  # it loads what it stands on with its first request
        lags, answered, tasks = [], 0, set()

        async def ask(due):
            nonlocal answered
            lags.append((time.monotonic() - due) * 1e6)
            try:
                answered += (await client.get(url, headers={"connection": "close"})).is_success
            except httpx.HTTPError:
                pass

        cpu, start = time.process_time(), time.monotonic()
        for n in range(round(rate * seconds)):
            due = start + n / rate
            if (wait_s := due - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(ask(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=2 * TIMEOUT_S)
        cpu = time.process_time() - cpu
    return {"cpu_us": cpu / len(lags) * 1e6, "lags_us": lags, "answered": answered}


def run_plain_httpx(url, rate, seconds):
    command = [sys.executable, __file__, "--plain-httpx", url, str(rate), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


# --- wrk ----------------------------------------------------------------------------------------


def same_priority(priority):
    """What makes a child run like the prober does, or the comparison would not be one."""
    match priority:
        case "fifo":
            return lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
        case "nice":
            return lambda: os.setpriority(os.PRIO_PROCESS, 0, -15)
    return None


def run_wrk(binary, priority, url, connections, script=None, seconds=SECONDS):
    """Processor µs per request, requests per second, and seconds; with the prober's priority."""
    command = [binary, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-H", "Connection: close"]
    command += ["-s", str(script)] if script else []
    process = subprocess.Popen(
        [*command, url], stdout=subprocess.PIPE, text=True, preexec_fn=same_priority(priority)
    )
    said = process.stdout.read()
    process.stdout.close()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    requests, took_s = re.search(r"(\d+) requests in ([\d.]+)s", said).groups()
    cpu_us = (used.ru_utime + used.ru_stime) / int(requests) * 1e6
    return cpu_us, int(requests) / float(took_s), float(took_s)


# --- a whole run --------------------------------------------------------------------------------

RUN = """
name: whole
runtime: local
metrics: null
direct: null
faults: [{{type: noop, every: 1h}}]
probes: [{{type: http, rate: {rate}/s}}]
"""


@contextmanager
def whole_run(directory, rate):
    """A `chaosd run` of one cell in which nothing happens: its process, and where it asks."""
    directory.mkdir()
    (directory / "c.yaml").write_text(RUN.format(rate=rate))
    command = [sys.executable, "-m", "chaosd", "run", "c.yaml"]
    with (
        (directory / "out").open("w") as out,
        subprocess.Popen(command, cwd=directory, stdout=out, stderr=out) as daemon,
    ):
        try:
            found, since_s = [], time.monotonic()
            while not found:
                if daemon.poll() is not None or time.monotonic() > since_s + START_S:
                    raise SystemExit(f"it does not start: {(directory / 'out').read_text()}")
                time.sleep(0.2)
                for config in directory.glob("runs/*/*/haproxy.cfg"):
                    found = re.findall(r"^ *bind ([0-9.:]+)$", config.read_text(), re.MULTILINE)
            time.sleep(3)  # until it is steady
            yield daemon.pid, found[0]
        finally:
            daemon.terminate()
            daemon.wait(END_S)


class Meter:
    """The processor seconds of all processes of a run, from when it is made."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.before, self.since_s = usage(daemon).cpu_s, time.monotonic()

    def cores(self):
        """By the name of the process."""
        after, took_s = usage(self.daemon).cpu_s, time.monotonic() - self.since_s
        return {name: (used - self.before.get(name, 0)) / took_s for name, used in after.items()}


def parts_us(cores, rest_cores, rate):
    """CPU µs for each request, by the name of the process, without what the run costs at rest."""
    return {name: (each - rest_cores.get(name, 0)) / rate * 1e6 for name, each in cores.items()}


def add_parts(row, parts):
    row.add(sum(parts.values()))
    for name, each_us in parts.items():
        row.parts_us.setdefault(name, []).append(each_us)


def measure_whole(wrk, priority, directory, ours, theirs):
    """CPU µs for each request, of all processes: chaosd's own, and wrk's beside a quiet chaosd."""
    script = directory / "pace.lua"
    for number in range(ROUNDS):
        print(f"a whole run, {number + 1} of {ROUNDS} …", file=sys.stderr)
        with whole_run(directory / f"quiet{number}", 1) as (daemon, entry):
            meter = Meter(daemon)
            time.sleep(WHOLE_S)
            rest_cores = meter.cores()
            meter = Meter(daemon)
            cpu_us, rate, _ = run_wrk(
                wrk, priority, f"http://{entry}/", PACED_CONNECTIONS, script, WHOLE_S
            )
            add_parts(theirs, {"wrk": cpu_us} | parts_us(meter.cores(), rest_cores, rate))
            theirs.note = f"{rate:.0f}/s"
        with whole_run(directory / f"asking{number}", WHOLE_RATE) as (daemon, _):
            meter = Meter(daemon)
            time.sleep(WHOLE_S)
            add_parts(ours, parts_us(meter.cores(), rest_cores, WHOLE_RATE))


# --- the run ------------------------------------------------------------------------------------


async def measure(door, app_pid, wrk, directory):
    url = f"http://{door}/"
    ours, plain = Row("chaosd http, 1000/s"), Row("plain httpx, 200/s")
    kept = Row("chaosd http, 1000/s, keep-alive")
    cells = Row("chaosd http, 20 x 50/s")
    paced, flat = Row("wrk, paced to 1000/s"), Row("wrk, flat out, 8 connections")
    script = directory / "pace.lua"
    script.write_text(PACE)
    prober = Ours()
    await prober.start()
    print(f"{os.cpu_count()} processors; the prober runs as: {prober.host.priority}")
    dropped, parent_us = 0, []
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS} …", file=sys.stderr)
        for row, options in (
            (ours, {"rate": 1000}),
            (cells, {"rate": 50, "streams": 20}),
            (kept, {"rate": 1000, "connection": "keep-alive"}),
        ):
            samples, cpu_us, parent = await prober.phase(door, seconds=SECONDS, **options)
            row.add(cpu_us, lags_us(samples))
            dropped += sum(sample.outcome == Outcome.DROPPED for sample in samples)
            parent_us.append(parent)
        said = await asyncio.to_thread(run_plain_httpx, url, 200, SECONDS)
        plain.add(said["cpu_us"], said["lags_us"])
        if wrk:
            for row, connections, pace in ((paced, PACED_CONNECTIONS, script), (flat, 8, None)):
                cpu_us, rate, _ = await asyncio.to_thread(
                    run_wrk, wrk, prober.host.priority, url, connections, pace
                )
                row.add(cpu_us)
                row.note = f"{rate:.0f}/s"
    ours.note = f"{dropped} dropped; the parent pays {median(parent_us):.1f} µs more per sample"
    fast = Row("plain httpx, 1000/s")
    said = await asyncio.to_thread(run_plain_httpx, url, 1000, SECONDS)
    fast.add(said["cpu_us"], said["lags_us"])
    fast.note = f"{said['answered']} of {len(said['lags_us'])} answered"
    print("the app hangs …", file=sys.stderr)
    hung = Row("chaosd http, 1000/s, the app hangs 2 s")
    samples, cpu_us, _ = await prober.phase(door, 1000, 1.0, meanwhile=hang(app_pid))
    hung.add(cpu_us, lags_us(samples))
    hung_dropped = sum(sample.outcome == Outcome.DROPPED for sample in samples)
    hung.note = f"{len(samples)} sent, {hung_dropped} dropped, {in_flight_max(samples)} in flight"
    await prober.host.close()
    beside = Row("plain httpx, 1000/s, the app hangs 2 s")
    said, _ = await asyncio.gather(
        asyncio.to_thread(run_plain_httpx, url, 1000, HANG_S + 2), hang(app_pid)
    )
    beside.add(said["cpu_us"], said["lags_us"])
    beside.note = f"{said['answered']} of {len(said['lags_us'])} answered"
    whole, whole_wrk = Row("a whole chaosd run, 1000/s"), Row("wrk beside a quiet one, 1000/s")
    if wrk:
        priority = prober.host.priority
        await asyncio.to_thread(measure_whole, wrk, priority, directory, whole, whole_wrk)
    return Measured(
        ours, cells, kept, hung, plain, fast, beside, paced, flat, whole, whole_wrk
    ), dropped + hung_dropped


def show(rows):
    print(f"\n{'a new connection for each request':40} {'CPU µs':>8} {'lag p50':>9} {'p99 µs':>9}")
    for row in rows:
        if row.cpu_us:
            lags = [f"{median(lag):.0f}" if lag else "" for lag in (row.lag_p50_us, row.lag_p99_us)]
            print(f"{row.name:40} {median(row.cpu_us):8.0f} {lags[0]:>9} {lags[1]:>9}  {row.note}")
        for name, cpu_us in sorted(row.parts_us.items(), key=lambda part: -median(part[1])):
            print(f"    {name:36} {median(cpu_us):8.0f}")


def judge(rows, dropped):
    def say(holds, what):
        print(f"target {'met' if holds else 'missed'}: {what}")

    print()
    cpu_us = median(rows.ours.cpu_us)
    if rows.paced.cpu_us:
        paced, flat = (cpu_us / median(row.cpu_us) for row in (rows.paced, rows.flat))
        what = f"{paced:.2f} times the processor time of wrk at the same rate"
        say(paced <= CPU_RATIO_MAX, f"{what} (at most {CPU_RATIO_MAX:.1f})")
        print(f"({flat:.2f} times that of wrk flat out, which hardly ever sleeps between requests)")
        whole = median(rows.whole.cpu_us) / median(rows.whole_wrk.cpu_us)
        what = f"{whole:.2f} times the processor time with wrk at the same rate, all processes"
        say(whole <= CPU_RATIO_MAX, f"{what} (at most {CPU_RATIO_MAX:.1f})")
    else:
        print("no C reference: wrk is not installed")
    plain = median(rows.plain.cpu_us) / cpu_us
    print(f"(plain httpx takes {plain:.1f} times the processor time of chaosd)")
    for row, limit_us in (
        (rows.ours, LAG_P99_MAX_US),
        (rows.hung, LAG_P99_MAX_US),
        (rows.cells, CELLS_LAG_P99_MAX_US),
    ):
        p99_us = median(row.lag_p99_us)
        what = f"{row.name}: schedule lag p99 {p99_us:.0f} µs (under {limit_us:.0f})"
        say(p99_us < limit_us, what)
    say(dropped == 0, f"{dropped} probes dropped (none)")


def main():
    if sys.argv[1:2] == ["--plain-httpx"]:
        url, rate, seconds = sys.argv[2:]
        print(json.dumps(asyncio.run(plain_httpx(url, float(rate), float(seconds)))))
        return
    binary, wrk = builds.at_hand(), shutil.which("wrk", path=PATH)
    if binary is None:
        print("nothing measured: there is no haproxy on this machine")
        return
    door, app = free_address(), free_address()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        app_pid = stack.enter_context(haproxy(binary, directory, "app", APP.format(listen=app)))
        role = DOOR.format(listen=door, app=app)
        stack.enter_context(haproxy(binary, directory, "door", role))
        wait_for(app)
        wait_for(door)
        rows, dropped = asyncio.run(measure(door, app_pid, wrk, directory))
    show(rows)
    judge(rows, dropped)


if __name__ == "__main__":
    main()
