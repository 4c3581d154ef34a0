"""What is being asked of an engine when chaosd is stopped is removed all the same."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from types import SimpleNamespace

import docker.errors
import pytest

from chaosd.errors import MachineError
from chaosd.runtimes.docker import DockerRuntime, proxy
from chaosd.runtimes.docker.endpoint import Endpoint
from chaosd.system import stops
from chaosd.system.clock import RealClock
from chaosd.system.tasks import together

LIMIT_S = 10


class Api:
    """An engine that makes things when it is let, whoever still waits for them."""

    def __init__(self) -> None:
        self.asked, self.let = threading.Event(), threading.Event()
        self.there: list[str] = []
        self.runs = False
        self.interrupted_at: list[str] = []
        self.by = signal.SIGINT

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        pass

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

    def create_container(self, *_, **__):
        try:
            self._step("create")
        finally:  # it is made although nobody hears of it
            self.there.append("container")
        return {"Id": "container"}

    def create_host_config(self, **keys):
        return keys

    def put_archive(self, *_):
        self._step("put")

    def start(self, name):
        self._step("start")
        self.runs = True

    def inspect_container(self, name):
        if name not in self.there:
            raise docker.errors.NotFound("gone")
        self._step("inspect")
        return {"State": {"Running": self.runs, "Status": "running"}}

    def remove_container(self, name, **_):
        self._step("remove")
        self.there.remove(name)

    def _step(self, step: str) -> None:
        """Ask chaosd to stop, and again, if that is to be done here."""
        if step in self.interrupted_at:
            self.interrupted_at.remove(step)
            for _ in range(2):
                signal.pthread_kill(threading.main_thread().ident, self.by)
                time.sleep(0.05)


@pytest.fixture
def api(monkeypatch):
    api = Api()
    monkeypatch.setattr(Endpoint, "client", lambda *_: api)
    yield api
    api.let.set()


def test_a_network_that_nobody_waits_for_any_more_is_removed(api, tmp_path) -> None:
    cell = SimpleNamespace(run_id="r", name="c1", seed="1", directory=tmp_path)
    runtime = DockerRuntime(DockerRuntime.Config(), Endpoint())

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


@pytest.fixture
def heeded():
    before = {number: signal.getsignal(number) for number in stops.STOPS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in stops.STOPS[1:]:
        signal.signal(number, signal.SIG_DFL)
    stops.heed()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "SIGTERM"])
@pytest.mark.parametrize(
    "steps", [["create"], ["put"], ["start"], ["inspect"], ["inspect", "remove"]], ids=" ".join
)
def test_a_container_that_checks_a_config_is_removed_at_a_stop(api, heeded, steps, by) -> None:
    api.interrupted_at, api.by = list(steps), by
    with pytest.raises(KeyboardInterrupt) as stopped:
        proxy.run_once(Endpoint(), "image", ["haproxy", "-c"], {}, {"haproxy.cfg": b""})
    assert api.interrupted_at == []
    assert api.there == []
    assert stops.exit_code(stopped.value) == 128 + by


def test_of_several_that_fail_one_is_raised_and_nobody_complains_of_the_others() -> None:
    """Found by tests/attack/hung.py: a line for each cell, with a traceback, came after the one."""
    complaints = []

    async def fails(number: int) -> None:
        try:
            await asyncio.sleep(0 if number == 1 else 60)
        finally:
            raise MachineError(f"{number}")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        with pytest.raises(MachineError, match=r"^0$"):
            await together([fails(number) for number in range(3)], LIMIT_S)
        gc.collect()

    asyncio.run(scenario())
    assert complaints == []
