"""What already runs on a Docker engine: a compose project, or containers by their names.

The app's containers are stopped, and others with the same configuration take their place at fresh
addresses. At the end the first ones are started again. Nothing else of the project is touched, and
nothing at all unless the config names it in `allow`. See docs/compose.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from chaosd import shown
from chaosd.errors import MachineError
from chaosd.plugins.bases import KeyPath, OldIp
from chaosd.plugins.proxy import CanBeMet, Launches, Proxy, ProxyHost, Running
from chaosd.plugins.recording import Recorder
from chaosd.plugins.runtime import CanHoldAddress, CanMove, CellSpec
from chaosd.runtimes.docker import OLD_IP
from chaosd.runtimes.docker.engine_runtime import (
    EngineConfig,
    EngineRuntime,
    beyond_docker_dns,
    published_when_started,
)
from chaosd.runtimes.realtime import standing

if TYPE_CHECKING:
    from chaosd.runtimes.compose.project import Project
    from chaosd.runtimes.docker.endpoint import Endpoint

REMEMBERED = 4  # addresses: each may take a container that holds it
OWN_APP = "http-server"  # what a config says that says nothing of the app's image


class ComposeConfig(EngineConfig):
    """A project that runs already, at DOCKER_HOST or where the current CLI context says."""

    type: Literal["compose"] = "compose"
    project: str | None = Field(
        None, min_length=1, description="the compose project; not set: containers by their names"
    )
    app: str = Field("", description="the service that moves, or its container's name")
    proxy: str = Field("", description="the proxy's service, or its container's name")
    allow: str = Field(
        "",
        description="what chaosd may stop and start again although it is not its own: the name of "
        "the project, or of the app's container",
    )
    network: str | None = Field(
        None, min_length=1, description="where the proxy finds the app; the one that they share"
    )
    port: int | None = Field(
        None, ge=1, le=65535, description="where the proxy listens; the one that is published"
    )
    identity_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,100}$",
        description="the response header that says which instance has answered: by its "
        "CHAOSD_IDENTITY, or by its host's name (X-Chaosd-Instance if not set)",
    )


class ComposeRuntime(EngineRuntime):
    """Where the proxy and the app are the user's own, and run already."""

    Config = ComposeConfig
    has_proxy_program: ClassVar[bool] = True  # it is asked in a container of chaosd's own
    makes_topology: ClassVar[bool] = False
    runs_programs: ClassVar[bool] = False
    default_proxy: ClassVar[str | None] = None

    def __init__(self, config: ComposeConfig, endpoint: Endpoint | None = None) -> None:
        super().__init__(config, endpoint)
        self.config: ComposeConfig = config

    @cached_property
    def found(self) -> Project:
        """What ran when it was looked at first. Raises MachineError."""
        from chaosd.runtimes.compose.as_it_was import secrets_of

        found = self._look()
        for each in (*found.app, found.proxy):
            shown.know(secrets_of(each))
        return found

    def _look(self) -> Project:
        from chaosd.runtimes.compose.project import find
        from chaosd.runtimes.docker.presence import watched

        config = self.config

        def looked() -> Project:
            with self.endpoint.client() as api:
                return find(api, config.project, config.app, config.proxy, config.network)

        return watched(self.endpoint, looked)

    def lacks(self, proxy: Proxy, app_image: str) -> str | None:
        from chaosd.runtimes.docker import images
        from chaosd.runtimes.docker.presence import watched

        if not (self.config.app and self.config.proxy):
            return None  # `problems` says so

        def missing() -> list[str]:
            with self.endpoint.client() as api:
                return images.missing(api, [images.app_tag()])

        if watched(self.endpoint, missing):
            what = f"the engine has no image {images.app_tag()}, which holds old addresses"
            return f"{what} (chaosd images makes it)"
        try:
            _ = self.found
        except MachineError as error:
            return str(error)
        return None

    def proxy_host(self, proxy: Proxy) -> ProxyHost | None:
        from chaosd.runtimes.docker.members import FILES
        from chaosd.runtimes.docker.objects import OPEN_FILES_MAX
        from chaosd.runtimes.docker.proxy import SCRATCH, run_once

        if not isinstance(proxy, Launches):
            return None
        run = partial(run_once, self.endpoint, self.found.proxy["Image"])
        return ProxyHost(
            directory=PurePosixPath(FILES), scratch=SCRATCH, run=run, open_files_max=OPEN_FILES_MAX
        )

    def asks_directly(self) -> bool:
        return True

    def abilities(self) -> Sequence[type]:
        return (CanMove, CanHoldAddress)

    def old_ip(self) -> Sequence[OldIp]:
        return OLD_IP

    def problems(self, cell: CellSpec) -> list[tuple[KeyPath, str]]:
        config, app = self.config, cell.app
        for key in ("app", "proxy"):
            if not dict(config)[key]:
                what = f"`{key}` is missing (such as project: shop, app: web, proxy: haproxy)"
                return [(("runtime",), what)]
        found: list[tuple[KeyPath, str]] = []
        allowed = config.project or config.app
        if config.allow != allowed:
            what = f"chaosd would touch what is not its own: {self._deeds()}"
            found.append((("runtime", "allow"), f"{what} (if it may, say allow: {allowed})"))
        if cell.cells > 1:
            found.append((("cells",), "there is one project, not several (cells: 1)"))
        own = {"image": app.image != OWN_APP, "command": bool(app.command)}
        # What stands for somebody else's app is told what to answer by variables of chaosd's.
        own["env"] = any(not name.startswith("CHAOSD_") for name in app.env)
        own |= {"start_delay": app.start_delay_s > 0, "healthy_after": app.healthy_after_s > 0}
        for key in (key for key, is_said in own.items() if is_said):
            what = "the app keeps the configuration that its containers have"
            found.append((("app", key), f"{what} (leave it out)"))
        count = len(self.found.app)
        if app.replicas != count:
            what = f"{config.app} has {count} running container{'s' * (count != 1)}"
            found.append((("app", "replicas"), f"{what} (say replicas: {count})"))
        found += published_when_started(cell.dns)
        return found + list(beyond_docker_dns(cell.dns, "leave it out"))

    def _deeds(self) -> str:
        found = self.found
        return (
            f"it stops {found.names} at the first fault, lets containers with the same "
            f"configuration take its place in network {found.network}, and starts it again at "
            "the end"
        )

    def deeds(self) -> Sequence[str]:
        from chaosd.runtimes.compose.project import name_of

        proxy = name_of(self.found.proxy)
        at_any_end = "also after Ctrl-C, and by the next start or `chaosd clean` after kill -9"
        return [
            f"allowed, though not chaosd's own: {self._deeds()} ({at_any_end})",
            f"{proxy} is asked, and its log and files are read; nothing of it is changed",
        ]

    def app_found(self) -> Mapping[str, Any]:
        found = self.found.app
        exposed = [each for each in found[0]["Config"].get("ExposedPorts") or () if "tcp" in each]
        port = {"port": int(exposed[0].partition("/")[0])} if len(exposed) == 1 else {}
        return {"replicas": len(found), "remember_ips": REMEMBERED} | port

    def meet(self, proxy: Proxy) -> Proxy:
        from chaosd.runtimes.compose.files import fetch
        from chaosd.runtimes.compose.project import name_of, names_in
        from chaosd.runtimes.docker.presence import watched

        if not isinstance(proxy, CanBeMet):
            return proxy
        found = self.found
        config = found.proxy["Config"]

        def fetched(path: str) -> Path:
            with self.endpoint.client() as api:
                return fetch(api, found.proxy, path)

        variables = (each.partition("=") for each in config.get("Env") or ())
        return proxy.met(
            Running(
                name=name_of(found.proxy),
                argv=[*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())],
                directory=config.get("WorkingDir") or "/",
                environment={name: value for name, _, value in variables},
                app_names=frozenset(names_in(found.app[0], found.network)),
                fetch=lambda path: watched(self.endpoint, lambda: fetched(path)),
            )
        )

    async def set_up(
        self, cell: CellSpec, recorder: Recorder, failed: Callable[[Exception], None]
    ) -> Any:
        from chaosd.runtimes.compose.stage import ComposeStage

        found = await asyncio.to_thread(self._look)  # by now those of a killed run run again
        stage = ComposeStage(
            self._presence(), cell, recorder, failed, config=self.config, found=found
        )
        return await standing(stage)
