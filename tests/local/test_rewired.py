"""Somebody's haproxy.cfg, unedited: what becomes of it on a real HAProxy."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chaosd.history.codec import decode_cycle
from chaosd.history.cycles import Cycle
from chaosd.history.values import Address
from chaosd.plugins.proxy import Wiring
from chaosd.proxies.haproxy import HAProxy
from chaosd.proxies.haproxy.config import Config

pytestmark = [pytest.mark.haproxy, pytest.mark.usefixtures("haproxy")]

EVERYTHING = """\
global
    user haproxy
    group haproxy
    chroot /var/lib/haproxy
    daemon
    maxconn 900000
    stats socket /run/haproxy/admin.sock mode 660 level admin
    stats socket ipv4@0.0.0.0:9999
    log /dev/log local0
    log 10.0.0.1:514 local1 notice
    lua-load /etc/haproxy/cors.lua
    external-check
    localpeer here
defaults
    log global
    mode http
    option httplog
    timeout connect 2s
    timeout client 10s
    timeout server 10s
    errorfile 503 /etc/haproxy/errors/503.http
    default-server inter 500ms ssl verify required ca-file /etc/ca.pem send-proxy
resolvers docker
    nameserver one 127.0.0.11:53
    nameserver two tcp@ns.example:53
    timeout resolve 200ms
    timeout retry 200ms
resolvers conf
    parse-resolv-conf
peers mates
    peer here 10.0.0.2:1024
    peer there 10.0.0.3:1024
    table seen type ip size 1k expire 1m
ring out
    format rfc3164
    server s 10.0.0.4:514
userlist people
    user admin insecure-password secret
frontend web
    {bind}
    bind [::]:443 v4v6 ssl crt /etc/haproxy/site.pem alpn h2,http/1.1
    http-response lua.cors
    acl internal src -f /etc/haproxy/internal.lst
    use_backend metrics if {{ path /metrics }}
    use_backend shop if {{ hdr(host) -i shop.example.org }}
    default_backend static
backend shop
    option external-check
    external-check command /bin/true
    option httpchk GET /up
    http-check expect status 200
    server one {name} resolvers docker check port 9000 init-addr last,libc,none
    server two other.example:443 resolvers docker check backup
    server three 10.0.0.5:443 check backup
backend static
    server cdn 10.0.0.6:80 check observe layer4
    server loop 127.0.0.1:443
backend metrics
    http-request use-service prometheus-exporter
    http-request deny if {{ path,map(/etc/haproxy/deny.map) -m found }}
"""
TRIES, TOO_BUSY = 3, (3, 4)  # the app did not come up, or nobody can be sure
WELL_S = 4
APP = {"plain": "shop.internal:443", "service": "_http._tcp.shop.internal"}


def text(port: int, shape: str) -> str:
    """Everything at once, with its entry at this port: plain with a PROXY line, or by TLS only."""
    bind = f"bind 127.0.0.1:{port} accept-proxy"
    if shape == "service":
        bind = f"bind 127.0.0.1:{port} ssl crt /etc/haproxy/site.pem alpn h2,http/1.1"
    found = EVERYTHING.format(bind=bind, name=APP[shape])
    if shape == "service":
        found = found.replace("    server one", "    server-template one 4")
        found = found.replace(" port 9000", "")
    return found


def test_a_copy_of_everything_is_taken_by_haproxy(haproxy, tmp_path):
    file = tmp_path / "haproxy.cfg"
    file.write_text(text(80, "plain"))
    proxy = HAProxy(Config.model_validate({"type": "haproxy", "binary": haproxy, "config": file}))
    wiring = Wiring(
        listen=Address("127.64.0.1", 8080),
        dns=Address("127.64.0.2", 5353),
        app_name="",
        app_port=8080,
        replicas=1,
        log=Address("127.64.0.2", 5140),
        api=tmp_path / "run/api",
        directory=tmp_path / "run",
        scratch=tmp_path / "run",
        app_at=Address("127.64.0.10", 8080),
        beside="127.64.0.11",
    )
    for each in (wiring, replace(wiring, log=None, beside=None, app_at=None)):
        launch = proxy.launch(each)
        launch.write()
        assert proxy.check(launch) is None
    # What HAProxy does not take is said at the user's own line.
    file.write_text(file.read_text() + "    frobnicate yes\n")
    proxy = HAProxy(Config.model_validate({"type": "haproxy", "binary": haproxy, "config": file}))
    launch = proxy.launch(wiring)
    launch.write()
    line = len(file.read_text().splitlines())
    assert (proxy.check(launch) or "").startswith(f"{file}:{line}: unknown keyword 'frobnicate'")
    # Also where its sentence names other lines.
    file.write_text(text(80, "plain").replace("\nbackend static", "\nbackend static\n    mode tcp"))
    proxy = HAProxy(Config.model_validate({"type": "haproxy", "binary": haproxy, "config": file}))
    launch = proxy.launch(wiring)
    launch.write()
    said = proxy.check(launch) or ""
    assert f"({file}:" in said
    assert str(tmp_path / "run") not in said


class Run:
    """`chaosd run --haproxy`, in a directory of its own; the user's port is somebody else's.

    One cycle: on a busy machine it may come to nothing, and is tried again.
    """

    def __init__(self, where: Path, shape: str) -> None:
        (where / "etc").mkdir(parents=True)
        self.where, self.file = where, where / "etc/haproxy.cfg"
        self.taken = socket.create_server(("127.0.0.1", 0))  # without SO_REUSEPORT
        self.file.write_text(text(self.taken.getsockname()[1], shape))
        self.digest = hashlib.sha256(self.file.read_bytes()).hexdigest()
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "chaosd", "run", "--haproxy", str(self.file)]
        options = ["--cycles", "1", "--set", "faults.0.every=4s", "--set", "direct=null"]
        return subprocess.Popen(
            [*command, *options],
            cwd=self.where,
            env=os.environ | {"COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self) -> str:
        try:
            for _ in range(TRIES):
                said, _ = self.process.communicate(timeout=90)
                if self.process.returncode not in (0, *TOO_BUSY) or self.went_well():
                    break
                self.process = self._start()
        finally:
            self.process.kill()
            self.process.wait()
            self.taken.close()
        return said

    def went_well(self) -> bool:
        cycle = self.cycle()
        return cycle is not None and cycle.recovery_s is not None and cycle.recovery_s < WELL_S

    def cycle(self) -> Cycle | None:
        """The last run's."""
        file = self.where / "runs/latest/cycles.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return decode_cycle(lines[-1]) if lines else None


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Both shapes at once: most of their time they wait."""
    started = {shape: Run(tmp_path_factory.mktemp(shape) / "x", shape) for shape in APP}
    return {shape: (run, run.wait()) for shape, run in started.items()}


@pytest.mark.parametrize("shape", APP)
def test_a_failover_of_somebody_elses_file(runs, shape):
    run, said = runs[shape]
    assert run.process.returncode in (0, 4), said  # 4: the machine was too busy to be sure
    cycle = run.cycle()
    assert cycle is not None, said
    assert cycle.recovery_s is not None, said
    assert cycle.recovery_s < WELL_S
    assert said.rstrip().endswith(f"chaosd doctor {run.file}"), said
    assert hashlib.sha256(run.file.read_bytes()).hexdigest() == run.digest
    assert sorted(path.name for path in run.file.parent.iterdir()) == ["haproxy.cfg"]
    copy = (run.where / "runs/latest/c1/haproxy.cfg").read_text()
    assert "shop.internal" in copy
    assert not [line for line in copy.splitlines() if " 10.0.0." in line and "# " not in line]
