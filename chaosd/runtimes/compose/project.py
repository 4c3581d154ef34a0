"""What runs already: the app and the proxy of a compose project, found by labels or by names.

Nothing here changes anything. `Project` is what the engine said when it was looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from chaosd.errors import MachineError
from chaosd.history.values import Address
from chaosd.runtimes.docker.endpoint import MissingError, translated
from chaosd.runtimes.docker.objects import OWNER, guarded

PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"  # "True": a container that `up` does not count
ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - the engine's words for all of its addresses
UNSUPPORTED_MODES = ("host", "none", "bridge", "default")

Inspected = Mapping[str, Any]  # a container as the engine describes it


@dataclass(frozen=True, kw_only=True)
class Project:
    """The part of what runs that a run is about."""

    app: tuple[Inspected, ...]  # the lowest number first
    proxy: Inspected
    network: str  # that both are in
    subnet: IPv4Network
    ranges: tuple[IPv4Network, ...]  # of that subnet: what the engine gives away by itself
    reserved: frozenset[str]  # addresses in it that are nobody's to have

    @property
    def names(self) -> str:
        """The app's containers, for people."""
        return ", ".join(name_of(each) for each in self.app)


def find(
    api: Any, project: str | None, app: str, proxy: str, network: str | None = None
) -> Project:
    """Look for both. Raises MachineError, which says what is not there or can't be used."""
    apps = _running(api, project, app)
    (found, *more) = _running(api, project, proxy)
    if more:
        what = f"{proxy} has {1 + len(more)} containers, of which one has to be named"
        raise MachineError(f"{what} (leave `project` out, and name both containers)")
    for each in apps:
        _refuse(each)
    name = _shared(apps, found, network)
    inspected = translated(lambda: api.inspect_network(name))
    if inspected.get("Driver") != "bridge":
        what = f"network {name} is a {inspected.get('Driver')} network"
        raise MachineError(f"{what}: only bridges of one machine are understood")
    return _in_network(apps, found, name, inspected)


def name_of(container: Inspected) -> str:
    return str(container["Name"]).lstrip("/")


def labels_of(container: Inspected) -> Mapping[str, str]:
    found: Mapping[str, str] = container["Config"].get("Labels") or {}
    return found


def ip_of(container: Inspected, network: str) -> str:
    return str(container["NetworkSettings"]["Networks"][network].get("IPAddress") or "")


def names_in(container: Inspected, network: str) -> list[str]:
    """The names that it is found by there."""
    found = container["NetworkSettings"]["Networks"][network].get("Aliases") or ()
    own = container["Id"][:12]
    return list(dict.fromkeys([*(each for each in found if each != own), name_of(container)]))


def identity_of(container: Inspected) -> str:
    """What its answers carry: what its environment says, or else its host's name."""
    for variable in container["Config"].get("Env") or ():
        name, _, value = variable.partition("=")
        if name == "CHAOSD_IDENTITY" and value:
            return str(value)
    return str(container["Config"].get("Hostname") or container["Id"][:12])


def way_in(proxy: Inspected, network: str, port: int | None, host: str) -> tuple[Address, str]:
    """Where the proxy is asked, and how one comes there. Raises MachineError.

    `port` is where it listens; `host` is the machine that its engine publishes ports on.
    """
    published = {
        int(inside.partition("/")[0]): bindings[0]
        for inside, bindings in (proxy["NetworkSettings"].get("Ports") or {}).items()
        if inside.endswith("/tcp") and bindings
    }
    if port is None and len(published) != 1:
        known = ", ".join(str(each) for each in sorted(published)) or "none"
        what = f"it is not clear on which port {name_of(proxy)} is asked (published: {known})"
        raise MachineError(f"{what}: set runtime.port to the one that it listens on")
    port = next(iter(published)) if port is None else port
    if port not in published:
        return Address(ip_of(proxy, network), port), "network"
    at = published[port]
    where = host if at["HostIp"] in ANYWHERE else at["HostIp"]
    return Address(where, int(at["HostPort"])), "published port"


def api_of(proxy: Inspected, network: str, there: str | None) -> str | None:
    """Where the proxy's API is on this machine, which is its engine's; None if it can't be had.

    `there` is a path or host:port as the proxy has it itself.
    """
    if there is None:
        return None
    if there.startswith("/"):
        path = Path(f"/proc/{proxy['State']['Pid']}/root{there}")
        return str(path) if os.access(path, os.W_OK) else None
    host, _, port = there.rpartition(":")
    if host in (*ANYWHERE, "*", "[::]"):
        host = ip_of(proxy, network)
    return None if host.startswith("127.") else f"{host}:{port}"


def _running(api: Any, project: str | None, name: str) -> list[Inspected]:
    """The running containers of this service, or the one of this name. At least one.

    One that a run of chaosd has stopped counts: a run that was killed is cleaned up after first.
    """
    if project is None:
        try:
            found = [translated(lambda: api.inspect_container(name))]
        except MissingError:
            raise MachineError(f"there is no container {name} (docker ps says names)") from None
    else:
        labels = [f"{PROJECT}={project}", f"{SERVICE}={name}"]
        listed = translated(lambda: api.containers(all=True, filters={"label": labels}))
        ids = [each["Id"] for each in listed if OWNER not in (each.get("Labels") or {})]
        found = [translated(partial(api.inspect_container, each)) for each in ids]
        found = [each for each in found if labels_of(each).get(ONE_OFF, "False") != "True"]
    stopped = guarded(api)
    running = [
        each
        for each in found
        if each["Id"] in stopped or (each["State"]["Running"] and not each["State"]["Paused"])
    ]
    if not running:
        where = name if project is None else f"service {name} of project {project}"
        raise MachineError(f"no container of {where} runs (docker compose up -d starts it)")
    return sorted(running, key=lambda each: (len(each["Name"]), each["Name"]))


def _refuse(app: Inspected) -> None:
    """Say why this one can't be stopped and started again as it is."""
    name, host = name_of(app), app["HostConfig"]
    if OWNER in labels_of(app):
        raise MachineError(f"container {name} is chaosd's own")
    if host.get("AutoRemove"):
        what = f"container {name} was started with --rm, so it would be gone once it is stopped"
        raise MachineError(f"{what} (start it without)")
    mode = str(host.get("NetworkMode") or "")
    if mode in UNSUPPORTED_MODES or mode.startswith("container:"):
        what = f"container {name} has network_mode {mode}, so it has no address of its own to lose"
        raise MachineError(f"{what} (give it a network that Docker's DNS serves)")


def _shared(apps: Sequence[Inspected], proxy: Inspected, wanted: str | None) -> str:
    """The network in which the proxy finds the app."""
    networks = [set(each["NetworkSettings"]["Networks"]) for each in (*apps, proxy)]
    shared = sorted(set.intersection(*networks))
    if wanted is not None and wanted not in shared:
        known = f"they share {', '.join(shared)}" if shared else "they share none"
        raise MachineError(f"not all of the app and the proxy are in network {wanted} ({known})")
    if not shared:
        what = f"{name_of(apps[0])} and {name_of(proxy)} have no network in common"
        raise MachineError(f"{what}, so the proxy does not find the app by Docker's DNS")
    if wanted is None and len(shared) > 1:
        what = f"the app and the proxy share the networks {', '.join(shared)}"
        raise MachineError(f"{what} (set runtime.network to the one that the proxy asks through)")
    return wanted or shared[0]


def _in_network(
    apps: Sequence[Inspected], proxy: Inspected, name: str, network: Mapping[str, Any]
) -> Project:
    """The same with what is known of the network's addresses."""
    configs = [
        config
        for config in (network.get("IPAM") or {}).get("Config") or []
        if ":" not in config.get("Subnet", ":")
    ]
    if not configs:
        raise MachineError(f"network {name} has no IPv4 addresses")
    config = configs[0]
    reserved = {config.get("Gateway", ""), *(config.get("AuxiliaryAddresses") or {}).values()}
    ranges = [IPv4Network(config["IPRange"], strict=False)] if config.get("IPRange") else []
    return Project(
        app=tuple(apps),
        proxy=proxy,
        network=name,
        subnet=IPv4Network(config["Subnet"], strict=False),
        ranges=tuple(ranges),
        reserved=frozenset(each.partition("/")[0] for each in reserved if each),
    )
