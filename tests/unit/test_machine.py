"""What /proc says, from files as kernels write them, and nothing from those that are missing."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from chaosd.system import machine
from chaosd.system.machine import Counter, ProcessGauge, Scheduled

CONNTRACK = (
    "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop "
    "early_drop icmp_error  expect_new expect_create expect_delete search_restart\n"
    "0000a567  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 "
    "0000000f 00000002 00000000  00000000 00000000 00000000 00000000\n"
    "0000a567  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 "
    "00000001 00000000 00000000  00000000 00000000 00000000 00000000\n"
)
SNMP = "Ip: A B\nIp: 1 2\nUdp: InDatagrams NoPorts RcvbufErrors\nUdp: 16202 0 7\nUdpLite: A\n"
NETSTAT = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 3 4\nIpExt: A\nIpExt: 1\n"


@pytest.fixture
def proc(tmp_path):
    def put(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    put("net/stat/nf_conntrack", CONNTRACK)
    put("net/snmp", SNMP)
    put("net/netstat", NETSTAT)
    for name, value in (("count", 41), ("max", 262144), ("tcp_timeout_time_wait", 120)):
        put(f"sys/net/netfilter/nf_conntrack_{name}", f"{value}\n")
    put("meminfo", "MemTotal:  8000 kB\nMemFree: 1 kB\nMemAvailable:  2000 kB\n")
    put("sys/fs/file-nr", "1696\t0\t9223372036854775807\n")
    put("sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
    put("sys/net/ipv4/tcp_tw_reuse", "2\n")
    put("7/stat", "7 (a ) T (b) S 1 7 7 0\n")
    put("7/task/7/schedstat", "100 20 3\n")
    put("8/stat", "8 (haproxy) T 1 7 7 0\n")
    put("8/task/8/schedstat", "100 20 3\n")
    put("8/task/9/schedstat", "1000 200 30\n")
    return tmp_path


def test_counters_are_summed_over_cpus_and_read_by_their_names(proc) -> None:
    assert machine.dropped(proc) == {
        Counter.CONNTRACK_DROP: 16,
        Counter.CONNTRACK_EARLY_DROP: 2,
        Counter.CONNTRACK_INSERT_FAILED: 1,
        Counter.LISTEN_OVERFLOW: 3,
        Counter.LISTEN_DROP: 4,
    }


def test_what_there_is(proc) -> None:
    assert machine.tracking(proc) == (41, 262144, 120)
    assert machine.memory(proc) == (2000 * 1024, 8000 * 1024)
    assert machine.descriptors(proc) == (1696, 9223372036854775807)
    assert machine.ports(proc) == (28232, True)


def test_a_process_is_all_of_its_threads_and_may_be_stopped(proc) -> None:
    gauge = ProcessGauge(8, proc)
    assert gauge.read() == Scheduled(1100, 220, 33)
    assert gauge.is_stopped()
    assert gauge.is_stopped(has_run=True)
    gauge.close()
    gauge.close()
    assert gauge.read() is None
    assert not gauge.is_stopped()
    named = ProcessGauge(7, proc)
    assert not named.is_stopped()  # its name has a bracket and a T in it
    named.close()


def test_a_frozen_control_group_is_a_stop(proc, tmp_path) -> None:
    """`docker pause`: of the first version the state is D, of the second one it is S, as asleep."""
    events = tmp_path / "unified/docker/x/cgroup.events"
    events.parent.mkdir(parents=True)
    events.write_text("populated 1\nfrozen 0\n")
    (proc / "8/cgroup").write_text("1:cpu:/docker/x\n0::/docker/x\n")
    gauge = ProcessGauge(8, proc, groups=[tmp_path / "none", tmp_path / "unified"])
    (proc / "8/stat").write_text("8 (haproxy) D 1 7 7 0\n")
    assert gauge.is_stopped()
    assert not gauge.is_stopped(has_run=True)  # it waits for a disk
    (proc / "8/stat").write_text("8 (haproxy) S 1 7 7 0\n")
    assert not gauge.is_stopped()
    events.write_text("populated 1\nfrozen 1\n")
    assert gauge.is_stopped()
    gauge.close()
    assert not gauge.is_stopped()


def test_nothing_is_claimed_of_files_that_are_missing_or_say_something_else(tmp_path) -> None:
    nothing = tmp_path / "none"
    (tmp_path / "odd/net/stat").mkdir(parents=True)
    for name in ("net/stat/nf_conntrack", "net/snmp", "net/netstat", "meminfo"):
        (tmp_path / "odd" / name).write_text("what is this\n")
    for proc in (nothing, tmp_path / "odd"):
        assert machine.dropped(proc) == {}
        assert machine.tracking(proc) is None
        assert machine.memory(proc) is None
        assert machine.descriptors(proc) is None
        assert machine.ports(proc) is None
        with pytest.raises(OSError):
            ProcessGauge(1, proc)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no schedstat here")
def test_this_very_process_has_run() -> None:
    gauge = ProcessGauge(os.getpid())
    before = gauge.read()
    after = gauge.read()
    gauge.close()
    assert before is not None
    assert after is not None
    assert 0 < before.ran_ns <= after.ran_ns
    assert before.turns >= 1


ROUTES = """\
fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth0
{zero} 00 {zero} 00 fd000000000000000000000000000001 00000400 00000003 00000000 00000003     eth0
{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo
"""


def test_a_default_route_that_is_no_rejection_leads_to_the_ipv6_internet(tmp_path):
    file = tmp_path / "net/ipv6_route"
    file.parent.mkdir()
    assert not machine.has_ipv6_route(tmp_path)  # a kernel without IPv6
    own, default, rejected = ROUTES.format(zero="0" * 32).splitlines()
    for lines, is_there in (([own, default, rejected], True), ([own, rejected], False)):
        file.write_text("\n".join(lines), encoding="ascii")
        assert machine.has_ipv6_route(tmp_path) == is_there


def test_nameservers_are_counted_once_each(tmp_path):
    file = tmp_path / "resolv.conf"
    assert machine.nameservers(file) == 0
    file.write_text("search a\nnameserver 10.0.0.1\nnameserver 10.0.0.1\nnameserver ::1\n# x\n")
    assert machine.nameservers(file) == 2


def test_a_limit_that_may_be_raised_is_not_the_end(tmp_path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    own = None if hard == resource.RLIM_INFINITY else hard
    (tmp_path / "self").mkdir()
    (tmp_path / "sys/fs").mkdir(parents=True)
    (tmp_path / "sys/fs/nr_open").write_text("1048576\n")
    status = tmp_path / "self/status"
    assert machine.open_files_max(tmp_path) == own
    status.write_text("Name:\tx\nCapEff:\t0000000001000000\n")  # CAP_SYS_RESOURCE
    assert machine.open_files_max(tmp_path) == 1_048_576
    status.write_text("Name:\tx\nCapEff:\t00000000feffffff\n")
    assert machine.open_files_max(tmp_path) == own
