"""A real run with secrets and a forger beside it: nothing leaks, and nothing forged is told."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from dns.message import from_wire, make_query

from chaosd.history.events import (
    LogRefused,
    QueriesCounted,
    ResolversRead,
    ServerChanged,
    StrangersAsked,
    Teller,
)
from chaosd.history.reader import RunReader

pytestmark = [
    pytest.mark.haproxy,
    pytest.mark.usefixtures("haproxy"),
]

ROOT = Path(__file__).parents[2]
SECRETS = ("hunter2-stats", "hunter2-list", "hunter2-header", "hunter2-env")
OWN = """
userlist people
    user me insecure-password hunter2-list
backend admin
    stats enable
    stats auth admin:hunter2-stats
"""
CONFIG = {
    "name": "t",
    "runtime": "local",
    "metrics": None,
    "app": {"env": {"DB_PASSWORD": "hunter2-env"}},
    "dns": {"missing": "stale"},  # strangers are answered at any moment
    "proxy": {"type": "haproxy", "config": "./own.cfg"},
    "faults": [
        {"type": "recreate", "every": "6s", "jitter": "0s"},
        {
            "type": "command",
            "name": "told",
            "every": "4s",
            "jitter": "0s",
            "inject": ["/bin/sh", "-c", "echo $0", "hunter2-env"],
        },
    ],
    "until": {"cycles": 3},
}
ASKED = 600
FORGED = b"<133>Nov 25 12:00:00 haproxy[7]: app/app changed its IP from 1.1.1.1 to 6.6.6.6 by a/b."


def forge(directory: Path) -> int:
    """Send lines to where this run's proxy logs, and ask its DNS, from this process; how many."""
    said = (directory / "c1/haproxy.log").parent
    assert said.is_dir()
    environment = next(
        found
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and (found := proxy_environment(entry, directory))
    )
    host, _, port = environment["CHAOSD_LOG"].rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(50):
            sender.sendto(FORGED, (host, int(port)))
        sender.settimeout(10)
        host, _, port = environment["CHAOSD_DNS"].rpartition(":")
        for name, rcode in (("app.internal", 0), ("example.com", 5)):  # REFUSED
            for _ in range(ASKED // 2):
                sender.sendto(make_query(name, "A").to_wire(), (host, int(port)))
                assert from_wire(sender.recv(4096)).rcode() == rcode
    return 50


def proxy_environment(entry: Path, directory: Path) -> dict[str, str]:
    """The variables of the proxy of this run; empty for every other process."""
    try:
        lines = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
        said = (entry / "cmdline").read_bytes()
    except OSError:
        return {}
    is_it = str(directory / "c1").encode() in said and b"haproxy" in said
    return dict(line.partition("=")[::2] for line in lines) if is_it else {}


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, str, int]:
    """A run's directory, what it said, and how many lines were forged in it."""
    where = tmp_path_factory.mktemp("run")
    text = (ROOT / "haproxy/haproxy.cfg").read_text()
    text = text.replace(
        "    default_backend",
        "    http-request set-header Authorization hunter2-header\n    default_backend",
    )
    (where / "own.cfg").write_text(text + OWN)
    (where / "own.cfg").chmod(0o600)
    (where / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    forged = 0
    with subprocess.Popen(
        [sys.executable, "-m", "chaosd", "run", "c.yaml"],
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as daemon:
        try:
            latest, deadline = where / "runs/latest", time.monotonic() + 60
            while time.monotonic() < deadline and daemon.poll() is None and not forged:
                cycles = latest / "cycles.jsonl"
                if cycles.exists() and cycles.read_text():
                    forged = forge(latest.resolve())
                time.sleep(0.05)
            said, _ = daemon.communicate(timeout=90)
        finally:
            daemon.kill()
    assert forged, said.decode()
    return latest.resolve(), said.decode(), forged


def test_no_secret_leaks(ran) -> None:
    directory, said, _ = ran
    private = directory / "c1/haproxy.cfg"
    assert all(secret in private.read_text() for secret in SECRETS[:3]), "the proxy needs them"
    for secret in SECRETS:
        assert secret not in said
        for path in directory.rglob("*"):
            if path.is_file() and path != private:
                assert secret.encode() not in path.read_bytes(), path
    report = (directory / "report.md").read_text()
    assert "stats auth (not shown)" in report
    assert "insecure-password (not shown)" in report
    assert "DB_PASSWORD: (not shown)" in report
    told = [
        line for line in (directory / "events.jsonl").read_text().splitlines() if '"line"' in line
    ]
    assert all("(not shown)" in line for line in told)
    assert told


def test_its_files_are_for_its_user_alone(ran) -> None:
    directory, _, _ = ran
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {
        path: stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*") if path.is_file()
    }
    assert {oct(mode) for mode in modes.values()} == {oct(0o600)}, modes


def test_check_says_no_secret_either(ran) -> None:
    where = ran[0].parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "chaosd", "check", "c.yaml"],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"CHAOSD_TRACEBACK": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "stats auth (not shown)" in done.stdout
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr


def test_forged_lines_are_counted_and_not_told(ran) -> None:
    directory, said, forged = ran
    events = [event.what for event in RunReader(directory).events()]
    moves = [e for e in events if isinstance(e, ServerChanged) and e.told_by is Teller.LOG]
    assert moves, "the proxy's own lines are told"
    assert not [e for e in moves if e.new == "6.6.6.6"]
    assert max(e.count for e in events if isinstance(e, LogRefused)) == forged
    note = f"{forged} log lines came from another sender than the proxy"
    assert note in said
    assert note in (directory / "report.md").read_text()
    assert note in json.dumps(json.loads((directory / "report.json").read_text())["notes"])


def test_what_strangers_ask_of_the_dns_is_in_no_number_but_its_own(ran) -> None:
    directory, said, _ = ran
    events = [event.what for event in RunReader(directory).events()]
    assert max(e.count for e in events if isinstance(e, StrangersAsked)) == ASKED
    counted = [e.count for e in events if isinstance(e, QueriesCounted)]
    sent = [e.counters["dns"]["sent"] for e in events if isinstance(e, ResolversRead)]
    assert counted
    assert abs(counted[-1] - sent[-1]) <= 20
    note = f"{ASKED} questions to chaosd's DNS came from another sender than the proxy"
    assert note in said
    assert note in (directory / "report.md").read_text()
