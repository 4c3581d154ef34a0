"""Every runtime plugin passes the conformance suite: one table."""

from __future__ import annotations

import pytest
from late_address import LateRuntime, LateStage

from chaosd import plugins
from chaosd.errors import MachineError
from chaosd.runtimes.sim import SimStage
from chaosd.testing.runtime import check_runtime

FAST = {"resolvers": {"timeout_resolve": "200ms", "timeout_retry": "100ms"}}
REPLICAS = {"app": {"replicas": 3}}
WHEN_READY = {"app": {"start_delay": "300ms"}, "dns": {"publish": "ready"}}
STALE = {"dns": {"missing": "stale"}}
# Of each runtime: its own part, and the parts of the config around it.
CASES = {
    "compose": [],  # it needs a project that runs: tests/docker/test_compose.py
    "docker": [({}, {}), ({"dns": "forward"}, REPLICAS)],
    "external": [],  # it makes nothing: tests/unit/test_external_runtime.py
    "local": [({}, {}), ({}, REPLICAS), ({}, WHEN_READY), ({}, STALE)],
    "swarm": [],  # it needs several engines: tests/docker/test_swarm.py
    "sim": [({}, {}), ({"app_start": "500ms"}, REPLICAS), ({}, WHEN_READY), ({}, STALE)],
}
MARKS = {"docker": [pytest.mark.docker, pytest.mark.timeout(180)], "local": [pytest.mark.haproxy]}
LONG = {"docker-1"}  # that DNS is asked by tests/docker/test_forward.py each time
TABLE = [
    pytest.param(
        {"type": name} | part,
        keys,
        id=(row := f"{name}-{number}"),
        marks=[*MARKS.get(name, []), *([pytest.mark.slow] if row in LONG else [])],
    )
    for name, parts in CASES.items()
    for number, (part, keys) in enumerate(parts)
]


@pytest.mark.parametrize(("part", "keys"), TABLE)
def test_it_conforms(part, keys, request) -> None:
    proxy = {"type": "haproxy"} | FAST
    if part["type"] == "local":
        proxy |= {"binary": request.getfixturevalue("haproxy")}
    try:
        check_runtime(part, proxy=proxy, **keys)
    except MachineError as error:
        if part["type"] != "docker" or "engine" not in str(error):
            raise
        pytest.skip(str(error))


def test_every_runtime_is_in_the_table() -> None:
    assert set(CASES) == set(plugins.available("runtimes"))


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


@pytest.fixture
def late_address(monkeypatch):
    """The simulated runtime is one that learns its instances' addresses later."""
    found = plugins.find
    monkeypatch.setattr(
        plugins, "find", lambda kind, name: LateRuntime if name == "sim" else found(kind, name)
    )


@pytest.mark.parametrize("keys", [{}, REPLICAS, WHEN_READY, STALE])
def test_an_address_may_be_known_only_after_the_start(keys, late_address) -> None:
    check_runtime({"type": "sim"}, **keys)


def test_a_late_address_is_judged_when_it_is_known(late_address, monkeypatch) -> None:
    def give_the_same(self, entry, ip):
        self.scheduler.free.append(ip)
        return place(self, entry, ip)

    place = LateStage.place
    monkeypatch.setattr(LateStage, "place", give_the_same)
    with pytest.raises(AssertionError, match="not a fresh one"):
        check_runtime({"type": "sim"})
