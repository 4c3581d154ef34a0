"""Every proxy plugin passes the conformance suite: one table."""

from __future__ import annotations

import pytest

from chaosd import plugins
from chaosd.plugins.proxy import Launches
from chaosd.testing.proxy import check_proxy

FAST = {"timeout_resolve": "200ms", "timeout_retry": "100ms"}
CASES = {
    "haproxy": [{}, {"resolvers": FAST, "server": {"inter": "200ms"}, "redispatch": True}],
    "nginx": [
        {"resolver": {"valid": "1s", "timeout": "1s"}},
        {"resolver": {"valid": "1s"}, "keepalive": 4, "next_upstream": {"when": ["off"]}},
    ],
    "unknown": [{}, {"timers": ["2s"]}],
}
MARKS = {"haproxy": [pytest.mark.haproxy], "nginx": [pytest.mark.real]}
TABLE = [
    pytest.param(
        {"type": name} | part,
        id=f"{name}-{number}",
        marks=MARKS.get(name, []),
    )
    for name, parts in CASES.items()
    for number, part in enumerate(parts)
]


@pytest.mark.parametrize("part", TABLE)
def test_it_conforms(part, request) -> None:
    if part["type"] == "haproxy":
        part = part | {"binary": request.getfixturevalue("haproxy")}
    kind = plugins.find("proxies", part["type"])
    version = check_proxy(part)
    if version is None and isinstance(kind(kind.Config.model_validate(part)), Launches):
        pytest.skip(f"no program of {part['type']} on this machine: only its launch was checked")


def test_every_proxy_is_in_the_table() -> None:
    assert set(CASES) == set(plugins.available("proxies"))
