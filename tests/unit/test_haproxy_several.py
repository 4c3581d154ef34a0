"""Several servers of one name: which takes which address."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from moving import S, config

from chaosd.plugins.simulation import Reply
from chaosd.plugins.timeline import Failure, Meets, RecordType
from chaosd.proxies.haproxy.model.algorithm import ProxyModel

# --- several servers ------------------------------------------------------------------------------


class NameWorld:
    """A name whose addresses a test sets, all of them serving."""

    def __init__(self, *ips: str) -> None:
        self.ips = ips
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.dead: set[str] = set()

    def resolve(self, now_ns: int, record: RecordType) -> Reply:
        return Reply(self.ips if record == "A" and self.ips else Failure.EMPTY, 200_000)

    def connect(self, now_ns: int, ip: str) -> Meets:
        return Meets.REFUSE if ip in self.dead else Meets.LISTENING

    def said(self, at_ns: int, what: str, data: dict[str, Any]) -> None:
        self.log.append((what, data))


def several(world: NameWorld, **values: Any) -> ProxyModel:
    model = ProxyModel(config(**values), "3.0.11", world, Random(1), start_ns=0, servers=3)
    model.advance(3 * S)
    return model


def test_servers_of_a_template_take_an_address_each_and_surplus_ones_none() -> None:
    model = several(NameWorld("a", "b"))
    assert [server.ip for server in model.servers] == ["a", "b", None]
    assert [server.usable for server in model.servers] == [True, True, False]
    assert [server.name for server in model.servers] == ["app/app1", "app/app2", "app/app3"]


def test_a_server_whose_address_is_gone_takes_the_new_one_and_the_others_keep_theirs() -> None:
    world = NameWorld("a", "b", "c")
    model = several(world)
    world.ips, world.log = ("c", "b"), []  # another order changes nothing
    model.advance(5 * S)
    assert world.log == [("maint", {"server": "app/app1", "reason": "No IP for server"})]
    world.ips, world.log = ("d", "c", "b"), []
    model.advance(7 * S)
    assert [server.ip for server in model.servers] == ["d", "b", "c"]
    assert [what for what, _ in world.log] == ["address_changed", "up", "ready"]


def test_redispatch_goes_to_another_server_at_once() -> None:
    world = NameWorld("a", "b", "c")
    model = several(world, redispatch=True, server={"inter": "60s"})
    world.dead = {"a"}
    took = []
    for _ in range(9):
        at_ns = model.next_ns() - 1
        model.request(at_ns, lambda end_ns, status, ip, at=at_ns: took.append((end_ns - at, ip)))
        model.advance(at_ns + 1000)
    assert {ip for _, ip in took} == {"b", "c"}
    assert len(took) == 9
    assert max(took_ns for took_ns, _ in took) == 0


@pytest.mark.parametrize(("version", "left"), [("2.4.20", "a"), ("2.6.12", None)])
def test_maintenance_forgets_what_the_answers_held(version: str, left: str | None) -> None:
    """Before 2.5 an address that is gone for good is given to a server that has none."""
    world = NameWorld("a", "b")
    settings = config(resolvers={"hold": {"obsolete": "60s", "other": "0s"}})
    model = ProxyModel(settings, version, world, Random(1), start_ns=0, servers=2)
    model.advance(3 * S)
    world.ips = ()
    model.advance(9 * S)
    assert [server.ip for server in model.servers] == [None, None]
    world.ips = ("c",)
    model.advance(11 * S)
    assert {server.ip for server in model.servers} == {"c", left}
