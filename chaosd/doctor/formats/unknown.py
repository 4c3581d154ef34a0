"""Why the model has no answer, in words."""

from __future__ import annotations

from chaosd.proxies.haproxy.model.backend import Unknown


def why_unknown(unknown: Unknown) -> str:
    return f"no prediction: {unknown.why}" if unknown.why else "no prediction"
