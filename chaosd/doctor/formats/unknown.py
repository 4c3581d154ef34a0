"""Why the model has no answer, in words."""

from __future__ import annotations

from chaosd.doctor.price import SLOTS_MAX, TOO_MANY
from chaosd.proxies.haproxy.cfg.wording import say_unknown
from chaosd.proxies.haproxy.model.backend import Unknown


def why_unknown(unknown: Unknown) -> str:
    if unknown.why == TOO_MANY:
        return f"no prediction: more than {SLOTS_MAX} servers"
    return f"no prediction: {say_unknown(unknown)}" if unknown.why else "no prediction"
