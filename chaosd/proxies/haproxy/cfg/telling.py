"""The outlook of a user's backends in words: what a move and DNS trouble do to their users.

backend b (haproxy.cfg:12): 3 servers at app.example, by resolvers r; 2.0 DNS queries/s
                         new one answers    failed               unaffected  longest wait
  an instance moves      1.5 s (p95 2.0 s)  1.1 s (p95 1.4 s)    0 %         3.0 s
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from chaosd.proxies.haproxy.cfg.wording import say_fixed, say_limit, say_unknown
from chaosd.proxies.haproxy.model.backend import (
    Follows,
    Happening,
    Limit,
    Outlook,
    Scenario,
    ServerLine,
    Spread,
    Unknown,
)
from chaosd.proxies.haproxy.model.outlook import (
    DNS_TROUBLE,
    MOVE,
    NODE_LOST,
    SLOTS_USED,
    moves_at_first,
)
from chaosd.proxies.haproxy.outlooks import Foreseen

_NAMES_MAX = 6  # backends that are alike, or hosts, before the rest is only counted
_HEADINGS = ("", "new one answers", "failed", "unaffected", "longest wait", "trials")
_HAPPENS = {
    Happening.MOVE: "an instance moves",
    Happening.NODE_LOST: "its node is lost",
    Happening.DNS_TROUBLE: f"no DNS for {DNS_TROUBLE.published_s:g} s",
}
_NEVER = "never"


def tell(found: Sequence[Foreseen | Unknown], version: str | None) -> list[str]:
    """The whole section, a line each; nothing if there is no backend."""
    if not found:
        return []
    lines = [*_assumptions(found, version)]
    shared = _shared([each for each in found if isinstance(each, Foreseen)])
    for each in found:
        lines.append("")
        if isinstance(each, Unknown):
            lines.append(f"backend {each.backend}: no prediction: {say_unknown(each)}")
        else:
            lines += _tell(each, shared)
    if shared:
        lines += ["", "not in any of these predictions:", *(f"  {say_limit(x)}" for x in shared)]
    return lines


def _assumptions(found: Sequence[Foreseen | Unknown], version: str | None) -> Iterator[str]:
    of = "the newest HAProxy (else: --proxy-version)" if version is None else f"HAProxy {version}"
    yield f"for {of}; times from when the old instance goes; medians over its timers' phases"
    yield (
        f"a move: the name is missing (NXDOMAIN) for {MOVE.published_s:g} s, then the new address "
        "answers well"
    )
    yield f"a lost node: packets to it vanish, and DNS lists it for {NODE_LOST.published_s:g} s"
    yield "no DNS: no nameserver answers, and nothing moves"
    backends = [b for each in found if isinstance(each, Foreseen) for b in each.backends]
    if any(line.slots > 1 for backend in backends for line in backend.servers):
        yield f"a name that fills a template has {SLOTS_USED} addresses"
    yield "failed: requests, as a time: 2.0 s are 100 at 50 requests/s"
    yield "unaffected: the share of trials in which no request fails"


def _shared(found: Sequence[Foreseen]) -> tuple[Limit, ...]:
    """What is left out of all of them, where there are several."""
    if len(found) < 2:  # noqa: PLR2004
        return ()
    first, *rest = found
    return tuple(x for x in first.limits if all(x in other.limits for other in rest))


def _tell(each: Foreseen, shared: Sequence[Limit]) -> Iterator[str]:
    names = [f"{b.name} ({b.file}:{b.line})" for b in each.backends]
    more = len(names) - _NAMES_MAX
    said = ", ".join(names[:_NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
    kind = "backends" if len(names) > 1 else "backend"
    if all(line.follows is Follows.FIXED for line in each.backends[0].servers):
        yield f"{kind} {said}: {say_fixed(each.limits)}"
        return
    yield f"{kind} {said}: {_servers(each)}"
    rows: list[tuple[str, ...]] = [_HEADINGS]
    for scenario, outlook in each.found:
        if isinstance(outlook, Unknown):
            yield f"  {_HAPPENS[scenario.happening]}: no prediction: {say_unknown(outlook)}"
        else:
            rows.append(_row(scenario, outlook))
    if rows[1:]:
        yield from _table(rows)
    yield from (f"  not in it: {say_limit(x)}" for x in each.limits if x not in shared)


def _servers(each: Foreseen) -> str:
    """Which servers there are, how they are found, and what that costs."""
    backend = each.backends[0]
    several = len(each.backends) > 1
    groups: dict[tuple[str, str], list[ServerLine]] = {}
    for line in backend.servers:
        groups.setdefault(_how(line), []).append(line)
    parts = []
    for (how, found), lines in groups.items():
        count = sum(line.slots for line in lines)
        where = "" if several else _at([line.host for line in lines])
        parts.append(f"{count} server{'s' if count > 1 else ''} {how}{where}{found}")
    if len(backend.servers) > 1:
        first = moves_at_first(backend)
        parts[-1] += f"; {first.name if first else 'none'} is the one that moves"
    costs = [x.queries_per_s for _, x in each.found if isinstance(x, Outlook)]
    asks = f"; {costs[0]:.1f} DNS queries/s" if costs and costs[0] else ""
    return ", ".join(parts) + asks + (" each" if several and asks else "")


def _at(hosts: Sequence[str | None]) -> str:
    names = list(dict.fromkeys(host for host in hosts if host is not None))
    more = len(names) - _NAMES_MAX
    said = ", ".join(names[:_NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
    return f" at {said}" if said else ""


def _how(line: ServerLine) -> tuple[str, str]:
    """What stands before and behind the name of how a server is found."""
    backup = " (backup)" if line.backup else ""
    resolver = line.resolver.name if line.resolver is not None else ""
    match line.follows:
        case Follows.FIXED:
            return "at a fixed address", backup
        case Follows.START:
            return "by name", f", looked up once, at start{backup}"
        case Follows.SERVICE:
            return "by SRV", f", resolvers {resolver}{backup}"
        case _:
            return "by name", f", resolvers {resolver}{backup}"


def _row(scenario: Scenario, outlook: Outlook) -> tuple[str, ...]:
    moves = scenario.happening is not Happening.DNS_TROUBLE
    slow = "-" if not outlook.slowest_s else _seconds(outlook.slowest_s)
    return (
        _HAPPENS[scenario.happening],
        _spread(outlook.recovery_s) if moves else "-",
        _failed(outlook),
        f"{outlook.unaffected:.0%}",
        slow,
        str(outlook.trials),
    )


def _failed(outlook: Outlook) -> str:
    if not outlook.failed_s.p95:
        return "none"
    if outlook.stable_s.never == 1:
        return "for ever"
    return _spread(outlook.failed_s)


def _spread(found: Spread) -> str:
    if math.isinf(found.p50):
        return _NEVER
    said = f"{_seconds(found.p50)} (p95 {_seconds(found.p95)})"
    return f"{said}, {found.never:.0%} {_NEVER}" if found.never else said


def _seconds(value: float) -> str:
    if math.isinf(value):
        return _NEVER
    if value >= 120:  # noqa: PLR2004
        return f"{value / 60:.0f} min"
    return f"{value:.1f} s"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
