"""Long-lived connections, which a move does not close."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Ms, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import listed, quoted
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server, Value
from chaosd.proxies.haproxy.cfg.source import Place

_LONG_MS = 600_000
_BESIDE = ("track", "agent-check")  # servers that are DOWN by something else than their check
_WORDS = "on-marked-down shutdown-sessions"


class LongSessions(Rule):
    """One finding for each timeout by which connections may be silent for minutes."""

    id = "long-sessions"
    severity = Severity.WARNING
    confidence = Confidence.MEDIUM  # whether there are such sessions is not in the file
    title = "sessions at the old address last"
    sentence = (
        "{timeout} ({backends}): a session at an address that has gone lasts until it answers with "
        "a reset, or {long}. Nothing closes it when its server moves or is DOWN ({servers})"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        if subject.is_part:
            return
        homes: dict[Place, tuple[str, Value, list[Server]]] = {}
        for proxy, followers in subject.followers_by_backend():
            long = _timeout(proxy)
            servers = [
                server
                for server in followers
                if server.values["on-marked-down"].value != "shutdown-sessions"
                and not any(word in server.values and server.values[word].value for word in _BESIDE)
            ]
            if long is not None and servers:
                home = homes.setdefault(long[1].place or proxy.place, (*long, []))
                home[2].extend(servers)
        for name, value, servers in homes.values():
            yield self._finding(name, value, servers)

    def _finding(self, name: str, value: Value, servers: list[Server]) -> Finding:
        backends = list(dict.fromkeys(server.backend for server in servers))
        ms = Ms(int(value.value or 0))
        facts: Facts = {
            "timeout": f"`{name} {ms}`" if ms else f"no `{name}`",
            "long": "that long" if ms else "for ever",
            "backends": listed(backends),
            "servers": quoted([server.name for server in servers]),
        }
        checked = [server for server in servers if server.values["check"].value]
        edits = [mending.append(server.statement, _WORDS) for server in checked]
        what = "It" if edits else f"`{_WORDS}`"
        advice = f"{what} closes them when checks find it DOWN, not at a change of address."
        return self.finding(
            of_server(servers[0]),
            facts,
            backends=backends,
            also=[*filter(None, [value.place]), *(server.place for server in servers)],
            remedy=mending.remedy(
                *edits,
                advice=advice,
            ),
            beyond=True,
        )


def _timeout(proxy: Proxy) -> tuple[str, Value] | None:
    """What ends a session in which nothing is said, if that is late or never.

    Of a tunnel, or of plain TCP, where no `timeout server`, and one of 0, is no end at all.
    """
    tunnel = proxy.values.get("timeout tunnel")
    if tunnel is not None and isinstance(tunnel.value, int):
        return ("timeout tunnel", tunnel) if _is_long(tunnel) else None
    server = proxy.values["timeout server"]
    if proxy.values["mode"].value != "tcp" or server.unclear is not None:
        return None
    return ("timeout server", server) if _is_long(server) else None


def _is_long(value: Value) -> bool:
    return not value.value or int(value.value) >= _LONG_MS
