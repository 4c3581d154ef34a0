"""What a config leaves open and the user's own files, or what runs already, say: filled in first.

The app's name, how many instances it has, what the probe asks for, and how often faults may come.
What the config says itself stays.
"""

from __future__ import annotations

import json
from typing import Any

from chaosd.config.shape import Config
from chaosd.plugins.bases import Part
from chaosd.plugins.config_parts import plugin_config
from chaosd.plugins.probe import Knock
from chaosd.plugins.proxy import CanBeMet, Proxy, Rewires, StandIn
from chaosd.plugins.runtime import Runtime, TouchesOthers
from chaosd.units import Duration

_EVERY_S_MIN = 6.0
_JITTER_S = 3.0  # so that faults don't lock to the proxy's timers
_LIMIT_S_MIN = 60.0
# A handshake takes some ms of processor time: at the usual rate a busy machine of two processors
# comes to a stand.
_TLS_RATE = "50/s"


def fitted(config: Config, proxy: Proxy, runtime: Runtime) -> Config:
    """The config with what runs already and the proxy's own files say; the same if nothing does."""
    if isinstance(runtime, TouchesOthers):
        values = runtime.app_found()
        open_ = {k: v for k, v in values.items() if k not in config.app.model_fields_set}
        # As if the config had said so: what the proxy's files say of it is less than what runs.
        config = config.model_copy(update={"app": config.app.model_copy(update=open_)})
        if isinstance(proxy, CanBeMet):
            config = config.model_copy(update={"proxy": proxy.config})
    return fitted_to_files(config, proxy)


def fitted_to_files(config: Config, proxy: Proxy) -> Config:
    """The config with what the proxy's own files say."""
    stand_in = proxy.stand_in(config.app.port) if isinstance(proxy, Rewires) else None
    if stand_in is None:
        return config
    found: dict[str, Any] = {"dns": config.dns.model_copy(update={"name": stand_in.name})}
    if "replicas" not in config.app.model_fields_set:
        found["app"] = config.app.model_copy(update={"replicas": stand_in.instances})
    if "probes" not in config.model_fields_set:
        found["probes"] = (_probe(stand_in.knock, shakes_hands=stand_in.shakes_hands),)
    if "faults" not in config.model_fields_set:
        found["faults"] = (_fault(stand_in),)
    if "recovery_limit" not in config.measure.model_fields_set:
        limit = Duration(round(max(_LIMIT_S_MIN, 2 * stand_in.settled_s) * 1e9))
        found["measure"] = config.measure.model_copy(update={"recovery_limit": limit})
    return config.model_copy(update=found)


def _probe(knock: Knock, *, shakes_hands: bool) -> Part:
    asked: dict[str, Any]
    if knock.tls:
        asked = {"type": "httpx", "scheme": "https", "verify": False}
    else:
        asked = {"type": "http", "proxy_protocol": knock.proxy_line}
    asked |= {"rate": _TLS_RATE} if shakes_hands else {}
    values = asked | {"host": knock.host, "path": knock.path}
    return plugin_config("probes", str(asked["type"])).model_validate(values)


def _fault(stand_in: StandIn) -> Part:
    """A failover as soon as the one before has settled, with any phase of the proxy's timers."""
    first = max(_EVERY_S_MIN, stand_in.settled_s)
    every = {"min": f"{first:.0f}s", "max": f"{first + _JITTER_S:.0f}s"}
    model = plugin_config("faults", "recreate")
    return model.model_validate_json(json.dumps({"type": "recreate", "every": every}))
