"""Every runtime plugin passes the conformance suite: one table."""

from __future__ import annotations

import pytest

from chaosd import plugins
from chaosd.errors import MachineError
from chaosd.runtimes.sim import SimStage
from chaosd.testing.runtime import check_runtime

FAST = {"resolvers": {"timeout_resolve": "200ms", "timeout_retry": "100ms"}}
CASES = {
    "docker": [{}, {"dns": "forward"}],
    "external": [],  # it makes nothing: tests/unit/test_external_runtime.py
    "local": [{}],
    "sim": [{}, {"app_start": "500ms"}],
}
MARKS = {"docker": [pytest.mark.docker, pytest.mark.timeout(180)], "local": [pytest.mark.haproxy]}
TABLE = [
    pytest.param({"type": name} | part, id=f"{name}-{number}", marks=MARKS.get(name, []))
    for name, parts in CASES.items()
    for number, part in enumerate(parts)
]


@pytest.mark.parametrize("part", TABLE)
def test_it_conforms(part, request) -> None:
    proxy = {"type": "haproxy"} | FAST
    if part["type"] == "local":
        proxy |= {"binary": request.getfixturevalue("haproxy")}
    try:
        check_runtime(part, proxy=proxy)
    except MachineError as error:
        if part["type"] != "docker" or "engine" not in str(error):
            raise
        pytest.skip(str(error))


def test_every_runtime_is_in_the_table() -> None:
    assert set(CASES) == set(plugins.available("runtimes"))


def test_several_replicas() -> None:
    check_runtime({"type": "sim"}, app={"replicas": 3})


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("gone", "InstanceGone"),
        ("publish", "NamePublished"),
        ("listening", "does not listen|InstanceListening"),
    ],
)
def test_the_suite_finds_what_is_not_stored(method, why, monkeypatch) -> None:
    monkeypatch.setattr(SimStage, method, lambda *_: None)
    with pytest.raises((AssertionError, MachineError), match=why):
        check_runtime({"type": "sim"})


def test_the_suite_finds_an_address_that_is_not_fresh(monkeypatch) -> None:
    monkeypatch.setattr(SimStage, "_fresh_ip", lambda _: "10.64.1.1")
    with pytest.raises(AssertionError, match="not a fresh one"):
        check_runtime({"type": "sim"})
