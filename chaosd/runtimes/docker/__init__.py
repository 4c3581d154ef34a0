"""The topology on a Docker engine: what people run, with the engine's own DNS between the parts.

Every container has a fixed address of a private network of its cell. Files are put into containers
and nothing is mounted from the machine, so that the engine may be anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Network, ip_address
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from chaosd.plugins.bases import KeyPath, OldIp
from chaosd.plugins.proxy import Launches, Proxy, ProxyHost
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import (
    CanFaultDns,
    CanHang,
    CanHoldAddress,
    CanMove,
    CanPartition,
    CanPause,
    CanReloadProxy,
    CanRestartProxy,
    CanSwitch,
    CellSpec,
)
from chaosd.runtimes.docker.engine_runtime import (
    EngineConfig,
    EngineRuntime,
    beyond_docker_dns,
    published_when_started,
)
from chaosd.runtimes.realtime import standing

if TYPE_CHECKING:
    from chaosd.runtimes.docker.endpoint import Endpoint

OLD_IP: tuple[OldIp, ...] = ("refuse", "imposter", "blackhole", "tarpit", "vacant")


class TopologyConfig(EngineConfig):
    """What the config has of every runtime that makes its topology of containers."""

    upstream: Literal["none", "host"] = Field(
        "none",
        description="who Docker's DNS asks for names that it does not know, as the app's is while "
        "it is gone: nobody, or the engine's own servers, as it is for your containers",
    )
    dns: Literal["engine", "forward"] = Field(
        "engine",
        description="whom the proxy asks: Docker's own DNS, or chaosd's, which forwards to it, "
        "says what it is asked, and answers for a missing name as `dns` says",
    )
    subnets: str = Field(
        "10.213.0.0/16", description="each cell's network takes a free /24 of this range"
    )

    @field_validator("subnets")
    @classmethod
    def _range(cls, text: str) -> str:
        try:
            network = IPv4Network(text)
        except ValueError:
            raise ValueError("not a range of IPv4 addresses (such as 10.213.0.0/16)") from None
        if not network.is_private or network.prefixlen > 24:  # noqa: PLR2004
            raise ValueError("should be private, and a /24 at least (such as 10.213.0.0/16)")
        return text


class DockerConfig(TopologyConfig):
    """Docker, at DOCKER_HOST or where the current CLI context says."""

    type: Literal["docker"] = "docker"
    publish: str = Field(
        "127.0.0.1", description="where the engine publishes the proxy's entry and Runtime API"
    )

    @field_validator("publish")
    @classmethod
    def _one_address(cls, text: str) -> str:
        try:
            ip_address(text)
        except ValueError:
            raise ValueError("not an IP address (such as 127.0.0.1)") from None
        return text


class TopologyRuntime(EngineRuntime):
    """The part of a Runtime that all have that make their topology of containers."""

    has_proxy_program: ClassVar[bool] = True
    makes_topology: ClassVar[bool] = True
    runs_programs: ClassVar[bool] = False  # `app.command` is one of its image's
    default_proxy: ClassVar[str | None] = None

    def __init__(self, config: TopologyConfig, endpoint: Endpoint | None = None) -> None:
        """`endpoint` is the proxy's engine; None: the one that the environment names."""
        super().__init__(config, endpoint)
        self._dns = config.dns

    def proxy_host(self, proxy: Proxy) -> ProxyHost | None:
        from chaosd.runtimes.docker.members import FILES
        from chaosd.runtimes.docker.objects import OPEN_FILES_MAX
        from chaosd.runtimes.docker.proxy import SCRATCH, run_once

        if not isinstance(proxy, Launches):
            return None
        run = partial(run_once, self.endpoint, proxy.image)
        return ProxyHost(
            directory=PurePosixPath(FILES), scratch=SCRATCH, run=run, open_files_max=OPEN_FILES_MAX
        )

    def old_ip(self) -> Sequence[OldIp]:
        return OLD_IP

    def problems(self, cell: CellSpec) -> list[tuple[KeyPath, str]]:
        """What Docker's own DNS can't be told."""
        dns = cell.dns
        found = list(published_when_started(dns))
        if self._dns == "forward":
            return found
        services = [n for n in (dns.name, *(cell.beside or ())) if n.startswith("_")]
        for name in services:
            what = f"Docker's DNS answers no service names such as {name} (SRV)"
            found.append((("dns", "name"), f"{what} (set runtime.dns to forward)"))
        return found + list(beyond_docker_dns(dns, "leave it out, or set runtime.dns to forward"))


class DockerRuntime(TopologyRuntime):
    """Where HAProxy and the app are containers of a Docker engine."""

    Config = DockerConfig

    def __init__(self, config: DockerConfig, endpoint: Endpoint | None = None) -> None:
        """`endpoint` is the engine; None: the one that the environment names."""
        super().__init__(config, endpoint)
        self.config: DockerConfig = config

    def lacks(self, proxy: Proxy, app_image: str) -> str | None:
        from chaosd.runtimes.docker import images
        from chaosd.runtimes.docker.presence import watched
        from chaosd.runtimes.docker.stage import OWN_IMAGE

        # The placeholder is always our own image.
        wanted = [images.app_tag()]
        if isinstance(proxy, Launches):
            wanted.insert(0, proxy.image)
        if app_image != OWN_IMAGE:
            wanted.append(app_image)

        def looked() -> tuple[list[str], str | None]:
            with self.endpoint.client() as api:
                return images.missing(api, wanted), self._out_of_reach(api)

        missing, unreached = watched(self.endpoint, looked)
        if missing:
            ours = f"`chaosd images` makes the app and HAProxy {', '.join(images.HAPROXY_VERSIONS)}"
            ours += ", `chaosd images --nginx` nginx"
            return f"the engine has no image {', '.join(missing)} ({ours}; others are yours to get)"
        return unreached

    def _out_of_reach(self, api: Any) -> str | None:
        """Whether ports that the engine publishes can't be reached from here."""
        from chaosd.runtimes.docker.endpoint import own_container

        loopback = ip_address(self.config.publish).is_loopback
        if self.endpoint.is_socket or not loopback or own_container(api) is not None:
            return None
        where = self.endpoint.url
        if self.endpoint.host in ("127.0.0.1", "localhost"):
            return None
        return (
            f"the engine at {where} is on another machine and would publish the proxy's entry on "
            f"its own {self.config.publish} (set runtime.publish to an address that you can reach)"
        )

    def asks_directly(self) -> bool:
        return True

    def abilities(self) -> Sequence[type]:
        proxy = (CanReloadProxy, CanRestartProxy)
        found = (CanMove, CanHoldAddress, CanPause, CanHang, CanPartition, *proxy)
        if self.config.dns == "engine":  # Docker's own DNS can't be told what to answer
            return found
        return (*found, CanFaultDns, CanSwitch)

    async def set_up(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> Any:
        from chaosd.runtimes.docker.stage import DockerStage

        publish = self.config.publish
        return await standing(
            DockerStage(self.config, self._presence(), cell, recorder, failed, publish=publish)
        )
