"""Which loopback addresses a cell gets."""

import asyncio
import socket
from contextlib import contextmanager
from random import Random, SystemRandom

import pytest

from chaosd.errors import MachineError
from chaosd.runtimes.local import loopback
from chaosd.runtimes.local.loopback import claim, is_free, used


@contextmanager
def claimed(rng=None, remember=16):
    network = asyncio.run(claim(rng or SystemRandom(), remember))
    try:
        yield network
    finally:
        network.close()
        network.close()


def test_a_claimed_network_is_nobody_else_s_until_it_is_let_go():
    seed = SystemRandom().random()
    with claimed(Random(seed)) as first:
        with claimed(Random(seed)) as second:
            assert first.prefix != second.prefix
        prefix = first.prefix
    with claimed(Random(seed)) as third:
        assert third.prefix == prefix


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_network_in_which_something_is_bound_is_not_taken(kind):
    with claimed() as network, socket.socket(type=kind) as stranger:
        stranger.bind((network.address(77), 0))
        if kind == socket.SOCK_STREAM:
            stranger.listen()
        assert network.prefix in used()
        with socket.socket(socket.AF_INET6, kind) as other:
            other.bind((f"::ffff:{network.address(78)}", 0))
            stranger.close()
            if kind == socket.SOCK_STREAM:
                other.listen()
            assert network.prefix in used()
        assert network.prefix not in used()


def test_no_network_left_is_the_machine_s_fault():
    class Stuck(Random):
        def randint(self, low, high):
            return high

    with claimed(Stuck()), pytest.raises(MachineError, match=r"no free /24 found in 127\.64\."):
        asyncio.run(claim(Stuck(), 16))


def test_a_fresh_address_is_unused_and_none_of_the_last(monkeypatch):
    monkeypatch.setattr(loopback, "HOST_MAX", loopback.HOST_MIN + 5)
    with claimed(remember=4) as network, socket.socket() as stranger:
        stranger.bind((network.address(12), 8080))
        given = [network.fresh(8080) for _ in range(50)]
        assert network.address(12) not in given
        for place, ip in enumerate(given):
            assert ip not in given[max(0, place - 4) : place]
    with claimed(remember=6) as network:
        for _ in range(6):
            network.fresh(8080)
        with pytest.raises(MachineError, match=r"port 8080 is taken on all of 127\..*app\.port"):
            network.fresh(8080)


def test_free_means_that_nothing_at_all_has_the_port():
    with claimed() as network, socket.socket() as listener:
        ip = network.address(50)
        assert is_free(ip, 8080)
        listener.bind((ip, 8080))
        assert not is_free(ip, 8080)  # although nobody listens yet
        listener.listen()
        client = socket.create_connection((ip, 8080))
        listener.accept()[0].close()
        client.close()
        listener.close()
        assert not is_free(ip, 8080)  # the connection lingers in TIME_WAIT
        with pytest.raises(MachineError, match=r"192\.0\.2\.1:8080 can't be used: .*assign"):
            is_free("192.0.2.1", 8080)
