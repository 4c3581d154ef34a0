"""What of a backend depends on how many requests there are: who is chosen, and who has to wait."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy, Server, Value
from chaosd.proxies.haproxy.cfg.limits import Change, limit
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import (
    Backend,
    Balance,
    CheckKind,
    Limit,
    Observe,
    OnError,
)

_MS = 1_000_000
_DRAWS = 2  # of `random`
_BALANCE = re.compile(r"(\w+)(?:\((\d+)\))?")
_KINDS = {"leastconn": Balance.LEAST, "random": Balance.RANDOM, "first": Balance.FIRST}


def balance_of(backend: Proxy) -> tuple[Balance, int]:
    """How servers are chosen, and of how many that are drawn. Hashes are taken as turns."""
    found = _BALANCE.match(str(backend.values["balance"].value))
    if found is None:
        return Balance.TURNS, _DRAWS
    return _KINDS.get(found[1], Balance.TURNS), max(1, int(found[2] or _DRAWS))


def places_of(effective: Effective, backend: Proxy) -> int:
    """How many requests are let in at a time; 0: any number."""
    return min((number for number, _ in _places(effective, backend)), default=0)


def _places(effective: Effective, backend: Proxy) -> Iterator[tuple[int, Place]]:
    """On the way to the backend."""
    for _, line in effective.document.statements("global"):
        if line.says("maxconn") and line.words[1:] and line.texts[1].isdecimal():
            yield max(1, int(line.texts[1])), line.place
    for proxy in effective.proxies:
        value = proxy.values.get("maxconn")
        if value is not None and value.is_said and _leads(proxy, backend) and _number(value):
            yield _number(value), value.place or proxy.place


def crowd_limits(effective: Effective, proxy: Proxy, backend: Backend) -> Iterator[Limit]:
    """The words for which it counts how many requests there are."""
    several = sum(line.slots for line in backend.servers) > 1
    if backend.balance is not Balance.TURNS and several:
        value = proxy.values["balance"]
        yield limit(value.place or proxy.place, f"balance {value.value}", Change.CROWD)
    few = [found for found in _places(effective, proxy) if backend.is_few(found[0])]
    for server, line in zip(proxy.servers, backend.servers, strict=True):
        values = server.values
        if backend.is_few(line.places):
            few.append((line.places, values["maxconn"].place or server.place))
        for name in _queues(server, backend):
            place = values[name].place or server.place
            yield limit(place, f"{name} {values[name].value}", Change.QUEUE)
        if line.observe is not None and line.check is not CheckKind.NONE:
            place = values["observe"].place or server.place
            yield limit(place, f"observe {values['observe'].value}", Change.CROWD)
        if line.slowstart_ns and several:
            place = values["slowstart"].place or server.place
            yield limit(place, f"slowstart {values['slowstart'].value}", Change.CROWD)
    if few:
        number, place = min(few)
        yield limit(place, f"maxconn {number}", Change.CROWD)


def _queues(server: Server, backend: Backend) -> Iterator[str]:
    """Words that say how many wait at it, where so few places are used up while it is gone."""
    places, least = number_of(server, "maxconn"), number_of(server, "minconn")
    if places and backend.is_few(least):
        yield "minconn"
    if backend.is_few(places) and number_of(server, "maxqueue"):
        yield "maxqueue"


def _leads(proxy: Proxy, backend: Proxy) -> bool:
    if proxy.place == backend.place:
        return True
    lines = (*proxy.inherited, *proxy.statements)
    return proxy.kind in ("frontend", "listen") and any(
        line.keyword in ("default_backend", "use_backend") and line.texts[1:2] == (backend.name,)
        for line in lines
    )


def observe_of(server: Server) -> Observe | None:
    """Whether requests that fail count against it."""
    values = server.values
    layer, how = values["observe"], str(values["on-error"].value)
    if layer.unclear is not None or layer.value not in ("layer4", "layer7"):
        return None
    soon = _number(values["fastinter"])
    return Observe(
        answers=layer.value == "layer7",
        limit=max(1, _number(values["error-limit"])),
        on_error=OnError(how) if how in {*OnError} else OnError.FAIL_CHECK,
        fastinter_ns=soon * _MS or None,
    )


def number_of(server: Server, name: str) -> int:
    """A number or a time in milliseconds of its line; 0 where it is not known, or not said."""
    found = server.values.get(name)
    return 0 if found is None else _number(found)


def _number(value: Value) -> int:
    if value.unclear is not None or value.value is None:
        return 0
    said = str(value.value)
    return int(said) if said.isdecimal() else 0
