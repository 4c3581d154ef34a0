"""Whom the external runtime asks, and whom it refuses to."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from chaosd import plan
from chaosd.config.shape import Config
from chaosd.engine.recorder import CellRecorder
from chaosd.errors import ConfigError, MachineError
from chaosd.history.values import ANYBODY, Address
from chaosd.system.clock import RealClock


def built(cells: int = 1, more: dict | None = None, **runtime) -> plan.Plan:
    parts = {"runtime": {"type": "external"} | runtime, "proxy": {"type": "unknown"}}
    noop = {"type": "noop", "every": "5s"}
    config = Config.model_validate(
        {"name": "x", "cells": cells, "faults": [noop]} | parts | (more or {})
    )
    return plan.build(config, lambda where, what: f"{'.'.join(map(str, where))}: {what}")


def set_up(planned: plan.Plan, name: str = "c1"):
    events = []
    recorder = CellRecorder(RealClock(), name, events.append)

    async def standing():
        return await planned.runtime.set_up(
            planned.spec(replace(planned.cells[0], name=name), Path()), recorder, print
        )

    return asyncio.run(standing())


@pytest.mark.parametrize(
    ("target", "entry"),
    [
        ("http://127.0.0.1:8080/", Address("127.0.0.1", 8080)),
        ("127.0.0.1:81", Address("127.0.0.1", 81)),
        ("https://10.1.2.3", Address("10.1.2.3", 443)),
        ("http://[::1]:8080", Address("::1", 8080)),
        ("http://[fd00::7]", Address("fd00::7", 80)),
        ("100.64.1.1:80", Address("100.64.1.1", 80)),
    ],
)
def test_what_is_private_is_asked(target, entry) -> None:
    stage = set_up(built(target=target))
    assert stage.entry == entry
    assert [(i.identity, i.address) for i in stage.app] == [(ANYBODY, entry)]


@pytest.mark.parametrize(
    "target",
    ["http://8.8.8.8/", "[2001:4860:4860::8888]:80", "[::ffff:8.8.8.8]:80", "224.0.0.1:80"],
)
def test_what_is_public_is_not(target) -> None:
    with pytest.raises(ConfigError, match=r"^runtime.target: .* is a public address \(if it is yo"):
        built(target=target)
    assert built(target=target, allow_public=True)


@pytest.mark.parametrize(
    ("part", "key", "value", "what"),
    [
        ("app", "command", ("x",), "the app"),
        ("app", "env", {"A": "b"}, "the app"),
        ("app", "healthy_after", "1s", "the app"),
        ("dns", "missing", "servfail", "its nameserver"),
        ("dns", "delay", "1s", "its nameserver"),
        ("dns", "nameservers", 2, "its nameserver"),
    ],
)
def test_what_is_not_made_here_can_not_be_asked_for(part, key, value, what) -> None:
    said = f"{part}.{key}: chaosd does not make {what} here, and changes nothing of it (leave it"
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}"):
        built(target="127.0.0.1:81", more={part: {key: value}})


def test_a_name_is_judged_once_it_is_looked_up(monkeypatch) -> None:
    async def looked_up(*_, **__):
        return [(2, 1, 6, "", ("8.8.4.4", 80))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", looked_up)
    with pytest.raises(ConfigError, match=r"lb.example: 8.8.4.4 is a public address"):
        set_up(built(target="lb.example:80"))
    allowed = set_up(built(target="lb.example:80", allow_public=True))
    assert allowed.entry == Address("8.8.4.4", 80)


def test_the_target_is_needed_and_there_is_one_of_it() -> None:
    with pytest.raises(ConfigError, match=r"^runtime: `target` is missing \(such as target:"):
        built()
    with pytest.raises(ConfigError, match="cells: 1"):
        set_up(built(target="127.0.0.1:80", cells=2), "c2")


def test_instances_that_say_who_they_are() -> None:
    stage = set_up(
        built(
            target="127.0.0.1:80",
            direct="127.0.0.1:81",
            identity_header="X-Served-By",
            identities=["blue", "green"],
        )
    )
    assert [i.identity for i in stage.app] == ["blue", "green"]
    assert stage.identity_header == "X-Served-By"
    assert stage.direct == Address("127.0.0.1", 81)


def test_a_fault_that_needs_more_than_a_door_is_refused() -> None:
    config = {
        "name": "x",
        "runtime": {"type": "external", "target": "127.0.0.1:80"},
        "proxy": {"type": "unknown"},
    }
    with pytest.raises(ConfigError, match="external runtime can't do a recreate: it lacks CanMove"):
        plan.build(Config.model_validate(config), lambda where, what: what)


def test_an_unknown_proxy_is_for_what_is_found() -> None:
    config = {"name": "x", "runtime": "local", "proxy": {"type": "unknown"}}
    with pytest.raises((ConfigError, MachineError), match="unknown"):
        plan.rehearse(plan.build(Config.model_validate(config), lambda where, what: what))
