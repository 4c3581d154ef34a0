"""Where the probe comes in: the frontend, its bind, and what a request has to say there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy
from chaosd.proxies.haproxy.cfg.source import Statement
from chaosd.proxies.haproxy.rewire import routes
from chaosd.proxies.haproxy.rewire.choose import Choice
from chaosd.proxies.haproxy.rewire.routes import Request

_HOSTS_MAX, _PATHS_MAX = 40, 40  # that are tried, of those that a frontend's conditions name


@dataclass(frozen=True)
class Door:
    """The way to the app. Without a frontend chaosd adds one of its own, and `why` says so."""

    frontend: Proxy | None
    bind: Statement | None
    request: Request
    accept_proxy: bool = False
    why: Statement | None = None  # the rule that is in the way, or that is not understood

    @property
    def is_own(self) -> bool:
        return self.frontend is None

    @property
    def tls(self) -> bool:
        return self.request.tls


def find(effective: Effective, choice: Choice, host: str | None, path: str | None) -> Door:
    """The simplest way to the backend: plain before `accept-proxy` before TLS."""
    in_the_way: Statement | None = None
    doors: list[tuple[tuple[int, ...], Door]] = []
    for number, proxy in enumerate(effective.proxies):
        if proxy.kind not in ("frontend", "listen") or not _leads(proxy, choice.backend):
            continue
        for bind in (line for line in proxy.statements if line.says("bind") and line.words[1:]):
            door, stopped = _way_in(proxy, bind, choice, host, path)
            in_the_way = in_the_way or stopped
            if door is not None:
                cost = (door.tls, door.accept_proxy, door.request.path != "/", number)
                doors.append((cost, door))
    if doors:
        return min(doors, key=lambda pair: pair[0])[1]
    plain = Request(host or choice.name, path or "/")
    backend = choice.backend
    if backend.kind == "listen" and not any(line.says("bind") for line in backend.statements):
        return Door(backend, None, plain)
    return Door(None, None, plain, why=in_the_way)


def _leads(proxy: Proxy, backend: Proxy) -> bool:
    if proxy == backend:
        return True
    lines = (*proxy.inherited, *proxy.statements)
    return any(
        line.keyword in ("default_backend", "use_backend") and line.texts[1:2] == (backend.name,)
        for line in lines
    )


def _way_in(
    proxy: Proxy, bind: Statement, choice: Choice, host: str | None, path: str | None
) -> tuple[Door | None, Statement | None]:
    """The first request that gets from this bind to the backend, or the rule that is in the way."""
    stopped: Statement | None = None
    tls = "ssl" in bind.texts[2:]
    for request in _requests(proxy, choice, host, path, tls=tls):
        outcome = routes.follow(proxy, request)
        if outcome.unknown is None and outcome.backend == choice.backend.name:
            if choice.backend is not proxy:
                inside = routes.follow(choice.backend, request)
                if inside.stopped is not None or inside.unknown is not None:
                    stopped = stopped or inside.stopped or inside.unknown
                    continue
            return Door(proxy, bind, request, "accept-proxy" in bind.texts[2:]), None
        stopped = stopped or outcome.unknown or outcome.stopped
    to = [s for s in proxy.statements if s.says("use_backend", choice.backend.name)]
    return None, stopped or (to[0] if to else None)


def _requests(
    proxy: Proxy, choice: Choice, host: str | None, path: str | None, *, tls: bool
) -> Iterator[Request]:
    """What may get through, the plainest first."""
    said_hosts, said_paths = routes.literals(proxy)
    hosts = [host] if host else [choice.name, *said_hosts[:_HOSTS_MAX]]
    paths = [path] if path else ["/", *said_paths[:_PATHS_MAX]]
    for said_path in paths:
        for said_host in hosts:
            yield Request(said_host, said_path, tls)
