"""The keywords of a server line: how many words follow, what kind of value, HAProxy's default.

From `srv_kws` in HAProxy's src/server.c, src/check.c and src/ssl_sock.c, of 2.2 to 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from chaosd.proxies.haproxy.cfg.dialect import Version


class Kind(Enum):
    """What a keyword's value is."""

    FLAG = "flag"  # it stands there or not
    TIME = "time"  # whole milliseconds
    COUNT = "count"
    TEXT = "text"


class Keyword(NamedTuple):
    """A keyword of a server line."""

    kind: Kind
    turns: tuple[str, bool] | None = None  # a flag's own setting, and whether it turns it on


_FLAGS = (
    *("backup", "check", "agent-check", "ssl", "check-ssl", "send-proxy", "send-proxy-v2"),
    *("send-proxy-v2-ssl", "send-proxy-v2-ssl-cn", "check-send-proxy", "tfo", "tls-tickets"),
    *("ssl-reuse", "check-reuse-pool", "sni-auto", "check-sni-auto", "renegotiate"),
)
_FLAGS_WITHOUT_NO = (
    *("check-via-socks4", "allow-0rtt", "strict-maxconn"),
    *(f"force-{version}" for version in ("sslv3", "tlsv10", "tlsv11", "tlsv12", "tlsv13")),
    *(f"no-{version}" for version in ("sslv3", "tlsv10", "tlsv11", "tlsv12", "tlsv13")),
)
_TIMES = (
    *("inter", "fastinter", "downinter", "agent-inter", "slowstart", "pool-purge-delay"),
    *("tcp-ut", "idle-ping"),
)
_COUNTS = (
    *("rise", "fall", "weight", "maxconn", "minconn", "maxqueue", "error-limit", "id", "port"),
    *("agent-port", "pool-low-conn", "pool-max-conn", "max-reuse", "shard", "log-bufsize"),
)
_TEXTS = (
    *("addr", "agent-addr", "agent-send", "alpn", "ca-file", "check-alpn", "check-proto"),
    *("check-sni", "ciphers", "ciphersuites", "client-sigalgs", "cookie", "crl-file", "crt"),
    *("curves", "guid", "hash-key", "healthcheck", "init-addr", "init-state", "ktls"),
    *("log-proto", "namespace", "npn", "observe", "on-error", "on-marked-down"),
    *("on-marked-up", "pool-conn-name", "check-pool-conn-name", "proto", "proxy-v2-options"),
    *("redir", "resolve-net", "resolve-opts", "resolve-prefer", "resolvers"),
    *("set-proxy-v2-tlv-fmt", "sigalgs", "sni", "socks4", "source", "ssl-max-ver"),
    *("ssl-min-ver", "track", "usesrc", "interface", "verify", "verifyhost", "ws"),
)
# The words before the keywords: what the line is, the name, how many, the address.
HEADS = {"server": 3, "server-template": 4, "default-server": 1}
SERVER: dict[str, Keyword] = {
    **{name: Keyword(Kind.FLAG, (name, True)) for name in (*_FLAGS, *_FLAGS_WITHOUT_NO)},
    **{f"no-{name}": Keyword(Kind.FLAG, (name, False)) for name in _FLAGS},
    "disabled": Keyword(Kind.FLAG, ("disabled", True)),
    "enabled": Keyword(Kind.FLAG, ("disabled", False)),
    "non-stick": Keyword(Kind.FLAG, ("stick", False)),
    "stick": Keyword(Kind.FLAG, ("stick", True)),
    **{name: Keyword(Kind.TIME) for name in _TIMES},
    **{name: Keyword(Kind.COUNT) for name in _COUNTS},
    **{name: Keyword(Kind.TEXT) for name in _TEXTS},
}


def values_of(word: str) -> int:
    """How many words belong to this one on a server's line: they are no keywords themselves."""
    keyword = SERVER.get(word.partition("(")[0])
    return 0 if keyword is None or keyword.kind is Kind.FLAG else 1


def keywords_of(texts: Sequence[str]) -> list[str]:
    """The keywords of a server's line, without its head and what belongs to them."""
    return [texts[at] for at in places_of(texts)]


def places_of(texts: Sequence[str]) -> Iterator[int]:
    """Where the keywords of a server's line stand."""
    at = HEADS.get(texts[0], 1)
    while at < len(texts):
        yield at
        at += 1 + values_of(texts[at])


# What resolve-opts sets, as settings of their own.
RESOLVE_OPTIONS = {
    "allow-dup-ip": ("allow-dup-ip", True),
    "prevent-dup-ip": ("allow-dup-ip", False),
    "ignore-weight": ("ignore-weight", True),
}
# What a further `default-server` line resets where HAProxy has that fault.
RESET_BY_DEFAULT_SERVER = ("resolve-prefer", "allow-dup-ip")

Scalar = bool | int | str | None


def server_defaults(version: Version) -> dict[str, Scalar]:
    """HAProxy's own values of what a server line leaves out, times in ms. None: not set."""
    found: dict[str, Scalar] = {
        "check": False,
        "agent-check": False,
        "backup": False,
        "disabled": False,
        "inter": 2000,
        "fastinter": None,
        "downinter": None,
        "rise": 2,
        "fall": 3,
        "slowstart": 0,
        "weight": 1,
        "error-limit": 10,
        "on-error": "fail-check",
        "observe": "none",
        "on-marked-down": "none",
        "resolvers": None,
        "resolve-prefer": "ipv6",
        "allow-dup-ip": False,
        "ignore-weight": False,
        "init-addr": "last,libc",
        "agent-inter": 2000,
        "pool-purge-delay": 5000,
        "maxconn": 0,
    }
    if version >= (3, 1):
        found["init-state"] = "none" if version >= (3, 2, 20) else "up"
    return found


RESOLVERS_DEFAULTS: dict[str, Scalar] = {
    "timeout resolve": 1000,
    "timeout retry": 1000,
    "resolve_retries": 3,
    "accepted_payload_size": 512,
    "hold valid": 10_000,
    "hold obsolete": 0,
    "hold nx": 30_000,
    "hold refused": 30_000,
    "hold timeout": 30_000,
    "hold other": 30_000,
}


def proxy_defaults(version: Version) -> dict[str, Scalar]:
    """HAProxy's own values of what a proxy section leaves out, times in ms. None: not set."""
    return {
        "mode": "tcp",
        "retries": 3,
        "balance": "random" if version >= (3, 3) else "roundrobin",
        "http-reuse": "safe",
        "option redispatch": 0,
        "timeout connect": None,
        "timeout client": None,
        "timeout server": None,
        "timeout check": None,
        "timeout queue": None,
    }
