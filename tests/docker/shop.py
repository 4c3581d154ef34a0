"""A project as `docker compose up` makes it, of three services, without that program.

`web` is chaosd's app, `haproxy` has its own file and finds it by Docker's DNS, and `db` is a
bystander with a volume.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker.types

from chaosd.runtimes.docker import images

PORT, API_PORT = 8000, 9999  # of the proxy, inside
HAPROXY_CFG = """\
global
    log stdout format raw daemon
    stats socket ipv4@0.0.0.0:{api} level user
    maxconn 500

defaults
    mode http
    log global
    timeout connect 500ms
    timeout client 5s
    timeout server 5s
    retries 1
    option redispatch 1

resolvers docker
    nameserver dns 127.0.0.11:53
    timeout resolve 200ms
    timeout retry 200ms
    hold obsolete 0s
    hold valid 200ms

frontend front
    bind :{port}
    default_backend web

backend web
    server web1 web:8080 check inter 500ms fall 2 rise 1 resolvers docker init-addr libc,none
"""


class Shop:
    """A project of this name on the engine."""

    def __init__(self, api: Any, where: Path, name: str = "shop", *, subnet: str = "") -> None:
        self.api, self.name = api, name
        self.network, self.volume = f"{name}_default", f"{name}_data"
        self.config = where / "haproxy.cfg"
        self._subnet = subnet
        self._made: list[str] = []

    def up(self, *, replicas: int = 1, **web: Any) -> None:
        api = self.api
        pools = [docker.types.IPAMPool(subnet=self._subnet)] if self._subnet else []
        ipam = docker.types.IPAMConfig(pool_configs=pools) if pools else None
        api.create_network(self.network, driver="bridge", ipam=ipam, labels=self._labels())
        api.create_volume(self.volume, labels=self._labels())
        self.config.write_text(HAPROXY_CFG.format(port=PORT, api=API_PORT))
        self.config.chmod(0o644)
        app = images.app_tag()
        self._service("db", app, binds=[f"{self.volume}:/data"])
        for number in range(1, replicas + 1):
            self._service("web", app, number, binds=[f"{self.volume}:/shared:ro"], **web)
        self._service(
            "haproxy",
            images.haproxy_tag(images.DEFAULT_HAPROXY),
            binds=[f"{self.config}:/etc/haproxy/haproxy.cfg:ro"],
            entrypoint=["haproxy", "-db", "-f", "/etc/haproxy/haproxy.cfg"],
            ports={PORT: ("127.0.0.1", None)},
        )

    def down(self) -> None:
        for each in self._made:
            self.api.remove_container(each, force=True, v=True)
        self.api.remove_network(self.network)
        self.api.remove_volume(self.volume)

    def inspect(self, service: str, number: int = 1) -> Any:
        return self.api.inspect_container(f"{self.name}-{service}-{number}")

    def _labels(self, **more: str) -> dict[str, str]:
        found = {"project": self.name, "version": "2.24.5", **more}
        return {f"com.docker.compose.{key}": value for key, value in found.items()}

    def _service(
        self,
        service: str,
        image: str,
        number: int = 1,
        *,
        binds: list[str],
        ports: dict[int, Any] | None = None,
        host: dict[str, Any] | None = None,
        **keys: Any,
    ) -> None:
        api = self.api
        labels = self._labels(
            **{"config-hash": f"{service:0<64}", "container-number": str(number)},
            depends_on="",
            image=api.inspect_image(image)["Id"],
            oneoff="False",
            service=service,
        )
        endpoint = api.create_endpoint_config(aliases=[f"{self.name}-{service}-{number}", service])
        made = api.create_container(
            image,
            name=f"{self.name}-{service}-{number}",
            labels=labels | {"team": "shop"},
            ports=list(ports or {}),
            networking_config=api.create_networking_config({self.network: endpoint}),
            host_config=api.create_host_config(
                binds=binds,
                port_bindings=ports or {},
                restart_policy={"Name": "unless-stopped"},
                network_mode=self.network,
                **host or {},
            ),
            **keys,
        )["Id"]
        self._made.append(made)
        api.start(made)
