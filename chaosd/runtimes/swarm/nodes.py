"""The nodes of a swarm: one engine each, and which of them has the proxy and which the app."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import Endpoint, translated

ROLES = ("worker", "manager")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One engine, as the swarm knows it."""

    name: str  # as the config has it
    endpoint: Endpoint
    id: str
    address: str  # by which the other nodes know it
    is_manager: bool
    labels: Mapping[str, str] = field(default_factory=dict)

    def fulfils(self, wanted: str) -> bool:
        """Whether it is the node that is named, or one that such a constraint allows.

        A constraint is `node.labels.KEY==VALUE` or `node.role==worker`, with != for the opposite.
        """
        key, sign, value = wanted.partition("!=" if "!=" in wanted else "==")
        if not sign:
            return wanted == self.name
        has = self.labels.get(key.removeprefix("node.labels."))
        if key == "node.role":
            has = ROLES[self.is_manager]
        return (has == value) is (sign == "==")


@dataclass(frozen=True, kw_only=True)
class Swarm:
    """The nodes that a config names, and who has what."""

    nodes: tuple[Node, ...]  # the proxy's first
    app: tuple[Node, ...]
    asked: str = ""  # the manager that has answered

    @property
    def proxy(self) -> Node:
        return self.nodes[0]

    @property
    def managers(self) -> tuple[Node, ...]:
        """The one that has answered first."""
        found = (node for node in self.nodes if node.is_manager)
        return tuple(sorted(found, key=lambda node: node.name != self.asked))

    @property
    def manager(self) -> Node:
        return self.managers[0]


def survey(endpoints: Mapping[str, Endpoint], proxy_on: str | None, app_on: Sequence[str]) -> Swarm:
    """Ask each engine what it is in the swarm, and choose. Raises MachineError."""
    if not endpoints:
        raise MachineError(
            "no engine is named (set runtime.nodes to Docker contexts, or to URLs such as "
            "ssh://me@node-1)"
        )
    with ExitStack() as stack:
        apis = {name: stack.enter_context(end.client()) for name, end in endpoints.items()}
        infos = {name: _of_swarm(name, endpoints[name], api) for name, api in apis.items()}
        managers = [name for name, info in infos.items() if info.get("ControlAvailable")]
        if not managers:
            raise MachineError(
                f"none of {', '.join(endpoints)} manages the swarm (add a manager to runtime.nodes)"
            )
        asked, known = _nodes_known({name: apis[name] for name in managers})
    nodes = [_node(name, endpoints[name], infos[name], known) for name in endpoints]
    if len({node.id for node in nodes}) < len(nodes):
        raise MachineError("two of runtime.nodes are one engine (name each once)")
    return replace(placed(nodes, proxy_on, app_on), asked=asked)


def _nodes_known(managers: Mapping[str, Any]) -> tuple[str, dict[str, dict[str, Any]]]:
    """What the first manager that can answer knows of all nodes, by their ids."""
    last: MachineError | None = None
    for name, api in managers.items():
        try:
            return name, {each["ID"]: each for each in translated(api.nodes)}
        except MachineError as error:  # it is cut off from the others
            last = error
    assert last is not None  # noqa: S101 - there is one
    raise last


def _of_swarm(name: str, endpoint: Endpoint, api: Any) -> dict[str, Any]:
    found: dict[str, Any] = translated(api.info, endpoint.url).get("Swarm") or {}
    if found.get("LocalNodeState") != "active":
        state = found.get("LocalNodeState") or "inactive"
        raise MachineError(
            f"the engine of {name} is not in a swarm: {state} (docker swarm init, or join)"
        )
    return found


def _node(
    name: str, endpoint: Endpoint, info: dict[str, Any], known: Mapping[str, dict[str, Any]]
) -> Node:
    seen = known.get(info["NodeID"])
    if seen is None:
        raise MachineError(f"the engine of {name} is in another swarm")
    if (state := seen["Status"]["State"]) != "ready":
        raise MachineError(f"node {name} is {state}")
    return Node(
        name=name,
        endpoint=endpoint,
        id=info["NodeID"],
        address=info.get("NodeAddr") or seen["Status"].get("Addr", ""),
        is_manager=bool(info.get("ControlAvailable")),
        labels=seen["Spec"].get("Labels") or {},
    )


def placed(nodes: Sequence[Node], proxy_on: str | None, app_on: Sequence[str]) -> Swarm:
    """Say who has the proxy, and who the app. Raises MachineError."""
    proxies = [node for node in nodes if proxy_on is None or node.fulfils(proxy_on)]
    if not proxies:
        raise MachineError(f"no node is {proxy_on} (runtime.proxy_on)")
    proxy = proxies[0]
    others = [node for node in nodes if node is not proxy]
    wanted: Callable[[Node], bool] = lambda node: any(map(node.fulfils, app_on))  # noqa: E731
    app = [node for node in nodes if wanted(node)] if app_on else others
    if not app:
        what = (
            f"no node is {' or '.join(app_on)}"
            if app_on
            else f"no node is left beside {proxy.name}"
        )
        raise MachineError(f"{what} for the app (runtime.app_on)")
    return Swarm(nodes=(proxy, *others), app=tuple(app))
