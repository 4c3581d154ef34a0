"""Which node of a swarm has the proxy, and which ones the app."""

from __future__ import annotations

import pytest

from chaosd.config.shape import Config
from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import Endpoint
from chaosd.runtimes.swarm import SwarmRuntime
from chaosd.runtimes.swarm.nodes import Node, placed


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
