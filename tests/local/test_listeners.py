"""Who else listens at the proxy's address: the kernel's list, against real sockets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from starving import LASTING, running

from chaosd.engine.world_watch import CellWatch
from chaosd.history.causes import CauseKind
from chaosd.history.values import Address
from chaosd.runtimes.local.entry_watch import EntryWatch
from chaosd.system import listeners, processes


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
    assert listeners.held_by(0) is None


@pytest.fixture
def proxy():
    """Another process of the run `r`, which listens; its number, and where."""
    with listening(Address("127.0.0.1", 0)) as sock:
        here = Address(*sock.getsockname())
        child = subprocess.Popen(["sleep", "60"], pass_fds=[sock.fileno()], env={"CHAOSD_RUN": "r"})
    try:
        yield child.pid, here
    finally:
        child.kill()
        child.wait()


def test_a_stranger_at_the_proxys_address_is_told_from_the_proxy_itself(proxy) -> None:
    pid, here = proxy
    watch = EntryWatch("r", [here])
    assert not watch.is_shared(pid)
    with listening(here):
        assert watch.is_shared(pid)
    assert not watch.is_shared(pid)


def test_what_listens_everywhere_is_seen_where_the_proxy_does_so(proxy) -> None:
    pid, here = proxy
    everywhere = Address("0.0.0.0", here.port)
    with listening(everywhere):
        assert not EntryWatch("r", [here]).is_shared(pid)  # who listens exactly there gets it all
        assert EntryWatch("r", [here, everywhere]).is_shared(pid)


def test_a_proxy_that_lets_nobody_look_keeps_what_it_had_when_it_was_first_looked_at(
    proxy, monkeypatch
) -> None:
    pid, here = proxy
    monkeypatch.setattr(listeners, "held_by", lambda _: None)
    watch = EntryWatch("r", [here])
    assert not watch.is_shared(pid)
    with listening(here):
        assert watch.is_shared(pid)
        watch.renewed()  # another process of the proxy's takes over: nobody knows any more
        assert not watch.is_shared(pid)


def test_another_process_of_the_same_run_is_no_stranger_and_is_looked_up_once(
    proxy, monkeypatch
) -> None:
    """The one that takes over in a reload listens beside the old one."""
    pid, here = proxy
    looked: list[str] = []
    monkeypatch.setattr(processes, "of_run", lambda run: looked.append(run) or [os.getpid()])
    watch = EntryWatch("r", [here])
    with listening(here):
        assert not watch.is_shared(pid)
        assert not watch.is_shared(pid)
    assert looked == ["r"]


def test_sockets_that_were_the_proxys_are_forgotten_when_they_are_closed(
    proxy, monkeypatch
) -> None:
    """Each reload brings new ones, and their numbers are given to others later."""
    pid, here = proxy
    monkeypatch.setattr(processes, "of_run", lambda _: [os.getpid()])
    watch, known = EntryWatch("r", [here]), []
    for _ in range(3):
        with listening(here):
            assert not watch.is_shared(pid)
            known.append(len(watch._own))
    assert known == [2, 2, 2]


@pytest.mark.parametrize("seen", [[False, True, False], [False, False]])
def test_a_stranger_that_is_gone_when_the_cycle_ends_is_remembered(seen) -> None:
    answers = iter(seen)
    cell = CellWatch(SimpleNamespace(is_entry_shared=lambda: next(answers)))
    for _ in range(2):
        cell.look_at_entry()
    assert cell.shared is (True in seen)


@pytest.mark.slow
def test_a_second_haproxy_at_the_same_port_spoils_the_cycle(tmp_path) -> None:
    """Both get connections, and the new one knows the new address from its start.

    It is there when the first cycle ends and the second one begins, and in the middle of the third.
    """
    if shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("no haproxy on this machine")
    faults = [{"type": "recreate", "every": "8s"}]
    with running(tmp_path / "run", cycles=3, faults=faults, **LASTING) as run:
        command = []

        @contextmanager
        def second_proxy():
            other = subprocess.Popen(command, cwd=run.where, stderr=subprocess.DEVNULL)
            try:
                yield
            finally:
                other.kill()
                other.wait()

        run.next_cycle(0)
        command = Path(f"/proc/{run.pid('haproxy')}/cmdline").read_bytes().split(b"\0")[:-1]
        with second_proxy():
            run.next_cycle(1)
            time.sleep(1)
        run.next_cycle(2)
        with second_proxy():
            time.sleep(1)
        causes = [cycle.cause for cycle in run.wait()]
    assert [cause.kind for cause in causes] == 3 * [CauseKind.ENTRY_SHARED]
    assert "verdict: unknown" in run.said
