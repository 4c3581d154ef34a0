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


def test_a_probe_that_idles_between_cycles_is_not_taken_for_one_that_never_does(warned) -> None:
    # Dense for 0.3 s before a fault, and 2 s after it, of each 5 s.
    (line,) = warned("probes: [{type: http, rate: 2000/s, idle_rate: 100/s}]\n")
    assert line.startswith("974 probes/s by new connections keep some 233,760")


@pytest.fixture
def reached(proc, monkeypatch):
    monkeypatch.setattr(limits.resource, "getrlimit", lambda which: (1000, 1000))
    where, put = proc
    put("sys/fs/file-nr", "100 0 1000")
    put("net/sockstat", "sockets: used 720\nTCP: inuse 340 orphan 1 tw 27000 alloc 370 mem 0")
    (where / "self/fd").mkdir(parents=True)
    return lambda: {limit.name: line for limit, line in limits.reached(where)}


def test_while_a_run_goes_on_nothing_is_said_of_what_is_far_from_its_limit(reached) -> None:
    assert reached() == {}


@pytest.mark.parametrize(
    ("limit", "path", "text", "said"),
    [
        (
            "CONNTRACK",
            "sys/net/netfilter/nf_conntrack_count",
            240_000,
            "this machine's connection-tracking table is nearly full (240,000 of 262,144 entries)",
        ),
        ("PORTS", "sys/net/ipv4/tcp_tw_reuse", 0, "27,000 closed connections wait for late pack"),
        (
            "MEMORY",
            "meminfo",
            "MemTotal: 8000000 kB\nMemAvailable: 700000 kB",
            "683 of 7,812 MB of memory are left on this machine",
        ),
        ("FILES", "sys/fs/file-nr", "901 0 1000", "901 of 1,000 descriptors are open on this mac"),
    ],
)
def test_what_is_nearly_used_up_is_named(reached, proc, limit, path, text, said) -> None:
    proc[1](path, text)
    (found,) = reached().items()
    assert found[0] == limit
    assert found[1].startswith(said)


def test_so_are_the_descriptors_of_chaosd_itself(reached, proc) -> None:
    for number in range(901):
        (proc[0] / "self/fd" / str(number)).touch()
    assert reached() == {
        "OWN_FILES": "chaosd has 901 descriptors open and may have 1,000 (raise `ulimit -n`)"
    }
