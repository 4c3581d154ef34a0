"""What is being asked of an engine when chaosd is stopped is removed all the same."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import docker.errors
import pytest

from chaosd.clock import RealClock
from chaosd.runtimes.docker import DockerRuntime, engine

LIMIT_S = 10


class Api:
    """An engine that makes things when it is let, whoever still waits for them."""

    def __init__(self) -> None:
        self.asked, self.let = threading.Event(), threading.Event()
        self.there: list[str] = []

    def info(self):
        return {}

    def networks(self, filters=None):
        return [{"Id": each} for each in self.there]

    def containers(self, **_):
        return []

    def create_network(self, name, **_):
        self.asked.set()
        assert self.let.wait(LIMIT_S)
        self.there.append(name)

    def remove_network(self, name):
        self.there.remove(name)

    def inspect_network(self, name):
        if name not in self.there:
            raise docker.errors.NotFound("gone")
        return {}

    def inspect_container(self, name):
        raise docker.errors.NotFound("gone")


@pytest.fixture
def api(monkeypatch):
    api = Api()
    monkeypatch.setattr(engine, "client", lambda *_: api)
    yield api
    api.let.set()


def test_a_network_that_nobody_waits_for_any_more_is_removed(api, tmp_path) -> None:
    cell = SimpleNamespace(run_id="r", name="c1", seed="1", directory=tmp_path)
    runtime = DockerRuntime(DockerRuntime.Config())

    async def scenario() -> None:
        recorder = SimpleNamespace(clock=RealClock())
        setting_up = asyncio.ensure_future(runtime.set_up(cell, recorder, lambda _: None))
        assert await asyncio.to_thread(api.asked.wait, LIMIT_S)
        setting_up.cancel()
        asyncio.get_running_loop().call_later(0.05, api.let.set)
        with pytest.raises(asyncio.CancelledError):
            await setting_up

    asyncio.run(asyncio.wait_for(scenario(), 3 * LIMIT_S))
    assert api.let.is_set()
    assert api.there == []
