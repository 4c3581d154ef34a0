"""A cell's private network: its subnet, and which address is whose.

In its /24 .1 is the gateway, .2 the proxy, .3 chaosd's DNS if there is one, and the app's instances
rotate through .10 to .126.
A container that joins without asking for an address gets one of the upper half, so that the engine
never gives away an address of the app's.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from random import Random
from typing import Any, Literal

import docker.types

from chaosd.errors import MachineError
from chaosd.runtimes.docker.endpoint import MissingError, translated

PROXY, NAMESERVER, APP_FIRST, APP_LAST = 2, 3, 10, 126
ATTEMPTS_MAX = 50
SUBNET_BITS = 24


class Network:
    """One cell's network on the engine."""

    def __init__(self, name: str, subnet: IPv4Network, rng: Random) -> None:
        self.name = name
        self.subnet = subnet
        self._next = rng.randrange(APP_LAST - APP_FIRST + 1)

    def address(self, last_byte: int) -> str:
        return str(self.subnet.network_address + last_byte)

    def fresh(self, in_use: set[str]) -> str:
        """The address that the app has not had for longest: each comes again after 117 others."""
        for _ in range(APP_LAST - APP_FIRST + 1):
            ip = self.address(APP_FIRST + self._next)
            self._next = (self._next + 1) % (APP_LAST - APP_FIRST + 1)
            if ip not in in_use:
                return ip
        raise MachineError(f"network {self.name} has no fresh address left")

    # --- in a thread ---

    def endpoint(self, api: Any, ip: str | None, aliases: tuple[str, ...] = ()) -> Any:
        """The networking config of a container to be created."""
        config = api.create_endpoint_config(ipv4_address=ip, aliases=list(aliases) or None)
        return api.create_networking_config({self.name: config})

    def attach(
        self, api: Any, container: str, ip: str | None, aliases: tuple[str, ...] = ()
    ) -> None:
        translated(
            lambda: api.connect_container_to_network(
                container, self.name, ipv4_address=ip, aliases=list(aliases) or None
            )
        )

    def detach(self, api: Any, container: str) -> None:
        try:
            translated(
                lambda: api.disconnect_container_from_network(container, self.name, force=True)
            )
        except MissingError:
            return

    def address_of(self, api: Any, container: str) -> str | None:
        """The address that a container really has here; None if none."""
        return self.found(api, container)[0]

    def found(self, api: Any, container: str) -> tuple[str | None, int]:
        """The address that a container really has here, and its process, as the engine says it."""
        inspected = api.inspect_container(container)
        networks = inspected["NetworkSettings"]["Networks"] or {}
        pid = int((inspected.get("State") or {}).get("Pid") or 0)
        return networks.get(self.name, {}).get("IPAddress") or None, pid

    def holder_of(self, api: Any, ip: str) -> str | None:
        """The name of the container that has this address."""
        containers = api.inspect_network(self.name).get("Containers") or {}
        for each in containers.values():
            if each.get("IPv4Address", "").partition("/")[0] == ip:
                return str(each.get("Name") or "a container")
        return None


def create(
    api: Any,
    name: str,
    pool: IPv4Network,
    rng: Random,
    labels: dict[str, str],
    *,
    local: bool,
    driver: Literal["bridge", "overlay"] = "bridge",
) -> Network:
    """Make a network with a subnet that nobody uses. Raises MachineError.

    `local`: packets to it may meet the routes of this machine. An overlay is made by a manager.
    """
    taken = [*_subnets_of_engine(api), *(_routes() if local else [])]
    last = "every subnet of it is in use"
    for _ in range(ATTEMPTS_MAX):
        offset = rng.randrange(1 << (SUBNET_BITS - pool.prefixlen)) << (32 - SUBNET_BITS)
        subnet = IPv4Network((int(pool.network_address) + offset, SUBNET_BITS))
        if any(subnet.overlaps(other) for other in taken):
            continue
        ipam = docker.types.IPAMConfig(
            pool_configs=[
                docker.types.IPAMPool(
                    subnet=str(subnet),
                    gateway=str(subnet.network_address + 1),
                    iprange=str(list(subnet.subnets())[1]),
                )
            ]
        )
        create_it = partial(api.create_network, name, ipam=ipam, labels=labels, driver=driver)
        attachable = True if driver == "overlay" else None
        try:
            translated(partial(create_it, attachable=attachable, check_duplicate=True))
        except MachineError as error:
            last = str(error)
            if "overlap" not in last.lower():
                raise MachineError(f"network {name}: {last}") from None
            taken.append(subnet)
        else:
            return Network(name, subnet, rng)
    raise MachineError(f"no free subnet in {pool}: {last} (set runtime.subnets to another range)")


def _subnets_of_engine(api: Any) -> list[IPv4Network]:
    found = []
    for network in api.networks():
        for config in (network.get("IPAM") or {}).get("Config") or []:
            subnet = config.get("Subnet", "")
            if subnet and ":" not in subnet:
                found.append(IPv4Network(subnet, strict=False))
    return found


def _routes() -> list[IPv4Network]:
    """Where this machine's packets already go, but for the default route."""
    try:
        lines = Path("/proc/net/route").read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        return []
    routes = [(_dotted(to), _dotted(mask)) for _, to, *_, mask, _, _, _ in map(str.split, lines)]
    return [IPv4Network(f"{to}/{mask}", strict=False) for to, mask in routes if int(mask[0])]


def _dotted(hexadecimal: str) -> str:
    return str(IPv4Address(int.from_bytes(bytes.fromhex(hexadecimal), "little")))
