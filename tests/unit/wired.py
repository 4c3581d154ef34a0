"""A proxy's surroundings, and its part of the config."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from chaosd.history.values import Address
from chaosd.plugins.proxy import Wiring
from chaosd.proxies.haproxy.config import Config

EXAMPLE = Path(__file__).parents[2] / "haproxy" / "haproxy.cfg"
WIRING = Wiring(
    listen=Address("127.64.0.1", 8080),
    dns=Address("127.64.0.2", 5300),
    app_name="app.chaosd",
    app_port=8081,
    replicas=1,
    log=Address("127.64.0.2", 5140),
    api=PurePath("/run/chaosd/api"),
    directory=PurePath("/run/chaosd"),
    scratch=PurePath("/run/chaosd"),
)


def config(**values: Any) -> Config:
    return Config.model_validate({"type": "haproxy"} | values)
