"""A proxy of which nothing is known but its entry: for what chaosd has not made itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chaosd.plugins.bases import ProxyConfig
from chaosd.units import Duration


class Unknown:
    """Another proxy, a load balancer, or none at all. It has no abilities."""

    class Config(ProxyConfig):
        type: Literal["unknown"] = "unknown"
        timers: tuple[Duration, ...] = Field(
            (),
            description="periods that fault times must avoid, such as its health-check interval",
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def timers_s(self) -> tuple[float, ...]:
        return tuple(timer.s for timer in self.config.timers)
