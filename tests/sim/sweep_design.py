"""A small design of a sweep in the simulated world, and its base."""

from __future__ import annotations

from typing import Any

BASE: dict[str, Any] = {
    "name": "b",
    "runtime": "sim",
    "proxy": {"type": "haproxy", "resolvers": {"hold": {"other": "500ms"}}},
    "probes": [{"type": "http", "rate": "10/s"}],
}


def design(redispatch: list[bool | int], cycles: int) -> dict[str, Any]:
    """The baseline has 1s and no redispatch, as HAProxy has."""
    return {
        "name": "d",
        "base": "base.yaml",
        "vary": {
            "proxy.resolvers.timeout_resolve": ["200ms", "3s"],
            "proxy.resolvers.timeout_retry": {"same_as": "proxy.resolvers.timeout_resolve"},
            "proxy.redispatch": redispatch,
        },
        "faults": ["recreate", {"type": "dns", "answer": "servfail", "window": "2s"}],
        "until": {"cycles": cycles},
        "seed": 7,
    }
