"""The proxy's API on an engine: a socket in a private directory, or else a published port."""

from __future__ import annotations

import asyncio
import os
import stat
from types import SimpleNamespace

import pytest

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.runtimes.docker import proxy as module
from chaosd.runtimes.docker.endpoint import Endpoint
from chaosd.runtimes.docker.engine import Engine
from chaosd.runtimes.docker.presence import Presence
from chaosd.runtimes.docker.proxy import NOT_SHARED, DockerProxy
from chaosd.runtimes.surroundings import Surroundings
from chaosd.system import processes, scratch
from chaosd.system.clock import RealClock


def engine(*options: str) -> Engine:
    """One on this machine."""
    clock = RealClock()
    found = Engine(Presence(Endpoint(), clock, wait_s=0), clock)
    found.info = {"KernelVersion": os.uname().release, "SecurityOptions": list(options)}
    return found


@pytest.fixture
def proxied(monkeypatch, tmp_path):
    """A proxy whose container is made as the scenario says."""
    monkeypatch.setattr(
        module,
        "launchable",
        lambda _: SimpleNamespace(config_name="haproxy.cfg", listen=None, image="i"),
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def proxied(shares: Engine, make) -> DockerProxy:
        cell = SimpleNamespace(proxy=object(), directory=tmp_path)
        found = DockerProxy(cell, SimpleNamespace(clock=RealClock()), shares, None)
        monkeypatch.setattr(found, "_make", make(found))
        return found

    return proxied


async def start(found: DockerProxy) -> None:
    where = Surroundings("ip", Address("d", 1), Address("a", 1), None)
    await found.start(where, publish="127.0.0.1", inside=False, upstream=())


@pytest.mark.parametrize(
    ("options", "shared"),
    [
        (["name=seccomp,profile=default"], True),
        (["name=apparmor", "name=rootless"], False),
        (["name=selinux"], False),
        (["name=userns"], False),
    ],
)
def test_a_directory_is_shared_where_users_are_the_same(proxied, options, shared) -> None:
    places = []

    def make(found):
        async def do(*_) -> None:
            places.append(found._place)

        return do

    found = proxied(engine(*options), make)
    asyncio.run(start(found))
    [place] = places
    assert (place is not None) == shared
    if place is not None:
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    found.close()
    assert place is None or not place.parent.exists()


def test_what_a_killed_run_leaves_is_swept(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    place = module._private()
    monkeypatch.setattr(scratch, "is_dead", lambda owner: owner == processes.owner())
    assert any(str(place.parent) in line for line in scratch.sweep())
    assert not place.parent.exists()


def test_an_engine_that_does_not_see_our_files_publishes_a_port(proxied) -> None:
    places = []

    def make(found):
        async def do(*_) -> None:
            places.append(found._place)
            if found._place is not None:
                raise MachineError(f"invalid mount config: {NOT_SHARED}: {found._place}")

        return do

    found = proxied(engine(), make)
    asyncio.run(start(found))
    first, second = places
    assert first is not None
    assert not first.exists()
    assert second is None
    found.close()
