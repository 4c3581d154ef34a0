"""Why the model has no answer, in words."""

from __future__ import annotations

from chaosd.proxies.haproxy.cfg.wording import say_unknown
from chaosd.proxies.haproxy.model.backend import Unknown


def why_unknown(unknown: Unknown) -> str:
    return f"no prediction: {say_unknown(unknown)}" if unknown.why else "no prediction"
