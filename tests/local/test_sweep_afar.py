"""A sweep on workers that others have started: without its files, over TLS, and one that hangs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

pytestmark = [
    *(pytest.mark.slow, pytest.mark.timeout(600)),
    pytest.mark.skipif(find_spec("distributed") is None, reason="the extra `dask` is not here"),
]
LIMIT_S = 300
OWN = """\
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    errorfile 503 {where}/gone.http
resolvers r
    nameserver one 127.0.0.11:53
    timeout resolve 1s
frontend f
    bind :8080
    http-request set-header X-Tier %[req.hdr(host),map(tiers.map,none)]
    default_backend app
backend app
    server a "$APP":8080 check resolvers r resolve-prefer ipv4 init-addr none
"""
DESIGN = {
    "name": "d",
    "vary": {"proxy.retries": [1, 2], "proxy.server.fall": [2, 3]},
    "faults": ["recreate"],
    "until": {"cycles": 10},
    "seed": 7,
}
BASE = {
    "name": "b",
    "runtime": "sim",
    "proxy": {"type": "haproxy"},
    "probes": [{"type": "http", "rate": "20/s"}],
}
HIDDEN = 'mount -t tmpfs tmpfs "$0" && exec "$@"'  # a namespace in which a directory is empty


@pytest.fixture
def start(tmp_path, monkeypatch) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs in a directory of their own; those that are left are killed."""
    place = tmp_path / "design"
    place.mkdir()
    monkeypatch.chdir(place)
    started: list[subprocess.Popen[str]] = []

    def one(*words: str, **more: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                words,
                env=os.environ | more,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield one
    for each in started:
        each.send_signal(signal.SIGCONT)
        if each.poll() is None:
            os.killpg(each.pid, signal.SIGKILL)
        each.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def dask(what: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "dask", what, *words]


def scheduler(start, protocol: str = "tcp", **more: str) -> str:
    port = free_port()
    words = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    start(*dask("scheduler", *words, "--protocol", protocol), **more)
    return f"127.0.0.1:{port}"


def worker(name: str, address: str) -> list[str]:
    # Without a nanny the process that is stopped is the worker itself.
    words = [address, "--nthreads", "1", "--name", name, "--no-nanny", "--no-dashboard"]
    return dask("worker", *words, "--local-directory", "/tmp")


def sweep(start, *options: str, **more: str) -> subprocess.Popen[str]:
    return start(sys.executable, "-m", "chaosd", "sweep", "d.yaml", *options, **more)


def said_of(running: subprocess.Popen[str]) -> str:
    said, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode in (0, 4), said
    return said


def answer(directory: str) -> dict:
    found = json.loads((Path(directory) / "answer.json").read_text())
    del found["hosts"], found["words"]
    return found


@pytest.mark.haproxy
@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_the_users_own_files_go_to_workers_that_have_none_of_them(start) -> None:
    here = Path.cwd()
    (here / "haproxy.cfg").write_text(OWN.format(where=here))
    (here / "gone.http").write_text("HTTP/1.0 503 Gone\r\n\r\nours\n")
    (here / "tiers.map").write_text("a b\n")
    (here / "env").write_text("APP=shop.internal\n")
    own = {"type": "haproxy", "config": "haproxy.cfg", "env": "env"}
    Path("base.yaml").write_text(yaml.safe_dump(BASE | {"runtime": "local", "proxy": own}))
    more = {"base": "base.yaml", "vary": {"proxy.retries": [1, 2]}, "until": {"cycles": 2}}
    Path("d.yaml").write_text(yaml.safe_dump(DESIGN | more, sort_keys=False))
    address = scheduler(start)
    apart = ["unshare", "--mount", "sh", "-c", HIDDEN, str(here)]
    start(*apart, *worker("a", f"tcp://{address}"), PWD="/tmp")
    said = said_of(sweep(start, "--on", f"dask://{address}"))
    assert "not used" not in said
    answer = json.loads(Path("sweeps/d/answer.json").read_text())
    assert answer["cycles"] >= 2 * 2
    for directory in Path("sweeps/d/rounds").iterdir():
        # As all of it is called here, and can be run again here.
        assert f"{here}/haproxy.cfg" in (directory / "config.yaml").read_text()
        copy = (directory / "c1/haproxy.cfg").read_text()
        assert f"errorfile 503 {here}/gone.http\n" in copy
        assert f"map({here}/tiers.map," in copy


def test_a_worker_that_hangs_costs_some_seconds(start) -> None:
    Path("base.yaml").write_text(yaml.safe_dump(BASE))
    more = {"base": "base.yaml", "until": {"cycles": 30}}
    Path("d.yaml").write_text(yaml.safe_dump(DESIGN | more, sort_keys=False))
    address = scheduler(start)
    workers = {name: start(*worker(name, f"tcp://{address}")) for name in ("a", "b")}
    running = sweep(start, "--on", f"dask://{address}", "--dir", "two")
    made = Path("two/blocks.jsonl")
    deadline = time.monotonic() + LIMIT_S
    while not (made.exists() and _has(made, "a")):
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers["a"].send_signal(signal.SIGSTOP)
    stopped_s = time.monotonic()
    said = said_of(running)
    assert "a has not been heard of for 20 s: round " in said
    assert "is made again" in said
    assert time.monotonic() - stopped_s < 120
    assert said_of(sweep(start, "--on", "local:1", "--dir", "one"))
    assert answer("two") == answer("one")


def _has(blocks: Path, host: str) -> bool:
    """Whether this one makes a round now."""
    lines = [json.loads(line) for line in blocks.read_text().splitlines()]
    begun = {each["round"]["number"]: each["round"]["host"] for each in lines if "round" in each}
    done = {each["brought"]["number"] for each in lines if "brought" in each}
    return any(at == host and number not in done for number, at in begun.items())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl makes a certificate")
def test_over_tls_with_dasks_own_settings(start) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    made += ["-nodes", "-days", "2", "-subj", "/CN=chaosd", "-keyout", "key.pem", "-out", "ca.pem"]
    subprocess.run(made, check=True, capture_output=True)
    pair = {"cert": "ca.pem", "key": "key.pem"}
    tls = {"ca-file": "ca.pem", **dict.fromkeys(("scheduler", "worker", "client"), pair)}
    comm = {"require-encryption": True, "tls": tls}
    Path("dask.yaml").write_text(yaml.safe_dump({"distributed": {"comm": comm}}))
    Path("base.yaml").write_text(yaml.safe_dump(BASE))
    Path("d.yaml").write_text(yaml.safe_dump(DESIGN | {"base": "base.yaml"}, sort_keys=False))
    where = {"DASK_CONFIG": str(Path.cwd())}
    address = scheduler(start, "tls", **where)
    start(*worker("a", f"tls://{address}"), **where)
    said = said_of(sweep(start, "--on", f"tls://{address}", **where))
    assert "worker a: " in said
    assert json.loads(Path("sweeps/d/answer.json").read_text())["cycles"] >= 40
    refused = sweep(start, "--on", f"dask://{address}", "--dir", "plain")
    told, _ = refused.communicate(timeout=LIMIT_S)
    assert refused.returncode == 3, told
    assert len(told.strip().splitlines()[-1]) < 300
