"""A container with the configuration of another one, as the engine describes that.

What the engine says of a container can be given back to it, but for a few things that are one
container's own: see `body_of`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from chaosd.runtimes.compose.project import ONE_OFF, PROJECT, Inspected, labels_of, names_in
from chaosd.runtimes.docker.endpoint import translated
from chaosd.runtimes.docker.network import Network

IDENTITY = "CHAOSD_IDENTITY"


@dataclass(frozen=True, kw_only=True)
class Recreation:
    """Another container like this one."""

    original: Inspected
    name: str
    identity: str
    ip: str | None

    def make(self, api: Any, network: Network, labels: Mapping[str, str]) -> str:
        original = self.original
        body = body_of(original, self.identity, labels)
        first = endpoint_of(original, network.name)
        if self.ip is not None:
            first["IPAMConfig"] = {"IPv4Address": self.ip}
        body["NetworkingConfig"] = {"EndpointsConfig": {network.name: first}}
        container: str = translated(lambda: api.create_container_from_config(body, self.name))["Id"]
        for other in original["NetworkSettings"]["Networks"]:
            if other != network.name:  # engines before 25 take one network when they make it
                end = endpoint_of(original, other)
                translated(partial(_connect, api, container, other, end))
        return container


def body_of(original: Inspected, identity: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """What to ask the engine for, but for networks.

    Not the original's: its name; its host's name, if the engine has chosen it, which is the
    identity then; the volumes that were made for it and that it alone has: those are shared; and
    the label by which compose counts it among its service's containers.
    """
    config, host = copy.deepcopy(original["Config"]), copy.deepcopy(original["HostConfig"])
    config["Image"] = original["Image"]  # the image itself: its name may mean another one by now
    if config.get("Hostname") == original["Id"][:12]:
        config["Hostname"] = identity
    env = [each for each in config.get("Env") or () if each.partition("=")[0] != IDENTITY]
    config["Env"] = [*env, f"{IDENTITY}={identity}"]
    one_off = {ONE_OFF: "True"} if PROJECT in labels_of(original) else {}
    config["Labels"] = {**labels_of(original), **one_off, **labels}
    host["ContainerIDFile"] = ""
    mounted = {each.partition(":")[2].partition(":")[0] for each in host.get("Binds") or ()}
    mounted |= {each["Target"] for each in host.get("Mounts") or ()}
    anonymous = [
        f"{each['Name']}:{each['Destination']}{'' if each['RW'] else ':ro'}"
        for each in original["Mounts"]
        if each["Type"] == "volume" and each["Destination"] not in mounted
    ]
    host["Binds"] = [*(host.get("Binds") or ()), *anonymous]
    return {**config, "HostConfig": host}


def endpoint_of(original: Inspected, network: str) -> dict[str, Any]:
    """How it is in a network: found by all names of the original, at an address of its own."""
    found = original["NetworkSettings"]["Networks"][network]
    return {
        "Aliases": names_in(original, network),
        "Links": found.get("Links"),
        "DriverOpts": found.get("DriverOpts"),
    }


def _connect(api: Any, container: str, network: str, end: Mapping[str, Any]) -> None:
    api.connect_container_to_network(
        container,
        network,
        aliases=end["Aliases"],
        links=end["Links"],
        driver_opt=end["DriverOpts"],
    )
