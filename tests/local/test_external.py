"""What chaosd has not made is measured as exactly: a backend, an outage, and its own account."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from machine import but_for_lateness

from chaosd.errors import Exit
from chaosd.history.codec import decode_cycle
from chaosd.history.cycles import CycleOutcome
from chaosd.history.reader import RunReader
from chaosd.history.values import Outcome

BACKEND = Path(__file__).parent.parent / "data/backend/backend.py"
ANSWER_S = 0.1  # what an answer may take on such a machine
SLACK_S = 0.02  # of a machine that runs other tests beside it; `chaosd calibrate` says what it is


@pytest.fixture
def backend(tmp_path):
    """Somebody else's program: its door, its admin door, and the file of its outages."""
    truth = tmp_path / "truth.jsonl"
    with subprocess.Popen(
        [sys.executable, BACKEND, truth], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        door, admin = process.stdout.readline().split()
        yield door, admin, truth
        process.stdin.close()
        process.wait(10)


def run(where: Path, *, forgiven: bool = True, **keys) -> subprocess.CompletedProcess[str]:
    """`forgiven` is the lateness of a busy machine's probes, if that is in a few cycles only."""
    (where / "c.yaml").write_text(yaml.safe_dump({"name": "found", "metrics": None} | keys))
    done = subprocess.run(
        [sys.executable, "-m", "chaosd", "run", "c.yaml"],
        cwd=where, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if forgiven:
        done.returncode = but_for_lateness(done.returncode, where / "runs/latest")
    return done


def cycles_of(where: Path):
    lines = (where / "runs/latest/cycles.jsonl").read_text().splitlines()
    cycles = [decode_cycle(line) for line in lines]
    return [cycle for cycle in cycles if cycle.outcome != CycleOutcome.SKIPPED]


@pytest.mark.quiet
@pytest.mark.slow  # test_calibrate.py has the like each time
def test_somebody_elses_outages_are_measured_to_a_probe_interval(tmp_path, backend) -> None:
    door, admin, truth = backend
    lengths = ["0.061", "0.3337", "0.9", "0.1503", "0.52"]
    # One program for all: CHAOSD_CYCLE tells it which outage it is.
    script = tmp_path / "move.py"
    script.write_text(
        "import os, subprocess, sys\n"
        f"length = {lengths!r}[int(os.environ['CHAOSD_CYCLE']) % {len(lengths)}]\n"
        f"subprocess.run([{sys.executable!r}, {str(BACKEND)!r}, 'away', {admin!r}, length],"
        " check=True)\n"
    )
    done = run(
        tmp_path,
        runtime={"type": "external", "target": f"http://127.0.0.1:{door}/"},
        faults=[
            {
                "type": "command",
                "inject": [sys.executable, str(script)],
                "every": {"min": "400ms", "max": "800ms"},
            }
        ],
        probes=[{"type": "http", "rate": "500/s", "timeout": "250ms"}],
        measure={"stable_for": "300ms", "recovery_limit": "10s"},
        until={"cycles": 6},
        forgiven=False,
    )
    assert done.returncode in (Exit.OK, Exit.UNKNOWN), (
        done.stderr
    )  # a busy machine makes it unknown
    assert "external" in done.stdout
    known = [json.loads(line) for line in truth.read_text().splitlines()]
    cycles = cycles_of(tmp_path)
    assert len(cycles) == len(known) == 6
    for cycle, outage in zip(cycles, known, strict=True):
        assert cycle.outcome == CycleOutcome.RECOVERED
        length_s = (outage["back"] - outage["away"]) / 1e9
        assert length_s >= 0.06
        # One interval, what this busy machine delayed the probes by, and 2 ms.
        assert abs(cycle.outage_gap_s - length_s) < cycle.resolution_s + SLACK_S
        assert abs(cycle.outage_loss_s - length_s) < cycle.resolution_s + SLACK_S
        end_s = (cycle.t0_ns - outage["back"]) / 1e9 + cycle.recovery_s
        assert -SLACK_S < end_s < cycle.resolution_s + ANSWER_S
        # What comes before the outage, the program's own start, is part of the recovery.
        assert cycle.recovery_s > (outage["back"] - cycle.t0_ns) / 1e9 - SLACK_S


def test_a_fault_that_breaks_nothing_is_no_outage_and_one_that_fails_no_sample(
    tmp_path, backend
) -> None:
    done = run(
        tmp_path,
        runtime={"type": "external", "target": f"127.0.0.1:{backend[0]}"},
        faults=[
            {"type": "command", "name": "harmless", "inject": ["sleep", "0.4"], "every": "1200ms"},
            {"type": "command", "name": "broken", "inject": ["ls", "/nowhere"], "every": "700ms"},
        ],
        probes=[{"type": "http", "rate": "100/s"}],
        measure={"stable_for": "200ms", "recovery_limit": "10s"},
        until={"cycles": 4},
    )
    found = {}
    for cycle in cycles_of(tmp_path):
        found.setdefault(cycle.fault, []).append(cycle)
    assert done.returncode == 4, done.stderr  # too many are invalid
    for cycle in found["harmless"]:
        assert (cycle.outcome, cycle.recovery_s, cycle.failed) == ("unaffected", None, 0)
        assert cycle.end_ns - cycle.t0_ns > 0.59e9  # it watched until all was done, and on
    for cycle in found["broken"]:
        assert cycle.outcome == CycleOutcome.INVALID
        assert "exit status 2" in cycle.cause.detail
        assert "/nowhere" in cycle.cause.detail


def test_who_is_not_the_app_is_misrouted(tmp_path) -> None:
    elsewhere = tmp_path / "elsewhere"

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X-Served-By", "stranger" if elsewhere.exists() else "green")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 512  # with its 5 some SYNs are lost, and come again a second later

    with Server(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        move = f"touch {elsewhere}; sleep 0.3; rm {elsewhere}"
        done = run(
            tmp_path,
            runtime={
                "type": "external",
                "target": f"127.0.0.1:{server.server_port}",
                "identity_header": "X-Served-By",
                "identities": ["blue", "green"],
            },
            faults=[{"type": "command", "inject": ["sh", "-c", move], "every": "1s"}],
            probes=[{"type": "http", "rate": "100/s"}],
            measure={"stable_for": "200ms", "recovery_limit": "10s"},
            until={"cycles": 2},
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    cycles = cycles_of(tmp_path)
    assert len(cycles) == 2
    probes = RunReader(tmp_path / "runs/latest").samples(1, 0, 2**62)
    for cycle in cycles:
        assert cycle.outcome == CycleOutcome.RECOVERED
        assert cycle.failed == 0
        # The program's own start and end come on top, and whatever the machine does meanwhile.
        # A thread of the server may look for the file later than it took the request.
        program_s = 0.3 - cycle.resolution_s - 5 * SLACK_S
        assert program_s < cycle.outage_gap_s < 1.3
        assert cycle.outage_loss_s == cycle.misrouted / 100
        # What such a thread answers wrongly may have been sent before T0: the outage began then.
        wrong_ns = [p.sent_ns for p in probes if p.who == "stranger" and p.done_ns >= cycle.t0_ns]
        recovered_ns = cycle.t0_ns + cycle.recovery_s * 1e9
        longest_s = (recovered_ns - min(wrong_ns)) / 1e9
        assert longest_s >= cycle.outage_gap_s - 2 * cycle.resolution_s - SLACK_S


@pytest.mark.haproxy
def test_an_haproxy_that_is_there_is_read_by_its_log_and_its_api(
    tmp_path, backend, haproxy
) -> None:
    """It is not chaosd's: its server goes down when the backend does, and it says so."""
    door, admin, _ = backend
    ports = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    listen, log = ports
    api = tmp_path / "api"
    (tmp_path / "haproxy.cfg").write_text(
        f"global\n  log 127.0.0.1:{log} local0\n  stats socket {api} mode 600 level user\n"
        "defaults\n  mode http\n  log global\n  timeout connect 1s\n  timeout client 5s\n"
        f"  timeout server 5s\nlisten app\n  bind 127.0.0.1:{listen}\n"
        f"  server app 127.0.0.1:{door} check inter 100ms fall 2 rise 2\n"
    )
    command = [haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")]
    move = [sys.executable, str(BACKEND), "away", admin, "0.6"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        done = run(
            tmp_path,
            runtime={
                "type": "external",
                "target": f"127.0.0.1:{listen}",
                "direct": f"127.0.0.1:{door}",
                "api": str(api),
                "log": f"127.0.0.1:{log}",
            },
            proxy={"type": "haproxy"},
            faults=[{"type": "command", "inject": move, "every": "2s", "jitter": "0s"}],
            probes=[{"type": "http", "rate": "100/s"}],
            measure={"stable_for": "300ms"},
            until={"cycles": 2},
        )
        process.terminate()
    assert done.returncode == 0, done.stderr
    for cycle in cycles_of(tmp_path):
        assert cycle.outcome == CycleOutcome.RECOVERED
        assert 0.5 < cycle.recovery_s < 1.5
        assert cycle.predicted is None
    reader = RunReader(tmp_path / "runs/latest")
    # Its log says it when it happens, and its API when it is asked.
    sources = {event.what.told_by for event in reader.events("down", "up")}
    assert sources == {"proxy.log", "proxy.api"}
    [direct] = [e.what.stream for e in reader.events("stream") if e.what.via == "direct"]
    assert any(s.outcome == Outcome.REFUSED for s in reader.samples(direct, 0, 2**62))


def test_nobody_there_is_said_in_a_line(tmp_path) -> None:
    (tmp_path / "c.yaml").write_text(
        "name: x\nmetrics: null\nruntime:\n  type: external\n  target: no-such-host.invalid:80\n"
        "faults: [{type: noop, every: 1s}]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "chaosd", "run", "c.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "no-such-host.invalid can't be looked up" in line
