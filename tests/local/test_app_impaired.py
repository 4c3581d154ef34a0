"""The app by its signals: it hangs, is deaf, and is well again."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from random import SystemRandom

import pytest

from chaosd.runtimes.local.loopback import claim

SERVER = Path(__file__).parents[2] / "http-server" / "server.py"
SILENCE_S, WAIT_S = 0.3, 10.0
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def app():
    network = asyncio.run(claim(SystemRandom(), 16))
    where = (network.fresh(8080), 8080)
    command = [sys.executable, "-I", "-S", str(SERVER), "--listen", "{}:{}".format(*where)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert select.select([process.stdout], [], [], WAIT_S)[0]
        assert process.stdout.readline().startswith("listening ")
        yield process, where
        process.kill()
    network.close()


def answer(client: socket.socket, limit_s: float = WAIT_S) -> bytes:
    """What comes within the limit; nothing if nothing does."""
    client.settimeout(limit_s)
    try:
        return client.recv(4096)
    except TimeoutError:
        return b""


def test_one_that_hangs_takes_requests_and_never_answers_them(app) -> None:
    process, where = app
    with socket.create_connection(where) as client:
        client.sendall(REQUEST)
        assert answer(client).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGUSR1)
        client.sendall(REQUEST)
        assert not answer(client, SILENCE_S)
        with socket.create_connection(where) as other:  # it still takes connections
            other.sendall(REQUEST)
            assert not answer(other, SILENCE_S)
        process.send_signal(signal.SIGUSR2)
        assert not answer(client, SILENCE_S)  # what was asked meanwhile is lost
        client.sendall(REQUEST)
        assert answer(client).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0


def test_to_one_that_is_deaf_packets_vanish(app) -> None:
    process, where = app
    with socket.create_connection(where) as client:
        client.sendall(REQUEST)
        answer(client)
        process.send_signal(signal.SIGHUP)
        wait_until_deaf(where)
        client.sendall(REQUEST)
        assert not answer(client, SILENCE_S)
        process.send_signal(signal.SIGUSR2)
        # The kernel sends what was not acknowledged again.
        assert answer(client).startswith(b"HTTP/1.1 200")
    with socket.create_connection(where, WAIT_S):
        process.send_signal(signal.SIGTERM)
    assert process.wait(2 * WAIT_S) == 0


def wait_until_deaf(where: tuple[str, int]) -> None:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            socket.create_connection(where, 0.1).close()
        except TimeoutError:
            return
        time.sleep(0.01)
    pytest.fail("it hears")


def test_well_again_though_nothing_was_wrong_and_it_still_ends(app) -> None:
    process, where = app
    for _ in range(20):
        process.send_signal(signal.SIGUSR2)
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGUSR2)
    with socket.create_connection(where) as client:
        client.sendall(REQUEST)
        assert answer(client).startswith(b"HTTP/1.1 200")
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0
