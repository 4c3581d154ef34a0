"""Containers that are paused, hung, or cut off: what they answer, and that nothing is left."""

from __future__ import annotations

import asyncio
import socket

import pytest
from stand import BASE, left_of

from chaosd.config.shape import Config
from chaosd.engine.recorder import CellRecorder
from chaosd.plan import build
from chaosd.system.clock import RealClock

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180), pytest.mark.slow]


def ask(ip: str) -> str:
    """How a connection there ends."""
    try:
        with socket.create_connection((ip, 8080), 1.0) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                return client.recv(12).decode()
            except TimeoutError:
                return "taken, no answer"
    except OSError:  # a timeout is one, too
        return "silence"


def test_each_is_what_it_is_called_and_is_undone(engine, tmp_path) -> None:
    plan = build(Config.model_validate(BASE), lambda _, what: what)
    failures: list[Exception] = []

    async def scene() -> None:
        recorder = CellRecorder(RealClock(), "c1", lambda _: None)
        spec = plan.spec(plan.cells[0], tmp_path / "c1")
        stage = await plan.runtime.set_up(spec, recorder, failures.append)
        try:
            [instance] = stage.app
            ip = instance.address.host
            for begin, end, meets in (
                (stage.pause, stage.resume, "taken, no answer"),
                (stage.hang, stage.unhang, "taken, no answer"),
                (stage.cut_off, stage.rejoin, "silence"),
            ):
                await begin(instance)
                assert await asyncio.to_thread(ask, ip) == meets
                await end(instance)
                assert await asyncio.to_thread(ask, ip) == "HTTP/1.1 200"
            await stage.pause(instance)
            await stage.stop(instance, "KILL", 1.0)  # one that is paused can be ended
            assert instance not in stage.app
            again = await stage.start(stage.next_identity())
            await stage.ready(again)
            await stage.restart_proxy()
            await stage.pause(again)  # and be taken down
        finally:
            await stage.close()

    asyncio.run(scene())
    assert not failures
    assert not left_of(engine, plan.run_id)
