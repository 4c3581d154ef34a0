"""A server's address as a line has it, and how many servers the line makes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from chaosd.proxies.haproxy.cfg.effective import Server

_FAMILY = re.compile(r"^(?:(?:tcp|udp|quic|mptcp|rhttp)[46]?|ipv[46]|unix|abns|fd|sockpair)@")
_NUMBER = re.compile(r"\s*\+?([0-9]{1,9})")
_ELSEWHERE = ("unix@", "abns@", "abnsz@", "fd@", "sockpair@", "rhttp@", "rev@", "/")


@dataclass(frozen=True)
class Target:
    """An address as a server line has it: `tcp@host:port`, `[::1]:80`, `_http._tcp.name`."""

    family: str  # with its @, or nothing
    host: str
    port: str  # nothing where it has none

    @property
    def is_socket(self) -> bool:
        """Whether it is no host at all but a socket of the machine."""
        return f"{self.family}{self.host}".startswith(_ELSEWHERE)

    @property
    def is_name(self) -> bool:
        """Whether it is looked up."""
        if self.is_socket or not self.host or self.host == "*" or self.host.startswith("["):
            return False  # in brackets HAProxy takes an IPv6 address and nothing else
        try:
            ip_address(self.host)
        except ValueError:
            return True
        return False

    @property
    def is_service(self) -> bool:
        """Whether it is looked up as SRV, where the port comes from, too."""
        return self.host.startswith("_")


def target(text: str) -> Target:
    """Take an address apart. Nothing here is refused: HAProxy does that."""
    found = _FAMILY.match(text)
    family = found[0] if found else ""
    rest = text[len(family) :]
    if family.startswith(("unix", "abns", "fd", "sockpair")) or rest.startswith("/"):
        return Target(family, rest, "")
    if rest.startswith("[") and "]" in rest:
        host, _, port = rest.partition("]")
        return Target(family, f"{host}]", port.removeprefix(":"))
    host, colon, port = rest.rpartition(":")
    return Target(family, host, port) if colon else Target(family, rest, "")


def slots(server: Server) -> int:
    """How many servers a line makes; 0 where HAProxy refuses its number.

    A number is read up to what is no digit, as C's `atoi` does: "3", "1-3", and "0-2", too.
    """
    if server.count is None:
        return 1
    first, dash, last = server.count.partition("-")
    low, high = (
        (_leading_number(first), _leading_number(last)) if dash else (1, _leading_number(first))
    )
    return max(0, high - low + 1)


def _leading_number(text: str) -> int:
    found = _NUMBER.match(text)
    return int(found[1]) if found else 0
