"""Settings of checks, and no `check` on the server."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor import mending
from chaosd.doctor.finding import Confidence, Facts, Finding, Severity
from chaosd.doctor.rule import Rule
from chaosd.doctor.subject import Subject, of_server
from chaosd.doctor.words import quoted, servers_of, verb
from chaosd.proxies.haproxy.cfg.address import target
from chaosd.proxies.haproxy.cfg.effective import Proxy, Server
from chaosd.proxies.haproxy.cfg.resolve import CHECK_OPTIONS
from chaosd.proxies.haproxy.rewire.choose import is_followed

_OF_CHECKS = ("inter", "fastinter", "downinter", "rise", "fall", "on-marked-down", "observe")
_BESIDE = ("track", "agent-check")


_NO_PORT = "Where the line has no port, a check needs one: `check port NUMBER`."


def _may_be_checked(server: Server) -> bool:
    """Whether HAProxy takes a plain `check`: it does not start without a port to check."""
    there, port = target(server.address.text), server.values.get("port")
    if there.is_service or there.is_socket or (port is not None and port.is_said):
        return True
    return there.port not in ("", "0") and not there.port.startswith(("+", "-"))


class NoCheck(Rule):
    """One finding for each backend. Where nothing is said of checks, it is the model's affair."""

    id = "no-check"
    severity = Severity.WARNING
    title = "servers are never checked"
    sentence = (
        "{meant}no `check` on {servers} of backend `{backend}`: {never} DOWN, nothing asks DNS "
        "early, and requests at an address that is gone fail until the next poll"
    )

    def look(self, subject: Subject) -> Iterator[Finding]:
        for proxy in subject.backends:
            servers = [server for server in proxy.servers if _is_unchecked(server)]
            if servers:
                yield self._finding(proxy, servers)

    def _finding(self, proxy: Proxy, servers: list[Server]) -> Finding:
        meant, names = _meant(proxy, servers), [server.name for server in servers]
        facts: Facts = {
            "meant": f"{quoted(meant)}, but " if meant else "",
            "servers": servers_of(names),
            "never": verb(names, "it is never", "they are never"),
            "backend": proxy.name,
        }
        able = [server for server in servers if _may_be_checked(server)]
        edits = [mending.append(server.statement, "check") for server in able]
        advice = "" if len(able) == len(servers) else _NO_PORT
        return self.finding(
            of_server(servers[0]),
            facts,
            backends=[proxy.name],
            also=[server.place for server in servers],
            remedy=mending.remedy(*edits, advice=advice),
            beyond=bool(meant),
            confidence=Confidence.HIGH if meant else Confidence.MEDIUM,
            severity=Severity.WARNING if meant else Severity.INFO,
        )


def _is_unchecked(server: Server) -> bool:
    values = server.values
    return (
        is_followed(server)
        and not values["check"].value
        and not values["check"].is_said
        and not values["disabled"].value
        and not any(word in values and values[word].is_said for word in _BESIDE)
        and not server.unread
    )


def _meant(proxy: Proxy, servers: list[Server]) -> list[str]:
    """What the file says of checks that are not made."""
    found = [
        f"option {option}"
        for option in CHECK_OPTIONS
        if (value := proxy.values.get(f"option {option}")) is not None and value.value
    ]
    found += [
        word
        for word in _OF_CHECKS
        if any(word in server.values and server.values[word].is_said for server in servers)
    ]
    return found
