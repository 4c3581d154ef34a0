"""A proxy of which nothing is known but its door: for what chaosd has not made itself."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import Field

from chaosd.config.units import Duration
from chaosd.errors import ConfigError
from chaosd.history.events import Address, Prediction
from chaosd.plugins.bases import ProxyConfig
from chaosd.plugins.proxy import ProxyHost, Wiring
from chaosd.plugins.timeline import Timeline, Unreached


class Unknown:
    """Another proxy, a load balancer, or none at all: never run, read or predicted."""

    class Config(ProxyConfig):
        type: Literal["unknown"] = "unknown"
        timers: tuple[Duration, ...] = Field(
            (), description="its periods, such as of its health checks: fault times don't lock to"
        )

    image: str | None = None
    wanted_version: str | None = None
    listen: Address | None = None

    def __init__(self, config: Config) -> None:
        self.config = config

    def move_to(self, host: ProxyHost) -> None:
        """It is where it is."""

    def files(self) -> dict[str, bytes]:
        return {}

    def version(self) -> str:
        return ""

    def problems(self, *, by_address: bool = False) -> list[str]:
        return []

    def advice(self) -> list[str]:
        return []

    def settings(self) -> dict[str, Any]:
        return {}

    def render(self, wiring: Wiring) -> str:
        raise ConfigError("proxy: an `unknown` one can't be run (it is for `runtime: external`)")

    def environment(self, wiring: Wiring) -> dict[str, str]:
        return {}

    def command(self, config_file: PurePath) -> list[str]:
        raise ConfigError(f"proxy: an `unknown` one can't be run with {config_file}")

    def check(self, config_file: Path, environment: dict[str, str]) -> str | None:
        """Nothing can be said against it."""

    def read_log(self, line: str) -> tuple[str, dict[str, Any]] | None:
        """It is not understood."""

    async def read_api(self, api: str) -> dict[str, Any]:
        raise OSError(f"{api}: the API of an unknown proxy")

    def timers_s(self) -> tuple[float, ...]:
        return tuple(timer.s for timer in self.config.timers)

    def predict(self, timeline: Timeline) -> Prediction | Unreached:
        return Unreached.NO_MODEL
