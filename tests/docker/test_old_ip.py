"""What is found at an old IP on a bridge, asked from this machine: as the reference says."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest
from stand import BASE

from chaosd.config.shape import Config
from chaosd.engine.recorder import CellRecorder
from chaosd.history.events import InstanceListening
from chaosd.plan import build
from chaosd.system.clock import RealClock, sleep

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


def ask(ip: str, limit_s: float) -> str:
    """How a connection there ends: an answer's first word, or the error's name."""
    with socket.socket() as client:
        client.settimeout(limit_s)
        silence = "silence"
        try:
            client.connect((ip, 8080))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # may have the connect's error
            silence = "taken, no answer"
            answer = client.recv(4096).decode()
        except TimeoutError:
            return silence
        except OSError as error:
            return errno.errorcode[error.errno]
        return "imposter" if "X-Chaosd-Instance: imposter" in answer else answer[:40]


@pytest.mark.slow  # on local each time
def test_each_old_ip_is_what_it_is_called(engine, tmp_path) -> None:
    config = Config.model_validate(BASE)
    plan = build(config, lambda _, what: what)
    events = []
    met = {}

    async def scene() -> None:
        clock = RealClock()
        recorder = CellRecorder(clock, "c1", events.append)
        stage = await plan.runtime.set_up(
            plan.spec(plan.cells[0], tmp_path / "c1"), recorder, print
        )
        try:
            for manner in plan.runtime.old_ip():
                old = stage.app[0]
                holder = await stage.hold(manner)
                await stage.stop(old, "KILL", 1)
                await holder.take(old.address.host)
                await sleep(clock, 0.05)
                # A host that is vacant is given up after three ARP requests, a second apart.
                limit_s = 6.0 if manner == "vacant" else 2.0
                met[manner] = await asyncio.to_thread(ask, old.address.host, limit_s)
                new = await stage.start(stage.next_identity())
                assert new.address.host != old.address.host
                await stage.ready(new)
                await holder.release()
                await holder.release()
        finally:
            await stage.close()
            await stage.close()
            clock.close()

    asyncio.run(scene())
    assert met == {
        "refuse": "ECONNREFUSED",
        "imposter": "imposter",
        "blackhole": "silence",
        "tarpit": "taken, no answer",
        "vacant": "EHOSTUNREACH",
    }
    listening = [e for e in events if isinstance(e.what, InstanceListening)]
    assert len(listening) == 6
