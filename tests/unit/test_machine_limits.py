"""What comes near a limit of the machine is said before a run, with its cause and the remedy."""

from __future__ import annotations

import pytest

from chaosd import plan
from chaosd.config import shape
from chaosd.plan import limits

FAULTS = "faults: [{type: recreate, every: 5s}]\n"


@pytest.fixture
def proc(tmp_path):
    def put(path: str, text: object) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    for name, value in (("count", 10), ("max", 262144), ("tcp_timeout_time_wait", 120)):
        put(f"sys/net/netfilter/nf_conntrack_{name}", value)
    put("sys/net/ipv4/ip_local_port_range", "32768 60999")
    put("sys/net/ipv4/tcp_tw_reuse", 2)
    put("meminfo", "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB")
    return tmp_path, put


@pytest.fixture
def warned(proc, tmp_path):
    def warned(more: str, runtime: str = "local", where=proc[0]) -> list[str]:
        file = tmp_path / "c.yaml"
        file.write_text(f"name: x\nruntime: {runtime}\n{FAULTS}{more}")
        planned = plan.build(shape.load(file), lambda path, what: what)
        return list(limits.warnings(planned, where))

    return warned


FAST = "probes: [{type: http, rate: 1000/s}]\n"


def test_connection_tracking_is_said_before_it_is_full(warned, proc) -> None:
    (line,) = warned(FAST)
    assert line == (
        "1,000 probes/s by new connections keep some 240,000 of this machine's 262,144 "
        "connection-tracking entries, of which 10 are taken (probe with connection: keep-alive, or "
        "raise net.netfilter.nf_conntrack_max)"
    )
    proc[1]("sys/net/netfilter/nf_conntrack_count", 40_000)
    (line,) = warned(FAST)
    assert "of which 40,000 are taken, and packets are dropped once it is full" in line


@pytest.mark.parametrize(
    "more",
    [
        "",
        "probes: [{type: http, rate: 1000/s, connection: keep-alive}]\n",
        "probes: [{type: http, rate: 500/s}]\n",
    ],
)
def test_what_is_far_from_every_limit_says_nothing(warned, more) -> None:
    assert warned(more) == []


def test_where_nothing_is_tracked_nothing_is_claimed(warned, proc) -> None:
    proc[1]("sys/net/netfilter/nf_conntrack_count", 0)
    assert warned(FAST) == []
    assert warned(FAST, where=proc[0] / "none") == []


def test_a_simulated_world_has_no_limits(warned) -> None:
    assert warned(FAST, runtime="sim") == []


def test_ports_memory_and_descriptors(warned, proc, monkeypatch) -> None:
    proc[1]("sys/net/ipv4/tcp_tw_reuse", 0)
    (ports,) = warned("probes: [{type: http, rate: 300/s}]\n")
    assert ports.startswith(
        "300 probes/s by new connections keep some 18,000 of this machine's 28,232"
    )
    proc[1]("sys/net/ipv4/tcp_tw_reuse", 1)
    proc[1]("meminfo", "MemTotal: 8000000 kB\nMemAvailable: 100000 kB")
    (memory,) = warned("cells: 4\n")
    assert memory.startswith("4 cells take some 192 MB of memory, and 97 MB are left")
    monkeypatch.setattr(limits.resource, "getrlimit", lambda which: (256, 256))
    assert any("descriptors; this process may have 256" in line for line in warned("cells: 4\n"))
