"""Who else listens at the proxy's address: the kernel's list, against real sockets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from starving import running

from chaosd.history.causes import CauseKind
from chaosd.history.values import Address
from chaosd.system import listeners


@contextmanager
def listening(where: Address):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
        sock.listen()
        yield sock


def test_those_are_found_that_listen_exactly_there() -> None:
    with listening(Address("127.0.0.1", 0)) as one:
        here = Address(*one.getsockname())
        inode = os.fstat(one.fileno()).st_ino
        assert listeners.sockets(*here) == {inode}
        with listening(here) as two, listening(here._replace(host="127.0.0.2")) as elsewhere:
            both = {inode, os.fstat(two.fileno()).st_ino}
            assert listeners.sockets(*here) == both
            mine = listeners.held_by(os.getpid())
            assert both | {os.fstat(elsewhere.fileno()).st_ino} <= mine
        with socket.create_connection(here):
            assert listeners.sockets(*here) == {inode}
    assert listeners.sockets(*here) == set()
    assert listeners.held_by(0) == set()


@pytest.mark.slow
def test_a_second_haproxy_at_the_same_port_spoils_the_cycle(tmp_path) -> None:
    """Both get connections, and the new one knows the new address from its start."""
    if shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("no haproxy on this machine")
    with running(tmp_path / "run", cycles=2) as run:
        run.next_cycle(0)
        command = Path(f"/proc/{run.pid('haproxy')}/cmdline").read_bytes().split(b"\0")[:-1]
        other = subprocess.Popen(command, cwd=run.where, stderr=subprocess.DEVNULL)
        try:
            run.next_cycle(1)
            time.sleep(1)
        finally:
            other.kill()
            other.wait()
        first, second = run.wait()
    assert first.cause.kind is second.cause.kind is CauseKind.ENTRY_SHARED
    assert "verdict: unknown" in run.said
