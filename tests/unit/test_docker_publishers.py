"""What carries connections from a published port, found by what anybody may read of a process."""

from __future__ import annotations

import pytest

from chaosd.history.values import Address
from chaosd.runtimes.docker.publishers import publishers

ARGUMENTS = (
    "/usr/bin/docker-proxy\0-proto\0{}\0-host-ip\0{}\0-host-port\0{}\0-container-ip\x0010.0.0.2"
)


@pytest.fixture
def proc(tmp_path):
    def put(number: int, comm: str, *where: object) -> None:
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "comm").write_text(comm + "\n")
        (tmp_path / str(number) / "cmdline").write_text(ARGUMENTS.format(*where) + "\0")

    put(1, "docker-proxy", "tcp", "127.0.0.1", 25000)
    put(2, "docker-proxy", "tcp", "127.0.0.1", 25001)
    put(3, "docker-proxy", "udp", "127.0.0.1", 25000)
    put(4, "docker-proxy", "tcp", "10.0.0.1", 25000)
    put(5, "docker-proxy", "tcp", "0.0.0.0", 25002)
    put(6, "docker-proxy", "tcp", "::", 25002)
    put(7, "grep", "tcp", "127.0.0.1", 25000)
    (tmp_path / "8").mkdir()  # it has just ended
    (tmp_path / "net").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("port", "found"), [(25000, [1]), (25001, [2]), (25002, [5, 6]), (25003, [])]
)
def test_those_are_found_that_publish_this_very_port(proc, port, found) -> None:
    assert sorted(publishers(Address("127.0.0.1", port), proc)) == found
