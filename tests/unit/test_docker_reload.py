"""A reload on Docker, without an engine."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from chaosd.errors import MachineError
from chaosd.proxies.haproxy import HAProxy
from chaosd.runtimes.docker import proxy as docker_proxy
from chaosd.system.clock import RealClock


class Members:
    """Processes that heed a signal by starting another, or not at all."""

    def __init__(self, next_pid: int) -> None:
        self.next_pid = next_pid

    async def signal(self, member: Any, name: str) -> None:
        assert name == "SIGUSR2"
        member.pid = self.next_pid


def reload(next_pid: int) -> None:
    one: Any = object.__new__(docker_proxy.DockerProxy)
    one.member, one._state = SimpleNamespace(pid=7), None
    one._cell = SimpleNamespace(renews_proxy=True, proxy=HAProxy(HAProxy.Config(type="haproxy")))
    one._engine = SimpleNamespace(clock=RealClock(), is_here=False)
    one._members = Members(next_pid)
    asyncio.run(one.reload())


def test_a_reload_that_nobody_has_seen_is_no_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users who notice nothing of it would be a result."""
    monkeypatch.setattr(docker_proxy, "RELOAD_S", 0.05)
    reload(next_pid=8)
    with pytest.raises(MachineError, match=r"no other process .* within 0.05 s"):
        reload(next_pid=7)
