"""Where the probe comes in: the frontend, its bind, and what a request has to say there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaosd.proxies.haproxy.cfg.effective import Effective, Proxy
from chaosd.proxies.haproxy.cfg.source import Statement
from chaosd.proxies.haproxy.rewire import routes
from chaosd.proxies.haproxy.rewire.choose import Choice
from chaosd.proxies.haproxy.rewire.routes import Request

# That are tried, of those that conditions name.
_HOSTS_MAX, _PATHS_MAX, _SOURCES_MAX = 40, 40, 3


@dataclass(frozen=True)
class ProbeRoute:
    """The way to the app. Without a frontend chaosd adds one of its own, and `why` says so."""

    frontend: Proxy | None
    bind: Statement | None
    request: Request
    accept_proxy: bool = False
    why: Statement | None = None  # the rule that is in the way, or that is not understood
    left_out: tuple[Statement, ...] = ()  # rules of the backend that let no request in

    @property
    def is_own(self) -> bool:
        return self.frontend is None

    @property
    def tls(self) -> bool:
        return self.request.tls


def find(effective: Effective, choice: Choice, host: str | None, path: str | None) -> ProbeRoute:
    """The simplest way to the backend: plain before `accept-proxy` before TLS."""
    in_the_way: list[Statement] = []
    found: list[tuple[tuple[int, ...], ProbeRoute]] = []
    for number, proxy in enumerate(effective.proxies):
        if proxy.kind not in ("frontend", "listen") or not _leads(proxy, choice.backend):
            continue
        for bind in (line for line in proxy.statements if line.says("bind") and line.words[1:]):
            route, stopped = _way_in(proxy, bind, choice, host, path)
            in_the_way += [] if stopped is None else [stopped]
            if route is not None:
                cost = (route.tls, route.accept_proxy, route.request.path != "/", number)
                found.append((cost, route))
    if found:
        return min(found, key=lambda pair: pair[0])[1]
    backend = choice.backend
    plain = _past_its_own_rules(choice, host, path)
    if backend.kind == "listen" and not any(line.says("bind") for line in backend.statements):
        return ProbeRoute(backend, None, plain)
    # A redirect may lead to another bind, and what stops requests there is what matters.
    in_the_way.sort(key=lambda line: "redirect" in line.texts[:2])
    why = in_the_way[0] if in_the_way else None
    return ProbeRoute(None, None, plain, why=why, left_out=(*routes.in_the_way(backend, plain),))


def _past_its_own_rules(choice: Choice, host: str | None, path: str | None) -> Request:
    """What to ask for where no frontend looks at it: the plainest that the backend lets in."""
    requests = list(_requests((choice.backend,), choice, host, path, tls=False))
    for request in requests:
        inside = routes.follow(choice.backend, request)
        if inside.stopped is None and inside.unknown is None:
            return request
    return requests[0]


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
) -> tuple[ProbeRoute | None, Statement | None]:
    """The first request that gets from this bind to the backend, or the rule that is in the way."""
    stopped: Statement | None = None
    tls = "ssl" in bind.texts[2:]
    accept_proxy = "accept-proxy" in bind.texts[2:]
    for request in _requests((proxy, choice.backend), choice, host, path, tls=tls):
        if request.source is not None and accept_proxy:
            continue  # the PROXY line says where it comes from
        outcome = routes.follow(proxy, request)
        if outcome.unknown is None and outcome.backend == choice.backend.name:
            if choice.backend is not proxy:
                inside = routes.follow(choice.backend, request)
                if inside.stopped is not None or inside.unknown is not None:
                    stopped = stopped or inside.stopped or inside.unknown
                    continue
            return ProbeRoute(proxy, bind, request, accept_proxy), None
        stopped = stopped or outcome.unknown or outcome.stopped
    to = [s for s in proxy.statements if s.says("use_backend", choice.backend.name)]
    return None, stopped or (to[0] if to else None)


def _requests(
    proxies: Sequence[Proxy], choice: Choice, host: str | None, path: str | None, *, tls: bool
) -> Iterator[Request]:
    """What may get through, the plainest first."""
    said = [routes.literals(proxy) for proxy in proxies]
    hosts = list(dict.fromkeys(each for hosts, _ in said for each in hosts))
    paths = list(dict.fromkeys(each for _, paths in said for each in paths))
    sources = list(dict.fromkeys(each for proxy in proxies for each in routes.sources(proxy)))
    for source in (None, *sources[:_SOURCES_MAX]):
        for said_path in [path] if path else ["/", *paths[:_PATHS_MAX]]:
            for said_host in [host] if host else [choice.name, *hosts[:_HOSTS_MAX]]:
                yield Request(said_host, said_path, tls, source)
