"""Somebody's haproxy.cfg on Docker: an SRV name, other servers beside it, a file that it names."""

from __future__ import annotations

import pytest
import stored
from stand import left_of

from chaosd.history.cycles import CycleOutcome

pytestmark = [pytest.mark.docker, pytest.mark.timeout(150)]

FILE = """\
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    option redispatch 1
resolvers r
    nameserver dns 10.0.0.53:53
    timeout resolve 200ms
    timeout retry 200ms
frontend f
    bind :80
    http-request deny if { path -f blocked.lst }
    default_backend b
backend b
    server-template s 3 _http._tcp.shop.example resolvers r check inter 500ms
    server t other.example:80 resolvers r check backup
"""


@pytest.mark.slow  # somebody's file is run on local each time, the forwarder in test_forward.py
def test_a_service_name_and_a_second_app(engine, daemon, tmp_path):
    (tmp_path / "haproxy.cfg").write_text(FILE)
    (tmp_path / "blocked.lst").write_text("/blocked\n")
    run = daemon(
        tmp_path,
        *("--cycles", "1"),
        runtime={"type": "docker", "dns": "forward"},
        dns={},
        proxy={"type": "haproxy", "config": str(tmp_path / "haproxy.cfg")},
    )
    assert run.wait() == 0, run.err
    assert [cycle.outcome for cycle in run.cycles] == [CycleOutcome.RECOVERED]
    readings = list(stored.lines(run.events))
    answers = [event.data for event in readings if event.what == "answer"]
    assert [answer for answer in answers if answer["qtype"] == "SRV" and answer["ips"]]
    moved = [event.data["server"] for event in readings if event.what == "address_changed"]
    assert "b/t" in moved  # the app that stands still is found by its own name
    assert left_of(engine, run.run_id) == []
