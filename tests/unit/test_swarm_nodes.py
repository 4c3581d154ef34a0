"""Which node of a swarm has the proxy, and which ones the app."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from chaosd.config.shape import Config
from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import Endpoint, EngineAwayError
from chaosd.runtimes.swarm import SwarmRuntime
from chaosd.runtimes.swarm import managers as leading
from chaosd.runtimes.swarm.managers import Managers
from chaosd.runtimes.swarm.nodes import Node, Swarm, placed


def node(name: str, *, manager: bool = False, **labels: str) -> Node:
    return Node(
        name=name,
        endpoint=Endpoint(f"unix:///{name}"),
        id=f"id-{name}",
        address="10.0.0.1",
        is_manager=manager,
        labels=labels,
    )


NODES = [node("a", manager=True, tier="edge"), node("b", tier="app"), node("c", tier="app")]


@pytest.mark.parametrize(
    ("proxy_on", "app_on", "proxy", "app"),
    [
        (None, [], "a", "bc"),
        ("b", [], "b", "ac"),
        ("node.labels.tier==app", [], "b", "ac"),
        ("node.labels.tier!=app", ["node.labels.tier==app"], "a", "bc"),
        ("node.role==worker", ["node.role==manager", "c"], "b", "ac"),
        (None, ["a"], "a", "a"),
    ],
)
def test_names_and_constraints_choose(proxy_on, app_on, proxy, app) -> None:
    swarm = placed(NODES, proxy_on, app_on)
    assert swarm.proxy.name == proxy
    assert "".join(each.name for each in swarm.app) == app
    assert {each.name for each in swarm.nodes} == set("abc")
    assert swarm.manager.name == "a"


@pytest.mark.parametrize(
    ("nodes", "proxy_on", "app_on", "why"),
    [
        (NODES, "d", [], "no node is d (runtime.proxy_on)"),
        (NODES, None, ["node.labels.tier==db"], "no node is node.labels.tier==db for the app"),
        (NODES[:1], None, [], "no node is left beside a for the app"),
    ],
)
def test_who_can_have_nothing_is_said_in_a_line(nodes, proxy_on, app_on, why) -> None:
    with pytest.raises(MachineError) as raised:
        placed(nodes, proxy_on, app_on)
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_swarm_without_nodes_lacks_them_and_has_nothing_to_clean() -> None:
    config = Config.model_validate({"name": "t", "runtime": {"type": "swarm"}})
    runtime = SwarmRuntime(config.runtime)
    assert runtime.unavailable() is None
    assert "runtime.nodes" in runtime.lacks(None, "http-server")
    named = SwarmRuntime(SwarmRuntime.Config(nodes=("nobody-has-this-context",)))
    assert named.unavailable().startswith("there is no Docker context nobody-has-this-context")


def test_a_service_can_be_rescheduled_and_a_pinned_app_moved() -> None:
    def able(**part: str) -> set[str]:
        return {each.__name__ for each in SwarmRuntime(SwarmRuntime.Config(**part)).abilities()}

    assert {"CanMove", "CanHoldAddress"} < able()
    assert "CanReschedule" not in able()
    assert able(move="service") == {"CanReschedule", "CanRestartProxy"}
    assert able(move="service", dns="forward") >= {"CanReschedule", "CanFaultDns"}


class Asked:
    """An engine's calls: what each of them raises, or a word."""

    def __init__(self, *answers: MachineError | str) -> None:
        self.answers, self.asked = list(answers), 0
        self.engine = self

    async def now(self, call: object) -> str:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, MachineError):
            raise found
        return found

    do = now


LEADERLESS = MachineError("rpc error: code = Unknown desc = The swarm does not have a leader. It …")


def ask(*hosts: Asked) -> str:
    return asyncio.run(Managers(hosts, SimpleNamespace(now_ns=clock().__next__)).do(None))


def clock():
    at_ns = 0
    while True:
        yield at_ns
        at_ns += 1_000_000_000


@pytest.fixture
def no_pauses(monkeypatch) -> None:
    async def at_once(*_: object) -> None:
        pass

    monkeypatch.setattr(leading, "sleep", at_once)


def test_while_a_leader_is_elected_each_manager_is_asked_again(no_pauses) -> None:
    one, other = Asked(LEADERLESS), Asked(LEADERLESS, LEADERLESS, "here")
    assert ask(one, other) == "here"
    assert one.asked == other.asked == 3


def test_a_leader_that_can_not_be_reached_is_no_leader(no_pauses) -> None:
    late = MachineError("rpc error: code = DeadlineExceeded desc = context deadline exceeded")
    gone = MachineError("rpc error: code = Unavailable desc = connection error: desc = transport")
    assert ask(Asked(late, gone, "here"), Asked(gone)) == "here"


def test_without_a_leader_for_long_it_is_said(no_pauses) -> None:
    with pytest.raises(MachineError, match="does not have a leader"):
        ask(Asked(LEADERLESS), Asked(LEADERLESS))


def test_what_may_have_been_done_is_not_done_again(no_pauses) -> None:
    away, other = Asked(EngineAwayError("it went away")), Asked("here")
    asked = Managers([away, other], SimpleNamespace(now_ns=lambda: 0))
    with pytest.raises(EngineAwayError):
        asyncio.run(asked.do(None))
    assert other.asked == 0
    assert asyncio.run(asked.do(None)) == "here"
    with pytest.raises(MachineError, match="no such"):
        ask(Asked(MachineError("no such service")), other)


def test_the_manager_that_has_answered_is_asked_first() -> None:
    both = [NODES[0], node("d", manager=True)]
    assert [each.name for each in Swarm(nodes=tuple(both), app=(), asked="d").managers] == [
        "d",
        "a",
    ]


@pytest.mark.parametrize(
    ("runtime", "name", "why"),
    [
        (
            {"endpoint": "vip"},
            "app",
            (("runtime", "endpoint"), "only a service has one (set runtime.move: service)"),
        ),
        (
            {"endpoint": "vip", "move": "service"},
            "tasks.app",
            (("dns", "name"), "tasks. names have the tasks' addresses (app)"),
        ),
        ({"endpoint": "vip", "move": "service"}, "app", None),
        ({"move": "service"}, "tasks.app", None),
    ],
)
def test_a_virtual_address_is_a_services_own(runtime, name, why) -> None:
    found = SwarmRuntime(SwarmRuntime.Config(**runtime)).not_virtual(name)
    assert found == why
